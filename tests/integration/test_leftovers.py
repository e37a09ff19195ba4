"""Whatever ends a measurement, nothing of it goes on running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from latencylab import paths

SWEEP = "name: left\nbase: {duration_s: 30, batch_max: 1}\n"


def _ours(data: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LATENCYLAB_DATA") == str(data) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _wait(condition, what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {timeout_s} s"
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_sweep_leaves_no_process_and_no_half_run(tmp_path: Path, number: signal.Signals):
    (tmp_path / "left.yaml").write_text(SWEEP)
    environment = os.environ | {"LATENCYLAB_DATA": str(tmp_path / "data")}
    command = [sys.executable, "-m", "latencylab", "sweep", str(tmp_path / "left.yaml")]
    sweep = subprocess.Popen(command, env=environment, cwd=paths.ROOT, start_new_session=True)
    data = tmp_path / "data"
    _wait(lambda: list((data / "stack" / "runs").glob("*/consumers/inference*.csv")), "consumers started")
    if number == signal.SIGINT:
        os.killpg(sweep.pid, number)  # as a terminal does
    else:
        sweep.send_signal(number)
    assert sweep.wait(60) != 0
    _wait(lambda: not _ours(data), f"all processes ended ({[p.name() for p in _ours(data)]})", 60)
    assert not list((data / "runs" / "left").glob("base/r*"))


def test_up_stays_up_and_down_ends_it(tmp_path: Path):
    environment = os.environ | {"LATENCYLAB_DATA": str(tmp_path)}

    def latencylab(*arguments: str) -> str:
        command = [sys.executable, "-m", "latencylab", *arguments]
        done = subprocess.run(command, env=environment, cwd=paths.ROOT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    latencylab("up", "-p", "batch_max=1")
    try:
        started = {process.pid for process in _ours(tmp_path)}
        assert len(started) >= 3
        latencylab("run", "-p", "batch_max=1", "-p", "duration_s=2", "-p", "rate_hz=2")
        assert {process.pid for process in _ours(tmp_path)} == started
        assert (tmp_path / "runs" / "single" / "base" / "r1" / "notebook.ipynb").exists()
    finally:
        told = latencylab("down")
    assert "stopped kafka" in told
    _wait(lambda: not _ours(tmp_path), "all processes ended", 30)
    assert "nothing was running" in latencylab("down")
