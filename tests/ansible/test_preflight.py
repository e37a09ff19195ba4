"""An inventory that can't become the cluster is refused in one clear message."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_RELEASE = platform.freedesktop_os_release()
SYSTEM = f"{_RELEASE['NAME'].split()[0]} {_RELEASE['VERSION_ID']}"
ROLES = {"producer": "vm1", "inference": "vm2", "broker": "vm3", "database": "vm4", "control_plane": "vm1"}
PLAY = """
- hosts: producer:inference:broker:database
  any_errors_fatal: true
  roles:
    - role: preflight
"""


def refuse(folder: Path, playbook: str, children: dict, **values: object) -> str:
    """What the playbook says when it refuses; it must refuse."""
    inventory = folder / "inventory.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(yaml.safe_dump({"all": {"children": children, "vars": local}}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", str(inventory)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    variables = ["-e", yaml.safe_dump(values, default_flow_style=True, width=10_000)]
    done = subprocess.run([*command, *variables], cwd=ROOT / "ansible", env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "changed=0" in done.stdout
    return " ".join((done.stdout + done.stderr).split())


def groups(**changes: list[str]) -> dict:
    wanted = {role: [host] for role, host in ROLES.items()} | changes
    return {role: {"hosts": {host: {} for host in hosts}} for role, hosts in wanted.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"database": []}, "The inventory's group database has 0 machines; it must have exactly one."),
        ({"broker": ["vm3", "vm5"]}, "The inventory's group broker has 2 machines"),
        ({"broker": ["vm2"]}, "must hold different machines; they hold vm1, vm2, vm2, vm4."),
        ({"control_plane": ["vm9"]}, "The group control_plane holds vm9, which has no role of its own"),
    ],
)
def test_groups(tmp_path, changes, message):
    assert message in refuse(tmp_path, "cluster.yml", groups(**changes))


def test_flannel_needs_its_own_range(tmp_path):
    said = refuse(tmp_path, "cluster.yml", groups(), cluster_pod_cidr="10.9.0.0/16")
    assert "take flannel with 10.244.0.0/16" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preflight_systems": ["Plan9 4"]}, "supported are Plan9 4. Reinstall it"),
        ({"preflight_min_memory_mb": 10**9}, "MB of memory; 1000000000 MB are needed. Take a larger machine"),
        ({"node_address": "192.0.2.1"}, "Two machines have the same node_address (192.0.2.1, 192.0.2.1,"),
        # this machine is as far from itself as the offset is from an impossible limit
        ({"clock_max_offset_ms": -1}, "apart from vm1's; at most -1 ms are allowed. Set it (sudo chronyc makestep"),
        ({"clock_check_for_s": 0}, "could not compare its clock with vm1's: timesync: 127.0.1.1 answered 0 of 16"),
    ],
)
def test_machines(tmp_path, values, message):
    """With this machine's facts, under four names."""
    (tmp_path / "services").symlink_to(ROOT / "services")
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible" / "group_vars").symlink_to(ROOT / "ansible" / "group_vars")
    play = tmp_path / "ansible" / "play.yml"
    play.write_text(PLAY)
    children = groups()
    for number, role in enumerate(list(ROLES)[:4], start=1):
        children[role]["hosts"][ROLES[role]] = {"node_address": f"127.0.1.{number}"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    known = {"preflight_systems": [SYSTEM], "preflight_min_memory_mb": 1, "clock_port": port}
    assert message in refuse(tmp_path, str(play), children, **{**known, **values})
