"""Lint and syntax of everything in ansible/, with no rule skipped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / "ansible"
BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(path.name for path in ANSIBLE.glob("*.yml") if re.search("hosts:|import_playbook", path.read_text()))
PLAYBOOKS = [name for name in PLAYBOOKS if not name.startswith("inventory")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ANSIBLE, capture_output=True, text=True)


def test_the_playbooks_are_those_of_the_readme():
    wanted = ["cluster", "images", "lease", "machines", "reset", "site", "teardown", "verify"]
    assert [f"{name}.yml" for name in wanted] == PLAYBOOKS


@pytest.mark.timeout(1200)
def test_ansible_lint_production():
    result = run("ansible-lint", "--nocolor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Passed: 0 failure\(s\), 0 warning\(s\)", result.stderr), result.stderr


def test_no_rule_is_skipped():
    skips = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in ANSIBLE.rglob("*")
        if path.is_file() and path.suffix in {".yml", ".yaml", ".j2", ".cfg", ".ansible-lint"}
        for word in ("noqa", "skip_list", "warn_list", "yamllint disable")
        if word in path.read_text()
    ]
    assert skips == []


def test_yamllint():
    result = run("yamllint", "--strict", ".", str(ROOT / "tests" / "machines"))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_syntax(playbook):
    result = run("ansible-playbook", "--syntax-check", "-i", "inventory.example.yml", playbook)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_secret_is_committed():
    """Placeholders only, in the one file that has a place for a secret."""
    secrets = re.compile(r"(?i)(secret|password|private_key)\s*[:=]\s*(?!REPLACE_ME)[\"']?[A-Za-z0-9+/=_-]{12,}")
    listed = subprocess.run(["git", "ls-files", "ansible"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        assert not secrets.search((ROOT / name).read_text()), name
