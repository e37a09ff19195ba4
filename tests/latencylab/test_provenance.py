import platform
import subprocess
from importlib import metadata

import pytest

from latencylab import paths, provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, in the place of the project."""

    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return git


def test_a_clean_tree_is_its_commit(repository):
    assert provenance.git_state() == {"commit": repository("rev-parse", "HEAD"), "dirty": False}


def test_a_changed_tree_says_so_and_new_files_do_not_count(repository, tmp_path):
    (tmp_path / "new").write_text("not part of the code")
    assert provenance.git_state()["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert provenance.git_state()["dirty"] is True


def test_outside_a_repository_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_without_git_nothing_is_known(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_the_versions_are_those_installed():
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    assert found["kafka-python"] == metadata.version("kafka-python")
    assert {"latencylab", "pymongo", "flask", "numpy", "duckdb"} <= found.keys()


def test_a_library_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "_LIBRARIES", ("numpy", "no-such-library-at-all"))
    assert set(provenance.versions()) == {"python", "latencylab", "numpy"}
