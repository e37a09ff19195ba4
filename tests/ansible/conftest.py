"""A fake cloud in a process of its own, a clouds.yaml for it, and the playbooks run against it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

ROOT = Path(__file__).parents[2]
PREFIX = "lab-test"


@dataclass
class Cloud:
    """The fake, as a test sees it."""

    url: str
    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        clouds = self.folder / "clouds.yaml"
        credential = {"application_credential_id": "fake-credential", "application_credential_secret": "fake-secret"}
        entry = {
            "auth_type": "v3applicationcredential",
            "auth": {"auth_url": f"{self.url}/identity/v3", **credential},
            "region_name": "Fake",
            "interface": "public",
            "identity_api_version": "3",
        }
        clouds.write_text(yaml.safe_dump({"clouds": {"fake": entry}}))
        (self.folder / "key.pub").write_text("ssh-ed25519 AAAA test\n")
        self.environment = {
            **os.environ,
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
        }

    @property
    def state_folder(self) -> Path:
        return self.folder / "state"

    def order(self, **orders: Any) -> None:
        """Set the fake's behaviour: faults, lease_status, polls."""
        requests.post(f"{self.url}/_orders", json=orders, timeout=10).raise_for_status()

    def state(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_state", timeout=10).json()

    def left(self) -> dict[str, list[str]]:
        """What a person would pay for; {} when the cloud is empty."""
        state = self.state()
        assert state["unknown"] == [], "the fake lacks what a client asked for"
        return state["left"]

    def playbook(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.playbook_command(name), *arguments]
        return subprocess.run(command, env=self.environment, cwd=ROOT / "ansible", capture_output=True, text=True)

    def playbook_command(self, name: str) -> list[str]:
        values = {
            "machines_from": "chameleon",
            "chameleon_cloud": "fake",
            "chameleon_prefix": PREFIX,
            "chameleon_state": str(self.state_folder),
            "chameleon_machines_caller": "198.51.100.7/32",
            "chameleon_machines_public_key": str(self.folder / "key.pub"),
            "chameleon_teardown_timeout_s": 20,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, name, "-e", yaml.safe_dump(values, default_flow_style=True, width=10_000)]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    program = [sys.executable, str(ROOT / "tests" / "ansible" / "fake_openstack")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            fake = Cloud(f"http://127.0.0.1:{int(process.stdout.readline())}", tmp_path)
            monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", fake.environment["OS_CLIENT_CONFIG_FILE"])
            yield fake
        finally:
            process.kill()
