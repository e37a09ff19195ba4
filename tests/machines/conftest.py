"""Four machines of the folder LATENCYLAB_MACHINES: up.sh boots them, `in` runs a command on their network.

With LATENCYLAB_IMAGES, a folder of `scripts/images.sh save FOLDER`, the pipeline's images are brought there as well.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGES = {
    "producer": ["producer"],
    "inference": ["producer", "inference-server"],
    "broker": ["producer", "kafka", "db-consumer", "inference-consumer"],
    "database": ["producer", "ferretdb"],
}
"""Role -> the images its machine needs; every machine runs a probe of the clocks, which is in the producer's."""


@dataclass
class Run:
    """A finished playbook: its output, exit code, seconds, and changes on each machine."""

    code: int
    output: str
    took_s: float

    @property
    def changed(self) -> dict[str, int]:
        recap = self.output.rpartition("PLAY RECAP")[2]
        return {host: int(n) for host, n in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", recap, re.MULTILINE)}


@dataclass
class Machines:
    """The four machines, booted."""

    folder: Path
    key: str
    known_hosts: str
    state: Path

    def playbook(self, name: str, **values: Any) -> Run:
        variables = {
            "ansible_ssh_private_key_file": self.key,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts}",
            "cluster_kubeconfig": str(self.state / "kubeconfig"),
            **values,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        arguments = ["-i", str(HERE / "inventory.yml"), "-e", f"@{HERE / 'vars.yml'}", "-e", json.dumps(variables)]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            # a connection kept from an earlier boot of the same addresses would hang
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.state / "ssh"),
        }
        command = [str(self.folder / "in"), program, name, *arguments]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT / "ansible", env=environment, text=True, capture_output=True)
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def shell(self, number: int, command: str, stdin: str = "") -> str:
        """What a command of root prints on machine `number`; a failure of the command fails the test."""
        words = [str(self.folder / "vm"), str(number), command]
        done = subprocess.run(words, input=stdin, text=True, capture_output=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    named = os.environ.get("LATENCYLAB_MACHINES")
    if not named:
        pytest.skip("NOT TESTED: no machines; LATENCYLAB_MACHINES must name a folder with up.sh, down.sh, in and vm")
    folder = Path(named)
    try:
        up = subprocess.run([str(folder / "up.sh")], text=True, capture_output=True)
        assert up.returncode == 0, f"the machines did not boot: {up.stdout}{up.stderr}"
        told = dict(re.findall(r"^([A-Z_]+)=(.*)$", up.stdout, re.MULTILINE))
        yield Machines(folder, told["KEY"], told["KNOWN_HOSTS"], tmp_path_factory.mktemp("state"))
    finally:
        subprocess.run([str(folder / "down.sh")], check=False)


@dataclass
class Site:
    """The machines, and how the whole of them is made: `site.yml`, or `cluster.yml` where there are no images."""

    machines: Machines
    playbook: str
    values: dict[str, Any]

    def make(self) -> Run:
        return self.machines.playbook(self.playbook, **self.values)


@pytest.fixture(scope="session")
def site(machines: Machines, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Site:
    """The machines after the first run on bare ones; how long that took is printed."""
    named = os.environ.get("LATENCYLAB_IMAGES")
    made = Site(machines, "cluster.yml", {})
    if named:
        folder = tmp_path_factory.mktemp("images")
        for name in {name for names in IMAGES.values() for name in names}:
            found = [*Path(named).glob(f"{name}.tar"), *Path(named).glob(f"*_{name}_*.tar")]
            assert found, f"LATENCYLAB_IMAGES: {named} holds no image {name}"
            (folder / f"{name}.tar").symlink_to(found[0])
        images = {"images_build_skip": True, "images_folder": str(folder), "images_of": IMAGES}
        made = Site(machines, "site.yml", images)
    run = made.make()
    assert run.code == 0, run.output
    assert all(run.changed[f"vm{number}"] > 10 for number in range(1, 5)), "the machines were bare"
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{made.playbook} on bare machines took {run.took_s:.0f} s")
    return made
