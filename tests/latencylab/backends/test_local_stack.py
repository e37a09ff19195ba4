"""Whose a local stack is: one that somebody else ends is not taken over."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from latencylab import paths
from latencylab.backends.backend import BackendError
from latencylab.backends.local_stack import SERVER, LocalStack, StackState, end_stack
from latencylab.experiment import Experiment


@pytest.fixture
def other() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield psutil.Process(process.pid)
        process.kill()


def _identity(process: psutil.Process) -> tuple[int, float]:
    return process.pid, process.create_time()


def _left(**values) -> StackState:
    paths.stack().mkdir(parents=True, exist_ok=True)
    StackState(**values).save()
    state = StackState.load()
    assert state is not None
    return state


def test_a_stack_that_another_process_holds_is_refused_and_left_as_it_is(data_folder, other):
    _left(holder=_identity(other), processes={SERVER: _identity(other)})
    with pytest.raises(BackendError, match=f"process {other.pid} has a pipeline of this project"):
        LocalStack("none").up(Experiment(), lambda _: None)
    assert other.is_running()
    assert StackState.load() is not None


def test_a_holder_that_this_process_belongs_to_is_no_stranger(data_folder, other):
    parent = psutil.Process().parent()
    assert parent is not None
    state = _left(holder=_identity(parent), processes={SERVER: _identity(other)})
    assert state.stranger() is None
    assert state.up


def test_a_stack_whose_holder_has_ended_is_about_to_end(data_folder, other):
    state = _left(holder=(other.pid, other.create_time() - 60), processes={SERVER: _identity(other)})
    assert state.stranger() is None
    assert not state.up


def test_half_a_start_is_not_up(data_folder):
    assert not _left(holder=None, processes={}).up


def test_of_two_that_start_a_stack_one_gets_its_folder(data_folder: Path):
    first, second = LocalStack("none"), LocalStack("none")
    first._take_folder()
    with pytest.raises(BackendError, match="another process has a pipeline"):
        second._take_folder()
    assert [path.name for path in paths.stack().parent.iterdir()] == ["stack"]


def test_a_folder_without_a_state_is_removed(data_folder):
    (paths.stack() / "logs").mkdir(parents=True)
    assert end_stack() == []
    assert not paths.stack().exists()
