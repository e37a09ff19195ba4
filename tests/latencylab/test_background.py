"""A run in a thread of its own ends whole, with a reason, or interrupted and without a trace."""

import threading
import time

import pytest

from latencylab.backends import backend as backends
from latencylab.backends.backend import BackendError
from latencylab.background import BackgroundRun
from latencylab.experiment import Experiment
from latencylab.request import Request
from latencylab.runs import RunName

LONG_S = 60.0  # never reached unless something is broken


@pytest.fixture
def begin(data_folder, monkeypatch):
    """Begin a run on this backend."""

    def make(backend):
        monkeypatch.setattr(backends, "make_backend", lambda name: backend)
        return BackgroundRun(Request(RunName("s", "p", 1), Experiment.parse({"rate_hz": 5.0, "duration_s": 4.0})))

    return make


@pytest.fixture
def endless(memory_backend):
    """A backend whose producers never end; `loaded` is set when they are first asked for."""

    class Endless(memory_backend):
        loaded = threading.Event()

        def release(self, lead_s):
            super().release(lead_s)
            return time.time_ns()

        def producers_left(self):
            self.loaded.set()
            return 1

    return Endless()


def test_it_leaves_the_run(begin, memory_backend, data_folder):
    backend = memory_backend()
    running = begin(backend)
    running.start()
    running.join(LONG_S)
    assert running.measured.folder == data_folder / "runs" / "s" / "p" / "r1"
    assert running.failure is None
    assert (backend.calls[0], backend.calls[-1]) == ("up", "down")


def test_it_says_why_there_is_no_run(begin, memory_backend):
    backend = memory_backend(fails_at={"prepare": BackendError("kafka ended")})
    running = begin(backend)
    running.start()
    running.join(LONG_S)
    assert running.measured is None
    assert str(running.failure) == "kafka ended"
    assert backend.calls[-2:] == ["abandon", "down"]


def test_an_interruption_ends_it_and_leaves_no_folder(begin, endless, data_folder):
    running = begin(endless)
    running.start()
    assert endless.loaded.wait(LONG_S)
    running.interrupt()
    running.interrupt()  # the second does not disturb the stopping
    running.join(LONG_S)
    assert not running.is_alive()
    assert isinstance(running.failure, KeyboardInterrupt)
    assert endless.calls[-2:] == ["abandon", "down"]
    assert list((data_folder / "runs" / "s" / "p").iterdir()) == []


def test_one_that_comes_before_the_beginning_is_not_lost(begin, memory_backend):
    backend = memory_backend()
    running = begin(backend)
    running.interrupt()
    running.start()
    running.join(LONG_S)
    assert isinstance(running.failure, KeyboardInterrupt)
    assert backend.calls == []


def test_one_that_comes_too_late_changes_nothing(begin, memory_backend):
    class Waiting(memory_backend):
        def down(self):
            super().down()
            running.interrupt()
            time.sleep(0)
            self.calls.append("down, all of it")

    backend = Waiting()
    running = begin(backend)
    running.start()
    running.join(LONG_S)
    assert running.measured is not None
    assert running.failure is None
    assert backend.calls[-1] == "down, all of it"


def test_the_load_is_told_in_words(begin, endless):
    running = begin(endless)
    told = []
    running._tell = told.append
    running.start()
    while not any(line.startswith("load, 5 frames/s:") for line in told):
        time.sleep(0.01)
        assert running.is_alive()
    running.interrupt()
    running.join(LONG_S)
