import json
import os
import subprocess
import sys

import pytest

from latencylab.runs import Run, RunError, RunName, all_frames, find_runs, next_repetition, staged


@pytest.mark.parametrize("part", ["", ".hidden", "a/b", "..", "a b", "tab\t"])
def test_a_part_of_a_name_that_is_no_folder_name_is_refused(part):
    with pytest.raises(RunError, match="can't be a folder name"):
        RunName(part, "point", 1)
    with pytest.raises(RunError, match="can't be a folder name"):
        RunName("sweep", part, 1)


def test_repetitions_count_from_one():
    with pytest.raises(RunError, match="repetition: counts from 1, got 0"):
        RunName("sweep", "point", 0)


def test_a_name_gives_id_and_folder(tmp_path):
    name = RunName("load", "producers=2,rate_hz=0.5", 3)
    assert name.run_id == "load/producers=2,rate_hz=0.5/3"
    assert name.folder(tmp_path) == tmp_path / "load" / "producers=2,rate_hz=0.5" / "r3"


def test_a_staged_folder_is_there_only_once_it_is_whole(tmp_path):
    folder = tmp_path / "point" / "r1"
    with staged(folder) as staging:
        (staging / "run.json").write_text("{}")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_folder_that_was_not_finished(tmp_path, error):
    def half():
        with staged(tmp_path / "r1") as staging:
            (staging / "half").write_text("")
            raise error

    with pytest.raises(error):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_written_into(tmp_path):
    folder = tmp_path / "r1"
    folder.mkdir()
    (folder / "precious").write_text("data")
    with pytest.raises(RunError, match="there already"), staged(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["precious"]


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (ended.pid, os.getppid()):
        (tmp_path / f".r1.part-{pid}").mkdir()
    (tmp_path / f".r10.part-{ended.pid}").mkdir()
    with staged(tmp_path / "r1"):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"r1", f".r1.part-{os.getppid()}", f".r10.part-{ended.pid}"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_run):
    """Runs of two sweeps; the points of the first are not in alphabetical order."""
    folder = tmp_path_factory.mktemp("found")
    for name, order in ((RunName("a", "big", 1), 1), (RunName("a", "small", 1), 0), (RunName("b", "x", 1), 0)):
        make_run(folder, name, duration_s=1.0, point_order=order)
    return folder / "runs"


def test_runs_are_found_below_any_level_in_the_order_of_their_points(root):
    assert [run.info["run_id"] for run in find_runs(root)] == ["a/small/1", "a/big/1", "b/x/1"]
    assert [run.info["run_id"] for run in find_runs(root / "a")] == ["a/small/1", "a/big/1"]
    assert [run.info["run_id"] for run in find_runs(root / "a" / "big" / "r1")] == ["a/big/1"]


def test_what_lies_in_folders_with_a_dot_is_not_complete(root):
    hidden = root / "b" / ".staging" / "b" / "x" / "r2"
    hidden.mkdir(parents=True)
    (hidden / "run.json").write_text("half")
    assert [run.info["run_id"] for run in find_runs(root / "b")] == ["b/x/1"]


def test_a_folder_whose_own_path_has_a_dot_can_hold_runs(root, tmp_path):
    place = tmp_path / ".data"
    place.mkdir()
    (place / "runs").symlink_to(root / "a", target_is_directory=True)
    assert len(find_runs(place / "runs")) == 2


def test_a_folder_without_a_run_says_how_to_record_one(tmp_path):
    with pytest.raises(RunError, match="no complete run in it; record one with"):
        find_runs(tmp_path)


def test_a_run_has_its_experiment_frames_and_verdict(root):
    run = Run.load(root / "b" / "x" / "r1")
    assert run.experiment.duration_s == 1.0
    assert (run.point, run.valid) == ("x", True)
    assert len(run.frames) == run.info["counts"]["scheduled"] == 10
    assert str(run.frames["labelled_ns"].dtype) == "Int64"
    assert list(run.resources.columns)[:3] == ["time_ns", "component", "instance"]
    assert len(all_frames([run, run])) == 20


def test_a_folder_that_is_no_run_is_named_with_what_is_missing(tmp_path):
    with pytest.raises(RunError, match=r"run\.json is missing"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(RunError, match=r"frames\.parquet is missing"):
        Run.load(tmp_path)


def test_a_damaged_or_later_run_is_refused(tmp_path):
    (tmp_path / "frames.parquet").touch()
    (tmp_path / "run.json").write_text("{half")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(RunError, match="schema 99 is not 1"):
        Run.load(tmp_path)


def test_the_next_repetition_is_the_one_after_the_last(tmp_path):
    assert next_repetition(tmp_path, "s", "p") == 1
    for name in ("r1", "r10", ".r11.part-1", "rx"):
        (tmp_path / "s" / "p" / name).mkdir(parents=True)
    assert next_repetition(tmp_path, "s", "p") == 11
    assert next_repetition(tmp_path, "s", "q") == 1
    with pytest.raises(RunError, match="can't be a folder name"):
        next_repetition(tmp_path, "s", "../p")
