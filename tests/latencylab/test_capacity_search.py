"""The capacity search with its run folders, against a pipeline in memory whose capacity is known."""

import ast
import shutil
from dataclasses import fields, replace
from pathlib import Path

import papermill
import pytest
from click.testing import CliRunner
from papermill.exceptions import PapermillExecutionError

from latencylab import capacity_report, cli, execution, paths
from latencylab.capacity import CapacityLogError, Objective, Plan
from latencylab.capacity_search import OPTIONS, RECORD, Design, judge, run_search
from latencylab.experiment import Experiment, ExperimentError
from latencylab.runs import Run, RunError, RunName, find_runs

PLAN = Plan(start_hz=2.0, min_hz=1.0, max_hz=16.0, resolution=0.2, repetitions=2)


def quiet(text):
    """Progress that nobody reads."""


def design(**changes):
    base = Experiment.parse({"producers": 2, "duration_s": 6.0} | changes)
    return Design("edge", base, Objective(), PLAN)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_run, memory_backend):
    """A run as the request wants it, slow or not; made once for all tests and then copied."""
    made: dict[tuple[str, bool], Path] = {}

    def place(request, root, *, slow):
        key = (f"{request.name.run_id} {request.experiment.fingerprint()}", slow)
        if key not in made:
            parameters = request.experiment.model_dump(exclude={"backend"}) | {"point_order": request.point_order}
            backend = memory_backend(latency_ms=900.0 if slow else 50.0)
            made[key] = make_run(tmp_path_factory.mktemp("recorded"), request.name, backend, **parameters).folder
        return Run(shutil.copytree(made[key], request.name.folder(root)))

    return place


class Pipeline:
    """Meets the objective up to `edge_hz`. Notes the runs that were made; the run of number `ends_at` raises."""

    def __init__(self, recorded, backend):
        self.edge_hz, self.made, self.backend = 5.0, [], backend
        self.ends_at, self.error = None, KeyboardInterrupt()
        self.kernels = 0
        self._recorded = recorded

    def start_kernel(self):
        self.kernels += 1
        return self

    def end(self):
        self.kernels -= 1

    def execute(self, request, root, kernel):
        assert kernel is self
        if len(self.made) == self.ends_at:
            raise self.error
        self.made.append((request.experiment.offered_hz, request.name.repetition))
        return self._recorded(request, root, slow=request.experiment.offered_hz > self.edge_hz)


@pytest.fixture
def pipeline(recorded, memory_backend, monkeypatch):
    made = Pipeline(recorded, memory_backend())
    monkeypatch.setattr(execution, "execute", made.execute)
    monkeypatch.setattr(execution, "make_backend", lambda name: made.backend)
    monkeypatch.setattr(execution, "start_kernel", made.start_kernel)
    return made


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def test_the_edge_is_found_with_a_run_folder_for_each_probe(pipeline, root):
    told: list[str] = []
    folder = run_search(design(), root, echo=told.append)
    found = capacity_report.read(folder).capacity
    assert found.rate_hz is not None
    assert found.high_hz is not None
    assert found.rate_hz <= 5.0 < found.high_hz
    assert found.high_hz - found.rate_hz <= 0.2 * found.high_hz
    assert len(find_runs(folder)) == len(pipeline.made) == len(found.outcomes) == len(told)
    assert pipeline.backend.calls == ["up"] * len(pipeline.made) + ["down"]
    assert "2 frames/s, repetition 1: met" in told
    assert pipeline.kernels == 0
    assert any(line.startswith("8 frames/s, repetition 1: NOT met: 48 of 48 frames") for line in told)


def test_only_rates_that_bound_the_answer_are_repeated(pipeline, root):
    found = capacity_report.read(run_search(design(), root, echo=quiet)).capacity
    runs = found.outcomes.groupby("rate_hz").size()
    assert (runs[[found.rate_hz, found.high_hz]] == 2).all()
    assert (runs[[2.0, 8.0]] == 1).all()


@pytest.mark.parametrize("killed_after", [0, 1, 4, 7])
def test_an_interrupted_search_goes_on_from_its_run_folders_and_ends_the_same(pipeline, root, tmp_path, killed_after):
    whole = capacity_report.read(run_search(design(), tmp_path / "whole" / "runs", echo=quiet)).capacity
    wanted, pipeline.made = pipeline.made, []
    assert len(wanted) > killed_after
    pipeline.ends_at = killed_after
    with pytest.raises(KeyboardInterrupt):
        run_search(design(), root, echo=quiet)
    assert pipeline.backend.calls[-1] == "down"
    (root / "edge" / RECORD).unlink()  # the run folders alone are enough
    pipeline.ends_at = None
    resumed = capacity_report.read(run_search(design(), root, echo=quiet)).capacity
    assert pipeline.made == wanted
    assert resumed.outcomes.equals(whole.outcomes)
    assert (resumed.rate_hz, resumed.high_hz) == (whole.rate_hz, whole.high_hz)


def test_a_complete_search_starts_nothing(pipeline, root):
    run_search(design(), root, echo=quiet)
    pipeline.backend.calls.clear()
    before = len(pipeline.made)
    run_search(design(), root, echo=quiet)
    assert pipeline.backend.calls == []
    assert len(pipeline.made) == before


def test_a_finer_search_and_another_objective_use_the_runs_that_are_there(pipeline, root):
    run_search(design(), root, echo=quiet)
    first = set(pipeline.made)
    run_search(replace(design(), plan=replace(PLAN, resolution=0.1)), root, echo=quiet)
    assert len(pipeline.made) == len(set(pipeline.made)) > len(first)
    strict = replace(design(), objective=Objective(limit_ns=1_000_000))
    before = len(pipeline.made)
    assert capacity_report.read(run_search(strict, root, echo=quiet)).capacity.rate_hz is None
    assert {rate for rate, _ in pipeline.made[before:]} <= {1.0, 2.0}


def test_runs_of_another_experiment_are_refused_or_left_alone_by_a_new_search(pipeline, root):
    run_search(design(), root, echo=quiet)
    before = len(pipeline.made)
    with pytest.raises(RunError, match="edge was begun with other batch_max"):
        run_search(design(batch_max=1), root, echo=quiet)
    assert len(pipeline.made) == before
    assert run_search(design(batch_max=1), root, new=True, echo=quiet).name == "edge-2"


def test_what_never_or_always_meets_the_objective_is_told(pipeline, root):
    pipeline.edge_hz = 0.0
    never = capacity_report.read(run_search(design(), root, echo=quiet))
    assert (never.capacity.rate_hz, never.capacity.high_hz) == (None, 1.0)
    assert capacity_report.answer_lines(never)[0] == "Capacity: none in [1, 16] frames/s."
    pipeline.edge_hz = 1e9
    always = capacity_report.read(run_search(design(), root, new=True, echo=quiet))
    assert (always.capacity.rate_hz, always.capacity.high_hz) == (16.0, None)
    assert capacity_report.answer_lines(always)[0] == "Capacity: 16 frames/s, interval [16, unknown) frames/s."
    assert any("max_hz 16" in line for line in capacity_report.answer_lines(always))


def test_a_probe_that_fails_ends_the_search_with_its_reason_and_the_next_one_goes_on(pipeline, root):
    pipeline.ends_at, pipeline.error = 2, PapermillExecutionError(1, 1, "", "BackendError", "kafka ended", [])
    with pytest.raises(RunError, match="edge/rate=8/1 failed: BackendError: kafka ended"):
        run_search(design(), root, echo=quiet)
    assert pipeline.backend.calls[-1] == "down"
    with pytest.raises(CapacityLogError, match="ends before 8 frames/s, repetition 1: finish the search"):
        capacity_report.read(root / "edge")
    pipeline.ends_at = None
    run_search(design(), root, echo=quiet)
    assert len(pipeline.made) == len(set(pipeline.made))


def test_a_lost_frame_and_an_invalid_run_do_not_meet_the_objective(make_run, memory_backend, tmp_path):
    good = make_run(tmp_path, RunName("s", "good", 1))
    assert judge(Objective(), good).meets
    assert "stand-in database: FerretDB on SQLite, not MongoDB" in judge(Objective(), good).caveats
    lossy = make_run(tmp_path, RunName("s", "lossy", 1), memory_backend(change=lambda left: left.not_labelled(3)))
    assert "1 frames lost" in judge(Objective(), lossy).reasons
    moved = make_run(tmp_path, RunName("s", "moved", 1), memory_backend(happened=["kafka restarted"]))
    assert judge(Objective(), moved).reasons == ("invalid run: kafka restarted",)
    assert not judge(Objective(), moved).meets


def sweep_file(folder: Path, text: str) -> Path:
    (folder / "load.yaml").write_text(text)
    return folder / "load.yaml"


OPTIONS_GIVEN = {
    "point": "",
    "name": "",
    "objective_ms": 250.0,
    "percentile": 99.9,
    **{option.name: getattr(PLAN, option.name) for option in fields(Plan)},
}


def test_a_design_comes_from_a_point_of_a_sweep_file(tmp_path):
    file = sweep_file(tmp_path, "base: {duration_s: 9}\npoints: [{name: a, producers: 4}, {name: b}]\n")
    found = Design.load(file, OPTIONS_GIVEN | {"point": "a"})
    assert (found.name, found.base.producers, found.plan) == ("load-a-capacity", 4, PLAN)
    assert found.objective == Objective(0.999, 250_000_000)
    assert found.request(6.0, 1).experiment.rate_hz == 1.5
    with pytest.raises(ExperimentError, match=r"load\.yaml: name one of its points: a, b \(got ''\)"):
        Design.load(file, OPTIONS_GIVEN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration_s": 1.0}, "min_hz 1 on 2 cameras is not possible: .* gives no frame"),
        ({"arrivals": "trace", "trace_file": "pyproject.toml"}, "a trace has"),
    ],
)
def test_experiments_that_cannot_have_the_rates_are_refused(changes, message):
    with pytest.raises(ExperimentError, match=message):
        design(**changes)


def test_command_and_notebook_ask_for_the_same_with_the_same_defaults():
    command = {option.name: option.default for option in cli.capacity.params}
    assert set(command) - {"experiment", "new"} == set(OPTIONS)
    declared = papermill.inspect_notebook(paths.NOTEBOOKS / "05_capacity.ipynb")
    assert {name: ast.literal_eval(declared[name]["default"]) for name in OPTIONS} == {o: command[o] for o in OPTIONS}
    assert {option.name: command[option.name] for option in fields(Plan)} == vars(Plan())


def test_the_command_searches_prints_the_answer_and_says_by_its_status_whether_there_is_one(
    pipeline, tmp_path, monkeypatch
):
    monkeypatch.setenv("LATENCYLAB_DATA", str(tmp_path))
    file = sweep_file(tmp_path, "base: {producers: 2, duration_s: 6}\n")
    arguments = ["capacity", str(file), "--start-hz", "2", "--min-hz", "1", "--max-hz", "16", "--resolution", "0.2"]
    result = CliRunner().invoke(cli.main, [*arguments, "--repetitions", "2"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("p99 within 500 ms, no frame lost, no growing backlog: at most about ")
    assert "Capacity: 5 frames/s, interval [5, 6] frames/s." in result.output
    pipeline.edge_hz = 0.0
    result = CliRunner().invoke(cli.main, [*arguments, "--new"])
    assert result.exit_code == 1
    assert "Capacity: none in [1, 16] frames/s." in result.output


def test_bad_options_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENCYLAB_DATA", str(tmp_path))
    file = sweep_file(tmp_path, "base: {duration_s: 6}\n")
    result = CliRunner().invoke(cli.main, ["capacity", str(file), "--max-hz", "0.5"])
    assert isinstance(result.exception, SystemExit)
    assert result.output.splitlines()[-1].startswith("Error: need 0 < min_hz <= start_hz <= max_hz")
    assert not (tmp_path / "runs").exists()
