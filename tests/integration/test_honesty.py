"""The measurement must show what the pipeline did, also when it stood still."""

import signal
import time
from collections.abc import Callable

import numpy as np

from latencylab import figures, summary
from latencylab.runs import Run

STALL_S = 1.5


def test_a_stall_of_the_server_shows_in_the_tail(backend, measured: Callable[..., Run]):
    def stall() -> None:
        server = backend.process("inference-server")
        server.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S)
        server.send_signal(signal.SIGCONT)

    run = measured(stall, 10.0, rate_hz=3, duration_s=20, images_in_flight=1)
    assert run.info["counts"]["labelled"] == 60
    frames = run.frames
    intended = summary.end_to_end_ns(frames).to_numpy()
    # What a client that sends the next request only after the last answer would have timed: one slow request.
    closed_loop = (frames["answered_ns"] - frames["requested_ns"]).astype("int64").to_numpy()
    stalled_for_s = STALL_S - 1 / 3  # the stall may begin just after a frame was answered, a period before the next
    assert intended.max() > stalled_for_s * 1e9
    assert (closed_loop > 0.7e9).sum() < (intended > 0.7e9).sum()
    # Three frames a second come due while the server stands still; each waits for what is left of the stall.
    assert (intended > 0.7e9).sum() >= 3
    assert np.quantile(intended, 0.98) > np.quantile(closed_loop, 0.98)
    assert np.quantile(intended, 0.99, method="inverted_cdf") > 1e9

    drawn = figures.over_time([run]).data  # on a busy host other frames may be slow as well
    during_stall = drawn[drawn["time_s"].between(9, 13)]
    assert (during_stall["latency_ms"] > 700).sum() >= 3
    assert drawn["latency_ms"].idxmax() in during_stall.index


def test_a_wall_clock_stepped_under_one_process_is_detected(backend, measured: Callable[..., Run], monkeypatch):
    monkeypatch.setitem(backend.programs, "db-consumer", "tests.integration.stepped_consumer")
    run = measured(rate_hz=2, duration_s=5)
    assert 195e6 < run.info["clock"]["drift_ns"]["db-consumer-0"] < 205e6
    assert any("the wall clock moved by +200" in reason for reason in run.info["invalid_reasons"])
    assert run.info["summary"]["negative_stages"] == {}
