from dataclasses import asdict, replace

import pytest

from latencylab import capacity_report
from latencylab.capacity import CapacityLog, CapacityLogError, Objective, Outcome, Plan, search
from latencylab.capacity_search import RECORD, Design
from latencylab.experiment import Experiment
from latencylab.runs import RunError, RunName

DESIGN = Design("edge", Experiment(duration_s=30.0), Objective(), Plan(max_hz=64.0, resolution=0.3, repetitions=2))


def probe(rate_hz, repetition):
    """Meets the objective up to 5 frames/s; far above all frames are lost."""
    met = rate_hz <= 5
    measured = {"latency_ns": 1e8 if met else 9e8 if rate_hz < 8 else None, "achieved_hz": min(rate_hz, 5.0)}
    return Outcome(met, () if met else ("backlog growing",), measured, ("random weights.",))


@pytest.fixture
def folder(tmp_path):
    search(probe, DESIGN.plan, CapacityLog(DESIGN.plan, tmp_path / RECORD, DESIGN.conditions()))
    return tmp_path


def test_a_record_alone_gives_the_answer(folder):
    found = capacity_report.read(folder)
    assert found.objective == DESIGN.objective
    assert found.duration_s == 30.0
    assert found.caveats == ("random weights.",)
    direct = search(probe, DESIGN.plan)
    assert (found.capacity.rate_hz, found.capacity.high_hz) == (direct.rate_hz, direct.high_hz)
    assert found.capacity.outcomes.equals(direct.outcomes)


def test_the_answer_comes_with_interval_resolution_confidence_and_caveats(folder):
    answer, objective, interval, caveat = capacity_report.answer_lines(capacity_report.read(folder))
    assert answer == "Capacity: 5 frames/s, interval [5, 6] frames/s."
    assert "p99 within 500 ms, no frame lost, no growing backlog, for at least 30 s" in objective
    assert "to 30%" in interval
    assert "all of 2 runs" in interval
    assert "confidence of 50%" in interval
    assert caveat == "Caveat: random weights."


def test_the_table_has_a_row_per_rate_and_the_percentile_of_each_run(folder):
    table = capacity_report.probe_table(capacity_report.read(folder)).set_index("frames/s")
    assert list(table.index) == ["1", "2", "4", "5", "6", "8"]
    assert table.loc["5", ["runs", "met", "p99 ms", "achieved/s", "first reason"]].tolist() == [
        2,
        2,
        "100, 100",
        "5.00",
        "",
    ]
    assert table.loc["6", ["runs", "met", "p99 ms"]].tolist() == [2, 0, "900, 900"]
    assert table.loc["8", ["runs", "p99 ms", "first reason"]].tolist() == [1, "–", "backlog growing"]


def test_the_figure_shows_every_probe_the_limit_and_the_interval(folder):
    found = capacity_report.read(folder)
    drawn = capacity_report.probe_figure(found)
    assert len(drawn.data) == len(found.capacity.outcomes)
    assert drawn.data["meets"].sum() == found.capacity.outcomes["meets"].sum()
    labels = [text.get_text() for text in drawn.figure.axes[0].get_legend().get_texts()]
    assert labels == ["met", "not met", "limit, 500 ms", "interval of the capacity"]
    assert "Capacity: 5 frames/s" in drawn.alt
    assert "random weights" in drawn.figure.get_supxlabel()


def test_without_an_upper_end_no_interval_is_drawn(tmp_path):
    plan = replace(DESIGN.plan, max_hz=4.0)
    search(probe, plan, CapacityLog(plan, tmp_path / RECORD, DESIGN.conditions()))
    found = capacity_report.read(tmp_path)
    labels = [text.get_text() for text in capacity_report.probe_figure(found).figure.axes[0].get_legend().get_texts()]
    assert "interval of the capacity" not in labels
    assert "unknown" in capacity_report.answer_lines(found)[0]


def test_a_search_that_has_not_ended_or_is_not_there_is_told(folder, tmp_path):
    lines = (folder / RECORD).read_text().splitlines(keepends=True)
    (folder / RECORD).write_text("".join(lines[:4]))
    with pytest.raises(CapacityLogError, match="ends before 8 frames/s, repetition 1: finish the search"):
        capacity_report.read(folder)
    with pytest.raises(CapacityLogError, match="no capacity search was recorded here"):
        capacity_report.read(tmp_path / "nowhere")


def test_the_runs_of_a_sweep_are_searched_as_finely_as_their_rates_are(make_run, memory_backend, tmp_path):
    for rate_hz, latency_ms in [(2.0, 50.0), (4.0, 50.0), (8.0, 900.0)]:
        for repetition in (1, 2):
            name = RunName("sweep", f"rate={rate_hz:g}", repetition)
            make_run(tmp_path, name, memory_backend(latency_ms=latency_ms), rate_hz=rate_hz, duration_s=6.0)
    found = capacity_report.read_sweep(tmp_path / "runs", Objective())
    assert (found.capacity.rate_hz, found.capacity.high_hz) == (4.0, 8.0)
    assert (found.capacity.plan.repetitions, found.duration_s) == (2, 6.0)
    assert capacity_report.read_sweep(tmp_path / "runs", Objective.of(50, 1)).capacity.rate_hz is None
    with pytest.raises(RunError, match="one rate only"):
        capacity_report.read_sweep(tmp_path / "runs" / "sweep" / "rate=2", Objective())
    make_run(tmp_path, RunName("sweep", "rate=5", 1), memory_backend(latency_ms=900.0), rate_hz=5.0, duration_s=6.0)
    (tmp_path / "runs" / "sweep" / "rate=8").rename(tmp_path / "rate=8")
    (tmp_path / "runs" / "sweep" / "rate=4").rename(tmp_path / "rate=4")
    with pytest.raises(RunError, match="no run at 4 frames/s, which the search wants"):
        capacity_report.read_sweep(tmp_path / "runs", Objective())


def test_the_conditions_in_a_record_are_the_experiment_without_its_rate():
    assert "rate_hz" not in DESIGN.conditions()["experiment"]
    assert DESIGN.conditions()["q"] == asdict(DESIGN.objective)["q"]
