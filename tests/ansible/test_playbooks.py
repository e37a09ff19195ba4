"""The Chameleon playbooks with the real openstack.cloud modules, against the fake cloud."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def changed(run) -> int:
    """The number after changed= in the recap of the only host, localhost."""
    recap = next(line for line in run.stdout.splitlines() if line.startswith("localhost "))
    return int(recap.split("changed=")[1].split()[0])


@pytest.mark.timeout(1800)
def test_from_nothing_to_four_servers_and_back(cloud):
    lease = cloud.playbook("lease.yml")
    assert lease.returncode == 0, lease.stdout
    assert "4 x m1.xlarge until" in lease.stdout
    machines = cloud.playbook("machines.yml")
    assert machines.returncode == 0, machines.stdout
    left = cloud.left()
    assert left["servers"] == ["lab-test-vm1", "lab-test-vm2", "lab-test-vm3", "lab-test-vm4"]
    assert len(left["floatingips"]) == 1
    inventory = yaml.safe_load((cloud.state_folder / "inventory.yml").read_text())["all"]["children"]
    assert list(inventory) == ["producer", "inference", "broker", "database", "control_plane"]
    assert inventory["producer"]["hosts"]["vm1"]["ansible_host"].startswith("203.0.113.")
    assert inventory["database"]["hosts"]["vm4"]["ansible_host"].startswith("10.64.0.")
    assert "ProxyCommand" in inventory["database"]["hosts"]["vm4"]["ansible_ssh_common_args"]

    rules = [r for g in cloud.state()["store"]["security_groups"].values() for r in g["security_group_rules"]]
    open_to = {(r["remote_ip_prefix"], r["port_range_min"]) for r in rules if r["direction"] == "ingress"}
    assert open_to == {("198.51.100.7/32", 22), ("10.64.0.0/24", None)}

    again = [cloud.playbook(name) for name in ("lease.yml", "machines.yml")]
    assert [(run.returncode, changed(run)) for run in again] == [(0, 0), (0, 0)], again[1].stdout

    listed = cloud.playbook("teardown.yml", "--check")
    assert listed.returncode == 0, listed.stdout
    assert "server lab-test-vm1" in listed.stdout
    assert cloud.left() == left, "--check removes nothing"

    teardown = cloud.playbook("teardown.yml")
    assert teardown.returncode == 0, teardown.stdout
    assert cloud.left() == {}
    assert list(cloud.state_folder.iterdir()) == []

    second = cloud.playbook("teardown.yml")
    assert (second.returncode, changed(second)) == (0, 0), second.stdout


def test_a_failing_wait_leaves_no_lease(cloud):
    cloud.order(lease_status="PENDING")
    run = cloud.playbook("lease.yml", "-e", "chameleon_lease_timeout_s=1")
    assert run.returncode != 0
    assert "still PENDING after 1 s" in run.stdout
    assert cloud.left() == {}


def test_a_lease_in_error_leaves_none(cloud):
    cloud.order(lease_status="ERROR")
    run = cloud.playbook("lease.yml")
    assert run.returncode != 0
    assert "is in ERROR" in run.stdout
    assert cloud.left() == {}


@pytest.mark.parametrize(
    ("request_line", "status", "message"),
    [
        ("POST /compute/v2.1/servers", 403, "Quota exceeded for instances"),
        ("POST /network/v2.0/ports", 409, "Quota exceeded for resources: port"),
        ("POST /network/v2.0/floatingips", 409, "No more IP addresses available"),
    ],
)
def test_a_failure_on_the_way_leaves_nothing(cloud, request_line, status, message):
    assert cloud.playbook("lease.yml").returncode == 0
    cloud.order(faults=[{"pattern": request_line, "status": status, "message": message, "times": 100}])
    run = cloud.playbook("machines.yml")
    assert run.returncode != 0
    assert message in run.stdout.replace("\n", " ")
    assert "Everything of lab-test has been removed" in run.stdout
    assert cloud.left() == {}


def test_teardown_fails_when_something_stays(cloud):
    assert cloud.playbook("lease.yml").returncode == 0
    cloud.order(faults=[{"pattern": "DELETE /reservation", "status": 500, "message": "broken", "times": 10**6}])
    run = cloud.playbook("teardown.yml", "-e", "chameleon_teardown_timeout_s=0")
    assert run.returncode != 0
    assert "lease lab-test-lease" in run.stdout
    cloud.order(faults=[])
    assert cloud.playbook("teardown.yml").returncode == 0
    assert cloud.left() == {}


def wait_for(condition, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def test_killed_between_create_and_wait(cloud):
    """SIGKILL leaves no time to tidy up: the next teardown does, from the name, and the id is on disk."""
    cloud.order(lease_status="PENDING")
    with subprocess.Popen(
        cloud.playbook_command("lease.yml"),
        env=cloud.environment,
        cwd=ROOT / "ansible",
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(lambda: cloud.state()["left"].get("leases"))
        os.killpg(process.pid, signal.SIGKILL)
    (lease,) = cloud.state()["store"]["leases"].values()
    wait_for(lambda: lease["id"] in (cloud.state_folder / "lease.json").read_text(), seconds=5)
    teardown = cloud.playbook("teardown.yml")
    assert teardown.returncode == 0, teardown.stdout
    assert cloud.left() == {}


def guarded(cloud, *options: str, command: list[str]) -> subprocess.Popen:
    arguments = ["--cloud", "fake", "--prefix", "lab-test", "--state", str(cloud.state_folder), "guarded", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "latencylab.chameleon", *arguments, "--", *command],
        env=cloud.environment,
        cwd=ROOT / "ansible",
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


LEASE = """
import pathlib, sys, time
from latencylab.chameleon.lease import LeaseDesk, LeaseRequest, connect
LeaseDesk(connect("fake"), pathlib.Path(sys.argv[1]), poll_s=0.1).ensure(LeaseRequest("lab-test-lease", "m1.large"))
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


def lease_then(cloud, sleep_s: float = 0, code: int = 0) -> list[str]:
    """A command that makes a lease, sleeps, and ends with `code`."""
    return [sys.executable, "-c", LEASE, str(cloud.state_folder), str(sleep_s), str(code)]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_guarded_process_that_is_ended_leaves_nothing(cloud, end):
    """Ctrl-C, a kernel shutdown, and what nothing can catch."""
    process = guarded(cloud, command=lease_then(cloud, sleep_s=600))
    try:
        wait_for(lambda: "ACTIVE" in [lease["status"] for lease in cloud.state()["store"].get("leases", {}).values()])
        os.killpg(process.pid, end)
        process.wait(60)
    finally:
        process.kill()
    wait_for(lambda: cloud.state()["left"] == {})


def test_a_guarded_failure_leaves_nothing_and_keeps_its_exit_code(cloud):
    process = guarded(cloud, "--keep", command=lease_then(cloud, code=7))
    assert process.wait(120) == 7
    assert "POST /reservation/v1/leases" in cloud.state()["journal"]
    assert cloud.left() == {}


def test_a_guarded_success_is_kept_on_request(cloud):
    process = guarded(cloud, "--keep", command=lease_then(cloud))
    assert process.wait(120) == 0
    assert cloud.left() == {"leases": ["lab-test-lease"]}


def test_a_guarded_success_is_taken_down_by_default(cloud):
    process = guarded(cloud, command=lease_then(cloud))
    assert process.wait(120) == 0
    assert cloud.left() == {}


def test_a_guard_that_can_not_watch_refuses_to_start(cloud):
    cloud.order(faults=[{"pattern": "GET /network/v2.0/networks", "status": 401, "message": "no", "times": 10**6}])
    process = guarded(cloud, command=["touch", str(cloud.folder / "ran")])
    assert process.wait(120) != 0
    assert not (cloud.folder / "ran").exists()
