"""Four machines of the folder LATENCYLAB_MACHINES: up.sh boots them, `in` runs a command on their network."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@dataclass
class Run:
    """A finished playbook: its output, exit code, and changes on each machine."""

    code: int
    output: str

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
        done = subprocess.run(command, cwd=ROOT / "ansible", env=environment, text=True, capture_output=True)
        return Run(done.returncode, done.stdout + done.stderr)

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
