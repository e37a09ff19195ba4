"""What the panel offers, where its runs go, and what it says of them; its looks are tested in a browser."""

import threading
import time

import pytest

from latencylab import paths, tables
from latencylab.backends import backend as backends
from latencylab.experiment import Experiment, ExperimentError
from latencylab.panel import AS_GIVEN, RunPanel, next_request, offered
from latencylab.request import Request
from latencylab.runs import RunName
from latencylab.sweep import Sweep

LONG_S = 60.0  # never reached unless something is broken
DEFAULT = Sweep.load(paths.EXPERIMENTS / "default.yaml")
GIVEN = {"rate_hz": 5.0, "duration_s": 4.0}


@pytest.fixture
def wanted(data_folder):
    return Request(RunName("by-hand", "point", 1), Experiment.parse(GIVEN), 3)


@pytest.fixture
def panel(wanted, memory_backend, monkeypatch):
    monkeypatch.setattr(backends, "make_backend", lambda name: memory_backend())
    return RunPanel(wanted)


def test_the_points_are_those_of_the_sweep_files_for_the_same_backend():
    given = Experiment.parse(GIVEN)
    points = offered(given)
    assert points[AS_GIVEN] == given
    assert points["default: 8-cameras"] == DEFAULT.experiments()["8-cameras"]
    assert {experiment.backend for experiment in points.values()} == {"local"}
    assert "kubernetes: producers=2" in offered(Experiment.parse({"backend": "kubernetes"}))


def test_other_parameters_are_another_point_and_each_run_another_repetition(wanted):
    same = next_request(wanted, wanted.experiment)
    assert same == Request(RunName("by-hand", "point", 1), wanted.experiment, 3, wanted.root)
    same.name.folder(wanted.root).mkdir(parents=True)
    assert next_request(wanted, wanted.experiment).name.repetition == 2
    other = next_request(wanted, Experiment.parse({"producers": 2, "duration_s": 4.0}))
    assert other.name == RunName("by-hand", "producers=2,duration_s=4.0", 1)


def test_choosing_a_point_fills_the_fields(panel):
    panel.point.value = "default: 8-cameras"
    assert {name: field.value for name, field in panel.fields.items()} == {
        "producers": 8,
        "cameras_per_producer": 1,
        "rate_hz": 1.0,
        "duration_s": DEFAULT.experiments()["8-cameras"].duration_s,
    }


def test_the_result_is_the_run_that_was_begun_last(panel):
    first = panel.result()
    assert (first.point, first.info["repetition"], first.info["point_order"]) == ("point", 1, 3)
    assert panel.result() is first
    assert tables.verdict(first).splitlines()[-1] in panel.outcome.value
    assert (panel.begin.disabled, panel.end.disabled) == (False, True)
    panel.fields["producers"].value = 2
    panel.run()
    second = panel.result()
    assert second.experiment == first.experiment.model_copy(update={"producers": 2})


def test_what_cannot_be_run_is_said_and_nothing_is_begun(panel, data_folder):
    panel.fields["rate_hz"].value = panel.fields["duration_s"].value = 0.1
    with pytest.raises(ExperimentError):
        panel.result()
    assert "gives no frame" in panel.outcome.value
    assert not (data_folder / "runs").exists()


@pytest.fixture
def endless(memory_backend, monkeypatch):
    """A backend whose producers never end, for all panels."""
    loaded = threading.Event()

    class Endless(memory_backend):
        def release(self, lead_s):
            super().release(lead_s)
            return time.time_ns()

        def producers_left(self):
            loaded.set()
            return 1

    monkeypatch.setattr(backends, "make_backend", lambda name: Endless())
    return loaded


def test_a_stopped_run_is_no_result_and_another_can_be_begun(panel, endless, wanted):
    panel.run()
    assert endless.wait(LONG_S)
    panel.run()  # while one is going on, the button does nothing
    panel.stop()
    with pytest.raises(KeyboardInterrupt):
        panel.result()
    assert "nothing of the run was kept" in panel.outcome.value
    assert list(wanted.name.folder(wanted.root).parent.iterdir()) == []
    assert panel.begin.disabled is False
