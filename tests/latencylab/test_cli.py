import pytest
from click.testing import CliRunner

from latencylab import cli, execution, figures, paths, prerequisites
from latencylab.backends.backend import BackendError
from latencylab.prerequisites import Finding
from latencylab.runs import RunName


@pytest.fixture
def run(data_folder):
    """The command ``latencylab`` with arguments: its result."""
    return lambda *arguments: CliRunner().invoke(cli.main, list(arguments))


@pytest.fixture
def sweeps(monkeypatch, tmp_path):
    """Sweeps that would have been carried out: (design, new)."""
    done = []

    def run_sweep(design, root, *, new, echo):
        done.append((design, new))
        return execution.Outcome(tmp_path / "nothing")

    monkeypatch.setattr(execution, "run_sweep", run_sweep)
    return done


def lines_of(result):
    """What a user sees; a traceback would be an exception that is no exit."""
    assert isinstance(result.exception, SystemExit), result.exception
    return result.output.splitlines()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-p", "producers=0"), "Error: -p: point base: producers: Input should be greater than or equal to 1 (got 0)"),
        (("-p", "producer=1"), "Error: -p: point base: producer: no such parameter; known are: "),
        (("-p", "producers"), "Error: -p producers: write it as NAME=VALUE"),
        (("-p", "rate_hz=fast"), "Error: -p: point base: rate_hz: "),
        (("--name", "a/b"), "Error: -p: 'a/b' can't be a folder name"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(run, sweeps, arguments, told):
    result = run("run", *arguments)
    (line,) = lines_of(result)
    assert line.startswith(told)
    assert result.exit_code == 2
    assert sweeps == []


def test_a_bad_sweep_file_is_one_line_that_names_file_and_field(run, sweeps, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("repetitions: none\n")
    (line,) = lines_of(run("sweep", str(file)))
    assert line.startswith(f"Error: {file}: repetitions: ")


def test_a_sweep_file_that_is_not_there_is_named(run):
    result = run("sweep", "no-such.yaml")
    assert result.exit_code == 2
    assert "no-such.yaml" in result.output
    assert "does not exist" in result.output


def test_values_are_read_as_the_parameter_wants_them(run, sweeps):
    given = ("producers=4", "rate_hz=2.5", "journal=false", "acks=1", "weights=random")
    result = run("run", *(part for value in given for part in ("-p", value)))
    assert result.exit_code == 0, result.output
    ((design, new),) = sweeps
    (experiment,) = design.experiments().values()
    assert new is True
    assert (experiment.producers, experiment.rate_hz, experiment.journal) == (4, 2.5, False)
    assert (experiment.acks, experiment.weights) == ("1", "random")


def test_a_sweep_says_beforehand_what_it_will_take(run, sweeps, tmp_path):
    (tmp_path / "load.yaml").write_text("base: {duration_s: 53}\nfactors: {producers: [1, 2]}\nrepetitions: 3\n")
    result = run("sweep", str(tmp_path / "load.yaml"), "--new")
    assert result.output.splitlines()[0] == "6 runs of 2 points, about 6.0 min and the start of the pipeline"
    assert sweeps[0][1] is True


def test_a_sweep_with_failures_ends_with_their_reasons_and_a_status(run, monkeypatch, tmp_path):
    failed = {"load/base/1": "kafka ended"}
    monkeypatch.setattr(execution, "run_sweep", lambda *_, **__: execution.Outcome(tmp_path, failed=failed))
    result = run("run")
    assert result.exit_code == 1
    assert "FAILED load/base/1: kafka ended" in result.output


def finding(name, met=True, required=True):
    return Finding(name, met, "found it" if met else "not found", f"install {name}", required)


def doctor_of(monkeypatch, *found):
    monkeypatch.setattr(prerequisites, "findings", lambda group: list(found))


def test_doctor_is_content_when_all_is_there(run, monkeypatch):
    doctor_of(monkeypatch, finding("java"), finding("kubectl", met=False, required=False))
    result = run("doctor")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "ok      java     found it",
        "absent  kubectl  not found",
        "        -> install kubectl",
    ]


def test_doctor_says_what_to_install_and_fails(run, monkeypatch):
    doctor_of(monkeypatch, finding("python"), finding("java", met=False))
    result = run("doctor")
    assert result.exit_code == 1
    assert result.output.splitlines()[1:] == ["MISSING java     not found", "        -> install java"]


def test_doctor_for_one_part_only_speaks_of_what_is_missing(run, monkeypatch):
    doctor_of(monkeypatch, finding("java"), finding("maven", met=False))
    result = run("doctor", "--only", "kafka")
    assert result.output.splitlines() == ["MISSING maven    not found", "        -> install maven"]
    doctor_of(monkeypatch, finding("java"))
    assert run("doctor", "--only", "kafka").output == ""


def test_up_keeps_what_it_starts_and_down_ends_it(run, monkeypatch, memory_backend):
    made = []

    def make_backend(name, *, keep=False):
        made.append((name, keep, memory_backend()))
        return made[-1][2]

    monkeypatch.setattr(cli, "make_backend", make_backend)
    assert run("up", "-p", "batch_max=2").output == "up; end it with  latencylab down\n"
    name, keep, backend = made[0]
    assert (name, keep, backend.calls) == ("local", True, ["up"])
    assert run("down").output == "nothing was running\n"


def test_a_pipeline_that_does_not_come_up_is_a_message(run, monkeypatch, memory_backend):
    broken = memory_backend(fails_at={"up": BackendError("kafka is not ready after 60 s")})
    monkeypatch.setattr(cli, "make_backend", lambda name, *, keep: broken)
    assert lines_of(run("up")) == ["Error: kafka is not ready after 60 s"]


@pytest.mark.parametrize("command", ["up", "down"])
def test_an_unknown_backend_is_one_line(run, command):
    (line,) = lines_of(run(command, "--backend", "cloud"))
    assert line.startswith("Error: backend: ")


def test_figures_are_drawn_where_asked(run, make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {"cdf": figures.cdf})
    recorded = make_run(tmp_path, RunName("s", "p", 1), duration_s=2.0)
    result = run("figures", str(recorded.folder), "--output", str(tmp_path / "drawn"))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [paths.shown(tmp_path / "drawn" / f"cdf.{kind}") for kind in ("png", "svg")]


def test_a_folder_without_runs_is_one_line(run, tmp_path):
    (line,) = lines_of(run("figures", str(tmp_path)))
    assert line.startswith(f"Error: {tmp_path}: no complete run in it")


@pytest.mark.parametrize(
    ("file", "content"), [("run.json", b"{"), ("frames.parquet", b"PAR1"), ("frames.parquet", b"")]
)
def test_a_damaged_run_is_named_and_is_no_verdict(run, make_run, tmp_path, file, content):
    """Status 1 of ``compare`` says that B is worse."""
    good = make_run(tmp_path, RunName("s", "p", 1), duration_s=2.0).folder
    bad = make_run(tmp_path, RunName("s", "p", 2), duration_s=2.0).folder
    (bad / file).write_bytes(content)
    result = run("compare", str(good), str(bad))
    assert lines_of(result)[0].startswith(f"Error: {bad}/{file} is damaged: ")
    assert result.exit_code == 2
