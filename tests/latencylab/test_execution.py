import json
import shutil

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from latencylab import execution, notebooks
from latencylab.backends.backend import BackendError
from latencylab.experiment import Experiment
from latencylab.request import Request
from latencylab.runs import Run, RunError, RunName
from latencylab.sweep import Sweep


def quiet(text):
    """Progress that nobody reads."""


def design(**changes):
    return Sweep.parse({"name": "load", "base": {"duration_s": 1.0, "rate_hz": 2.0}, **changes})


@pytest.fixture
def backend(memory_backend, monkeypatch):
    made = memory_backend()
    monkeypatch.setattr(execution, "make_backend", lambda name: made)
    return made


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_run):
    """One complete run, copied into the place of every run that is "executed"."""
    return make_run(tmp_path_factory.mktemp("recorded"), RunName("load", "base", 1), rate_hz=2.0, duration_s=1.0)


class Kernels:
    """Counts kernels instead of starting them."""

    def __init__(self):
        self.started = self.ended = 0

    def start(self):
        self.started += 1
        return self

    def end(self):
        self.ended += 1


@pytest.fixture
def executed(backend, recorded, monkeypatch):
    """Runs carried out, in order; a run whose point is a key of ``fails`` ends with its error."""

    class Executed(list[str]):
        def __init__(self):
            super().__init__()
            self.fails: dict[str, BaseException] = {}
            self.kernels = Kernels()

    done = Executed()

    def execute(request, root, kernel):
        done.append(request.name.run_id)
        if request.name.point in done.fails:
            raise done.fails[request.name.point]
        shutil.copytree(recorded.folder, request.name.folder(root))
        return recorded

    monkeypatch.setattr(execution, "execute", execute)
    monkeypatch.setattr(execution, "start_kernel", done.kernels.start)
    return done


def test_a_sweep_is_carried_out_in_its_order_on_one_backend(executed, backend, tmp_path):
    sweep = design(factors={"producers": [1, 2]}, repetitions=2)
    outcome = execution.run_sweep(sweep, tmp_path, echo=quiet)
    assert executed == [request.name.run_id for request in sweep.requests()]
    assert (outcome.done, outcome.skipped, outcome.failed) == (4, 0, {})
    runs = [Run.load(request.name.folder(tmp_path)) for request in sweep.requests()]
    under_load_s = sum(run.experiment.duration_s + run.info["timing_s"]["drain"] for run in runs)
    assert outcome.load_s == pytest.approx(under_load_s)
    assert backend.calls == ["up"] * 4 + ["down"]
    assert (executed.kernels.started, executed.kernels.ended) == (1, 1)
    assert execution.design_of(tmp_path / "load") == sweep


def test_complete_runs_are_skipped_and_missing_ones_made_up_for(executed, backend, tmp_path):
    sweep = design(factors={"producers": [1, 2, 3]})
    execution.run_sweep(sweep, tmp_path, echo=quiet)
    shutil.rmtree(tmp_path / "load" / "producers=2")
    executed.clear()
    told: list[str] = []
    outcome = execution.run_sweep(sweep, tmp_path, echo=told.append)
    assert executed == ["load/producers=2/1"]
    assert (outcome.done, outcome.skipped) == (1, 2)
    assert told == ["2 of 3 runs are complete already"]


def test_a_complete_sweep_starts_nothing(executed, backend, tmp_path):
    execution.run_sweep(design(), tmp_path, echo=quiet)
    backend.calls.clear()
    assert execution.run_sweep(design(), tmp_path, echo=quiet).skipped == 1
    assert backend.calls == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendError("kafka ended with status 1"), "kafka ended with status 1"),
        (RunError("there already"), "there already"),
        (PapermillExecutionError(1, 1, "", "ValueError", "no such file", []), "ValueError: no such file"),
    ],
)
def test_a_point_that_fails_does_not_end_the_sweep(executed, backend, tmp_path, error, reason):
    executed.fails = {"producers=2": error}
    sweep = design(factors={"producers": [1, 2, 3]})
    outcome = execution.run_sweep(sweep, tmp_path, echo=quiet)
    assert len(executed) == 3
    assert (outcome.done, outcome.failed) == (2, {"load/producers=2/1": reason})
    assert backend.calls[-1] == "down"
    executed.fails = {}
    assert execution.run_sweep(sweep, tmp_path, echo=quiet).done == 1


def test_an_interrupted_sweep_takes_the_pipeline_down(executed, backend, tmp_path):
    executed.fails = {"base": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        execution.run_sweep(design(), tmp_path, echo=quiet)
    assert backend.calls == ["up", "down"]
    assert executed.kernels.ended == 1


def test_a_kernel_that_does_not_start_takes_the_pipeline_down(executed, backend, tmp_path, monkeypatch):
    def start():
        raise RuntimeError("no kernel")

    monkeypatch.setattr(execution, "start_kernel", start)
    with pytest.raises(RuntimeError, match="no kernel"):
        execution.run_sweep(design(), tmp_path, echo=quiet)
    assert backend.calls == ["up", "down"]


def test_other_parameters_under_the_same_name_are_refused(executed, tmp_path):
    execution.run_sweep(design(), tmp_path, echo=quiet)
    with pytest.raises(RunError, match="load was begun with other repetitions"):
        execution.run_sweep(design(repetitions=2), tmp_path, echo=quiet)
    assert len(executed) == 1


def test_a_new_sweep_gets_a_name_of_its_own(executed, tmp_path):
    names = [execution.run_sweep(design(), tmp_path, new=True, echo=quiet).folder.name for _ in range(3)]
    assert names == ["load", "load-2", "load-3"]
    assert executed == ["load/base/1", "load-2/base/1", "load-3/base/1"]


def test_what_an_earlier_sweep_left_half_done_is_removed(executed, tmp_path):
    (tmp_path / "load" / ".staging" / "rest").mkdir(parents=True)
    execution.run_sweep(design(), tmp_path, echo=quiet)
    assert not (tmp_path / "load" / ".staging").exists()


@pytest.fixture
def papermilled(recorded, monkeypatch):
    """papermill without a kernel: notes the parameters and leaves what the notebook would."""
    handed = {}

    def execute_notebook(source, output, parameters, **options):
        handed.update(parameters)
        nbformat.write(nbformat.v4.new_notebook(), output)
        if parameters["weights"] == "random":
            raise PapermillExecutionError(1, 1, "", "BackendError", "kafka ended", [])
        name = RunName(parameters["sweep"], parameters["point"], parameters["repetition"])
        shutil.copytree(recorded.folder, name.folder(output.parent))

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    return handed


def test_folder_and_notebook_come_into_place_together(papermilled, tmp_path):
    request = Request(RunName("load", "base", 1), Experiment.parse({"producers": 2}), 4, tmp_path)
    run = execution.execute(request, tmp_path)
    assert run.folder == tmp_path / "load" / "base" / "r1"
    assert (run.folder / "notebook.ipynb").exists()
    assert (papermilled["producers"], papermilled["point_order"], papermilled["root"]) == (
        2,
        4,
        str(tmp_path / "load" / ".staging"),
    )


def test_the_notebook_of_a_failed_run_is_kept_apart(papermilled, tmp_path):
    request = Request(RunName("load", "base", 1), Experiment.parse({"weights": "random"}), 0, tmp_path)
    with pytest.raises(PapermillExecutionError):
        execution.execute(request, tmp_path)
    assert not (tmp_path / "load" / "base").exists()
    assert [path.name for path in (tmp_path / "load" / ".failed").iterdir()] == ["base-r1.ipynb"]


def test_the_notebook_takes_every_parameter_that_a_run_hands_it(papermilled, tmp_path):
    execution.execute(Request(RunName("load", "base", 1), Experiment(), 0, tmp_path), tmp_path)
    assert set(papermilled) == set(notebooks.parameters_of(execution.RUN_POINT))


def test_one_line_says_how_a_run_went(recorded, tmp_path):
    assert execution.line_of(recorded) == "load/base/1: 2/2 labelled, p50 too few frames, valid"
    shutil.copytree(recorded.folder, tmp_path / "r1")
    info = recorded.info | {"invalid_reasons": ["saturated", "late"]}
    (tmp_path / "r1" / "run.json").write_text(json.dumps(info))
    assert execution.line_of(execution.Run.load(tmp_path / "r1")).endswith("INVALID: saturated; late")


def test_a_folder_that_is_no_sweep_is_named(tmp_path):
    with pytest.raises(RunError, match=r"is no sweep: sweep\.json is missing"):
        execution.design_of(tmp_path)
