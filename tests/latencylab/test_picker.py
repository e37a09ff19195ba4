"""The list of what can be analysed."""

import shutil

import pytest

from latencylab import paths
from latencylab.picker import recorded
from latencylab.runs import run_folders


@pytest.fixture
def own(data_folder):
    folder = data_folder / "runs" / "own"
    shutil.copytree(paths.SAMPLE / "2-cameras" / "r1", folder / "a" / "r1")
    shutil.copytree(paths.SAMPLE / "2-cameras" / "r1", folder / "a" / "r2")
    shutil.copytree(paths.SAMPLE / "2-cameras" / "r1", folder / ".staging" / "own" / "b" / "r1")
    (data_folder / "runs" / "empty" / "a").mkdir(parents=True)
    return folder


def test_every_sweep_point_and_run_that_is_complete_is_listed(own):
    listed = recorded()
    assert next(iter(listed.items())) == (f"data/sample ({len(run_folders(paths.SAMPLE))} runs)", "data/sample")
    assert listed["data/sample/8-cameras/r1 (1 run)"] == "data/sample/8-cameras/r1"
    assert {label: folder for label, folder in listed.items() if "sample" not in label} == {
        f"{own} (2 runs)": str(own),
        f"{own}/a (2 runs)": str(own / "a"),
        f"{own}/a/r1 (1 run)": str(own / "a" / "r1"),
        f"{own}/a/r2 (1 run)": str(own / "a" / "r2"),
    }
