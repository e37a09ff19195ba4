"""A recorded sweep judged against itself and against copies that differ in a known way."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from latencylab import cli, reproduce
from latencylab.execution import Outcome, design_of
from latencylab.reproduce import Thresholds
from latencylab.runs import RunError

RECORDED = Path(__file__).parents[1] / "data" / "sweep"


@pytest.fixture
def again(tmp_path):
    """A copy of the sweep, to be changed."""
    shutil.copytree(RECORDED, tmp_path / "again")
    return tmp_path / "again"


@pytest.fixture
def sweeps(monkeypatch, again):
    """The designs that would have been carried out: (design, root, new)."""
    done = []

    def run_sweep(design, root, *, new, echo):
        done.append((design, root, new))
        return Outcome(again)

    monkeypatch.setattr(reproduce, "run_sweep", run_sweep)
    return done


def slow_down(folder, point, factor):
    """Multiply the end-to-end latency of each frame of a point."""
    file = folder / point / "r1" / "frames.parquet"
    frames = pd.read_parquet(file, dtype_backend="numpy_nullable")
    latency = (frames["labelled_ns"] - frames["intended_ns"]) * factor
    frames["labelled_ns"] = frames["intended_ns"] + latency.round().astype("Int64")
    frames.to_parquet(file)


def change_info(folder, point, change):
    record = folder / point / "r1" / "run.json"
    info = json.loads(record.read_text())
    change(info)
    record.write_text(json.dumps(info))


def test_the_same_runs_are_reproduced(again):
    verdict = reproduce.judge(RECORDED, again)
    assert verdict.reproduced
    assert verdict.against == []
    assert verdict.compared == 6  # p50 and p90 of the three valid points


def test_what_can_not_be_compared_is_named(again):
    unknown = reproduce.judge(RECORDED, again).unknown
    assert "4-cameras: p99 of A: 1 of 1 runs have no value" in unknown
    assert [line for line in unknown if line.startswith("8-cameras: p50 of A")]  # its only run is invalid
    assert len(unknown) == 6


@pytest.mark.parametrize(("factor", "told"), [(2, "+100.0%"), (0.5, "-50.0%")])
def test_a_percentile_beyond_its_threshold_speaks_against_it_either_way(again, factor, told):
    slow_down(again, "1-camera", factor)
    verdict = reproduce.judge(RECORDED, again)
    assert not verdict.reproduced
    assert verdict.against == [
        f"1-camera: p50 changed by {told}, more than 25%",
        f"1-camera: p90 changed by {told}, more than 35%",
    ]


def test_a_change_between_the_thresholds_speaks_against_the_median_only(again):
    slow_down(again, "1-camera", 1.3)
    assert reproduce.judge(RECORDED, again).against == ["1-camera: p50 changed by +30.0%, more than 25%"]
    assert reproduce.judge(RECORDED, again, Thresholds({0.5: 0.31})).reproduced


def test_a_point_that_is_missing_speaks_against_it(again):
    shutil.rmtree(again / "4-cameras")
    verdict = reproduce.judge(RECORDED, again)
    assert (verdict.reproduced, verdict.against) == (False, ["4-cameras was not recorded again"])
    assert "4-cameras: only A has this point" in verdict.unknown


def test_another_number_of_frames_speaks_against_it(again):
    change_info(again, "2-cameras", lambda info: info["counts"].update(scheduled=63))
    assert reproduce.judge(RECORDED, again).against == ["2-cameras: [64] frames were scheduled in a run, now [63]"]


def test_a_valid_point_that_became_invalid_speaks_against_it(again):
    change_info(again, "2-cameras", lambda info: info["invalid_reasons"].append("kafka restarted"))
    verdict = reproduce.judge(RECORDED, again)
    assert (verdict.reproduced, verdict.against) == (False, ["default/2-cameras/1 is invalid: kafka restarted"])


def test_nothing_compared_is_not_reproduced(again):
    verdict = reproduce.judge(RECORDED, again, Thresholds({0.999: 0.5}))
    assert (verdict.reproduced, verdict.against, verdict.compared) == (False, [], 0)


def test_the_thresholds_are_told():
    assert Thresholds().told() == "p50 within 25%, p90 within 35%, p99 within 50%"


def test_the_design_is_carried_out_again_under_a_name_of_its_own(sweeps, again, tmp_path):
    assert reproduce.rerun(RECORDED, tmp_path, print) == again
    ((design, root, new),) = sweeps
    recorded = design_of(RECORDED)
    assert design.name == "default-reproduced"
    assert design.model_copy(update={"name": recorded.name}) == recorded
    assert (root, new) == (tmp_path, True)


def test_a_run_that_failed_is_named(monkeypatch, tmp_path):
    outcome = Outcome(tmp_path, failed={"default-reproduced/1-camera/1": "kafka ended"})
    monkeypatch.setattr(reproduce, "run_sweep", lambda *_, **__: outcome)
    with pytest.raises(RunError, match="default-reproduced/1-camera/1: kafka ended"):
        reproduce.rerun(RECORDED, tmp_path, print)


def test_a_folder_without_a_recording_starts_nothing(sweeps, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no complete run"):
        reproduce.rerun(tmp_path / "empty", tmp_path, print)
    assert sweeps == []


def command(folder):
    return CliRunner().invoke(cli.main, ["reproduce", str(folder)])


def test_the_commands_status_is_its_verdict(sweeps, again):
    result = command(RECORDED)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith("REPRODUCED: 6 percentiles compared; thresholds: p50 within 25%")
    slow_down(again, "1-camera", 2)
    result = command(RECORDED)
    assert result.exit_code == 1
    assert result.output.splitlines()[0] == "1-camera: p50 changed by +100.0%, more than 25%"
    assert result.output.splitlines()[-1].startswith("NOT reproduced: 6 percentiles compared")


def test_a_sweep_that_could_not_be_carried_out_is_no_verdict(monkeypatch, tmp_path):
    failed = Outcome(tmp_path, failed={"default-reproduced/1-camera/1": "kafka ended"})
    monkeypatch.setattr(reproduce, "run_sweep", lambda *_, **__: failed)
    result = command(RECORDED)
    assert result.exit_code == 2
    assert result.output == "Error: default-reproduced/1-camera/1: kafka ended\n"
