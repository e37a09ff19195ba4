"""The conda environment and the lock have what the project says that it needs."""

import re
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from latencylab import paths

CONDA_NAMES = {"kubernetes": "python-kubernetes", "tensorflow-cpu": "tensorflow"}


def wanted() -> list[Requirement]:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def offered() -> Iterator[Requirement]:
    """What environment.yml brings, from conda and from pip."""
    for entry in yaml.safe_load((paths.ROOT / "environment.yml").read_text())["dependencies"]:
        for text in entry["pip"] if isinstance(entry, dict) else [entry]:
            yield Requirement(text.replace(" ", ""))


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_conda_brings_each_library_no_older_than_the_project_takes(requirement):
    known = {canonicalize_name(one.name): one.specifier for one in offered()}
    name = CONDA_NAMES.get(requirement.name, canonicalize_name(requirement.name))
    assert known[name] == requirement.specifier


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_the_lock_has_a_version_that_the_project_and_conda_take(requirement):
    lock = (paths.ROOT / "requirements.lock").read_text()
    versions = re.findall(rf"^{re.escape(requirement.name)}==([^ ]+)", lock.lower(), re.MULTILINE)
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)
