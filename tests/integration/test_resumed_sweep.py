"""A sweep that was killed twice is finished by the same command, and is the sweep that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from latencylab import paths

pytestmark = pytest.mark.timeout(1200)

SWEEP = """
name: resumed
repetitions: 3
base: {duration_s: 2, rate_hz: 2, batch_max: 1}
factors: {producers: [1, 2], inference_consumers: [1, 2]}
"""
RUNS = 12


def _runs(data: Path) -> list[Path]:
    return sorted((data / "runs" / "resumed").glob("*/r*/run.json"))


def _start(file: Path, data: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"LATENCYLAB_DATA": str(data)}
    command = [sys.executable, "-m", "latencylab", "sweep", str(file)]
    return subprocess.Popen(command, env=environment, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)


def _finish(file: Path, data: Path) -> str:
    sweep = _start(file, data)
    told, _ = sweep.communicate()
    assert sweep.returncode == 0, told
    return told


def _kill_when(file: Path, data: Path, complete: int) -> dict[Path, bytes]:
    """Start the sweep and kill it in the run after `complete` runs are there; those runs' files as they are then."""
    sweep = _start(file, data)
    started = data / "stack" / "runs"
    while len(_runs(data)) < complete or not list(started.glob("*/consumers/inference*.csv")):
        assert sweep.poll() is None, "the sweep ended before it was killed"
        time.sleep(0.05)
    sweep.send_signal(signal.SIGKILL)
    sweep.communicate()
    assert complete <= len(_runs(data)) <= complete + 1  # one may have ended just before the signal
    return {path: path.read_bytes() for path in _runs(data)}


def _structure(data: Path) -> dict[str, Any]:
    """What the sweep consists of: its files (numbers of processes left out), and of each run all but its times."""
    folder = data / "runs" / "resumed"
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "consumers" not in path.parts:
            found[str(path.relative_to(folder))] = path.name
    for path in _runs(data):
        run = json.loads(path.read_text())
        same = ("run_id", "point_order", "repetition", "experiment", "fingerprint", "seed", "counts", "dead_by_reason")
        consumers = sorted(
            "-".join(name.name.split("-")[:-1]) + name.suffix for name in path.parent.glob("consumers/*")
        )
        del run["counts"]["redelivered"]  # a frame may be handled twice in either sweep; it counts once all the same
        found[str(path.relative_to(folder))] = {name: run[name] for name in same} | {"consumers": consumers}
    return found


def test_a_sweep_killed_twice_equals_one_that_was_not(tmp_path: Path):
    file = tmp_path / "resumed.yaml"
    file.write_text(SWEEP)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = _kill_when(file, killed, 3)
    second = _kill_when(file, killed, 7)
    told = _finish(file, killed)
    assert f"{len(second)} of {RUNS} runs are complete already" in told
    assert {path: path.read_bytes() for path in first} == first
    assert {path: path.read_bytes() for path in second} == second

    _finish(file, whole)
    assert len(_runs(whole)) == RUNS
    assert _structure(killed) == _structure(whole)
