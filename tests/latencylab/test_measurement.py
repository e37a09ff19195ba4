import json

import duckdb
import pytest

from latencylab.backends.backend import BackendError
from latencylab.experiment import Experiment
from latencylab.measurement import exclusive, measure
from latencylab.request import Request
from latencylab.runs import RunError, RunName

FOLDER = {"run.json", "frames.parquet", "producers.json", "broker.json", "consumers", "logs"}


@pytest.fixture
def request_of(data_folder):
    def make(**parameters):
        experiment = Experiment.parse({"rate_hz": 5.0, "duration_s": 4.0, **parameters})
        return Request(RunName("sweep", "point", 1), experiment)

    return make


def silent(text):
    """Progress that nobody watches."""


def test_a_measured_run_is_a_complete_folder(memory_backend, request_of, data_folder):
    backend = memory_backend()
    run = measure(request_of(), backend, silent)
    assert run.folder == data_folder / "runs" / "sweep" / "point" / "r1"
    assert {path.name for path in run.folder.iterdir()} == FOLDER | {"documents.parquet", "resources.parquet"}
    assert list(run.folder.parent.iterdir()) == [run.folder]
    assert backend.calls == ["prepare", "release", "producers_left", "lag", "finish"]


def test_a_run_says_what_was_measured_and_with_what(memory_backend, request_of):
    run = measure(request_of(seed=3), memory_backend(), silent)
    info = run.info
    assert (info["run_id"], info["seed"]) == ("sweep/point/1", 3001)
    assert run.experiment == request_of(seed=3).experiment
    assert info["fingerprint"] == run.experiment.fingerprint()
    assert info["counts"]["labelled"] == 20
    assert info["invalid_reasons"] == []
    assert info["running"]["server"]["weights"] == "random"
    assert info["caveats"] == ["stand-in database: FerretDB on SQLite, not MongoDB"]
    assert set(info["timing_s"]) == {"prepare", "load", "drain", "collect"}
    assert info["clients"]["consumers"].keys() == {"db-consumer-0", "inference-consumer-0"}
    assert info["clock"]["drift_ns"].keys() == {"db-consumer-0", "inference-consumer-0", "producer-0"}
    assert {"commit", "dirty"} == info["git"].keys()
    assert "python" in info["versions"]


def test_a_run_that_lost_frames_is_kept_and_says_so(memory_backend, request_of):
    backend = memory_backend(change=lambda leftovers: leftovers.not_labelled(3), happened=["mongodb was restarted"])
    run = measure(request_of(), backend, silent)
    assert not run.valid
    assert run.info["invalid_reasons"] == ["1 frames were not labelled, 0 not stored", "mongodb was restarted"]


def test_the_backlog_is_waited_for(memory_backend, request_of):
    backend = memory_backend(lags=[{"db-consumer": 0, "inference-consumer": 2}, {"inference-consumer": 0}])
    assert measure(request_of(), backend, silent).valid
    assert backend.calls.count("lag") == 2


def test_a_backlog_that_stays_makes_the_run_invalid(memory_backend, request_of):
    backend = memory_backend(lags=[{"inference-consumer": 1}] * 100)
    run = measure(request_of(drain_timeout_s=0.01), backend, silent)
    assert run.info["invalid_reasons"] == ["the pipeline had not worked off its backlog when drain_timeout_s was over"]


@pytest.mark.parametrize("stage", ["prepare", "release", "producers_left", "lag", "finish"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), BackendError("kafka ended")])
def test_an_interruption_at_any_stage_abandons_the_run_and_leaves_no_folder(
    memory_backend, request_of, data_folder, stage, error
):
    backend = memory_backend(fails_at={stage: error})
    with pytest.raises(type(error)):
        measure(request_of(), backend, silent)
    assert backend.calls[-2:] == [stage, "abandon"]
    assert list((data_folder / "runs" / "sweep" / "point").iterdir()) == []


def test_records_that_cannot_be_read_leave_no_folder_either(memory_backend, request_of, data_folder):
    def damage(leftovers):
        leftovers.storage[0]["stored_ns"] = "soon"

    with pytest.raises(duckdb.Error, match="db-consumer-0"):
        measure(request_of(), memory_backend(change=damage), silent)
    assert list((data_folder / "runs" / "sweep" / "point").iterdir()) == []


def test_a_run_that_is_there_is_not_measured_again(memory_backend, request_of):
    first = measure(request_of(), memory_backend(), silent)
    recorded = (first.folder / "run.json").read_text()
    again = memory_backend()
    with pytest.raises(RunError, match="there already"):
        measure(request_of(), again, silent)
    assert again.calls == []
    assert (first.folder / "run.json").read_text() == recorded


def test_one_measurement_at_a_time(memory_backend, request_of, data_folder):
    backend = memory_backend()
    with exclusive(), pytest.raises(BackendError, match="another measurement is going on"):
        measure(request_of(), backend, silent)
    assert backend.calls == []
    assert measure(request_of(), backend, silent).valid


def test_run_json_is_plain_json(memory_backend, request_of):
    run = measure(request_of(), memory_backend(), silent)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads((run.folder / "run.json").read_text(), parse_constant=refuse)
