import shutil

import pytest

from latencylab import paths, prerequisites
from latencylab.prerequisites import findings


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with nothing on it but the commands that a test puts there: ``machine(java="its first line")``."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sh").symlink_to(shutil.which("sh"))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("MONGODB_URI", raising=False)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")

    def install(**commands):
        for name, line in commands.items():
            tool = tools / name
            tool.write_text(f"#!{tools}/sh\necho '{line}'\n")
            tool.chmod(0o755)

    return install


def by_name(group="all"):
    return {finding.name: finding for finding in findings(group)}


def test_a_bare_machine_is_told_what_to_install_and_how(machine):
    found = by_name()
    assert [name for name, finding in found.items() if not finding.met] == ["java", "maven", "mongodb", "kubectl"]
    assert found["python"].met
    for name, word in {"java": "openjdk", "maven": "maven", "mongodb": "MONGODB_URI", "kubectl": "kubernetes"}.items():
        assert word in found[name].remedy
    assert [name for name, finding in found.items() if not finding.required] == ["kubectl"]


@pytest.mark.parametrize(
    ("line", "met"),
    [
        ('openjdk version "17.0.9" 2023-10-17', True),
        ('openjdk version "21" 2023-09-19', True),
        ('openjdk version "11.0.2" 2019-01-15', False),
        ('java version "1.8.0_292"', False),
        ("not a version", False),
    ],
)
def test_java_must_be_17_or_later(machine, line, met):
    machine(java=line)
    finding = by_name()["java"]
    assert (finding.met, finding.found) == (met, line)


def test_colours_in_what_a_tool_prints_are_left_out(machine):
    machine(mvn="\033[1mApache Maven 3.9.6\033[m")
    assert by_name()["maven"].found == "Apache Maven 3.9.6"


def test_maven_is_not_needed_once_its_work_is_done(machine):
    libraries = paths.BUILD / "kafka" / "libs"
    libraries.mkdir(parents=True)
    (libraries / "kafka_2.13-4.1.1.jar").touch()
    assert by_name()["maven"].met


def test_any_of_three_gives_a_database(machine, monkeypatch):
    machine(go="go version go1.24 linux/amd64")
    assert by_name()["mongodb"].found == "no mongod; FerretDB stands in, built by go version go1.24 linux/amd64"
    machine(mongod="db version v7.0.5")
    assert by_name()["mongodb"].found == "mongod: db version v7.0.5"
    monkeypatch.setenv("MONGODB_URI", "mongodb://elsewhere")
    assert by_name()["mongodb"].found == "MONGODB_URI is set"


def test_a_built_stand_in_needs_no_go(machine):
    paths.BUILD.mkdir()
    (paths.BUILD / "ferretdb").touch()
    assert by_name()["mongodb"].met


def test_a_group_looks_at_its_own_only(machine):
    assert set(by_name("kafka")) == {"java", "maven"}
    assert set(by_name("mongodb")) == {"mongodb"}


@pytest.mark.parametrize(
    ("version", "met"), [((3, 10, 0), False), ((3, 11, 0), True), ((3, 12, 9), True), ((3, 13, 0), False)]
)
def test_only_the_pythons_that_the_lock_is_made_for_are_met(monkeypatch, version, met):
    monkeypatch.setattr(prerequisites.sys, "version_info", version)
    assert by_name()["python"].met is met
