import json

import numpy as np
import pandas as pd
import pytest

from latencylab import summary
from latencylab.steady_state import WarmUp

MS = 1_000_000
STAMPS = ["intended_ns", "sent_ns", "received_ns", "requested_ns", "answered_ns", "labelled_ns"]
STAMPS += ["storage_received_ns", "stored_ns", "server_queue_ns", "server_decode_ns", "server_inference_ns"]


def frames_of(latencies_ms, every_ms=100):
    """Frames with these end-to-end latencies, one every `every_ms`; each is stored after a tenth of its latency."""
    latency = (np.asarray(latencies_ms, dtype=float) * MS).astype("int64")
    intended = np.arange(len(latency)) * every_ms * MS
    frames = pd.DataFrame(dict.fromkeys(STAMPS, intended)).astype("Int64")
    frames["labelled_ns"] = intended + latency
    frames["answered_ns"] = intended + latency
    frames["stored_ns"] = intended + latency // 10
    return frames.astype("Int64")


def noise(n, mean=100.0, seed=1):
    return np.random.default_rng(seed).gamma(20, mean / 20, n)


def test_latency_counts_from_the_intended_time_and_leaves_lost_frames_out():
    frames = frames_of([10, 20, 30])
    frames.loc[1, "labelled_ns"] = pd.NA
    assert list(summary.end_to_end_ns(frames)) == [10 * MS, 30 * MS]
    frames["sent_ns"] += 5 * MS
    assert list(summary.end_to_end_ns(frames)) == [10 * MS, 30 * MS]
    assert list(summary.storage_ns(frames)) == [1 * MS, 2 * MS, 3 * MS]


def test_latencies_come_in_the_order_of_their_intended_times():
    frames = frames_of([10, 20, 30]).iloc[[2, 0, 1]]
    assert list(summary.end_to_end_ns(frames, in_order=True)) == [10 * MS, 20 * MS, 30 * MS]
    assert list(summary.storage_ns(frames)) == [1 * MS, 2 * MS, 3 * MS]


def test_a_slow_start_is_cut_and_only_within_the_time_allowed():
    frames = frames_of(np.concatenate([np.full(20, 2000.0), noise(180)]))
    assert summary.warm_up(frames, 10.0).cut == 20
    assert summary.warm_up(frames, 1.0).cut <= 10
    assert summary.warm_up(frames, 0.0) == WarmUp(0, True)


def test_frames_of_no_latency_have_no_warm_up():
    frames = frames_of([])
    assert summary.warm_up(frames, 10.0) == WarmUp(0, True)


def test_lost_frames_after_the_cut_stay_in_the_steady_part():
    frames = frames_of(noise(100))
    frames.loc[[3, 50], "labelled_ns"] = pd.NA
    kept = summary.steady(frames, 10)
    assert kept["intended_ns"].min() == frames.loc[11, "intended_ns"]  # frame 3 is no sample, so 11 frames are cut
    assert 50 in kept.index
    assert len(summary.steady(frames, 0)) == 100


def test_a_summary_has_percentiles_of_both_paths_after_the_warm_up():
    frames = frames_of(np.concatenate([np.full(20, 9000.0), noise(380)]))
    found = summary.summarise(frames, WarmUp(20, True), None)
    assert [p["q"] for p in found["end_to_end_ns"]] == list(summary.QUANTILES)
    kept = np.sort(summary.end_to_end_ns(frames).to_numpy()[20:])
    p50 = found["end_to_end_ns"][0]
    assert (p50["value"], p50["n"]) == (kept[189], 380)
    assert found["storage_ns"][0]["value"] == pytest.approx(p50["value"] / 10, abs=1)
    assert found["end_to_end_ns"][3]["value"] is None
    assert found["end_to_end_ns"][3]["reason"] == "p99.9 needs 2995 frames, got 380"
    assert found["offered_hz"] is None
    assert found["negative_stages"] == {}


def test_negative_stages_are_counted():
    frames = frames_of(noise(60))
    frames.loc[:4, "received_ns"] = frames.loc[:4, "sent_ns"] - MS
    found = summary.summarise(frames, WarmUp(0, True), None)
    assert found["negative_stages"] == {"broker": 5}


def test_a_run_that_labelled_nothing_has_a_summary_too():
    frames = frames_of(noise(60))
    frames["labelled_ns"] = pd.Series([pd.NA] * 60, dtype="Int64")
    found = summary.summarise(frames, WarmUp(0, True), None)
    assert [p["value"] for p in found["end_to_end_ns"]] == [None] * 4
    assert found["storage_ns"][0]["value"] is not None
    assert found["stationary"] is None


def test_a_summary_is_plain_json():
    found = summary.summarise(frames_of(noise(100)), WarmUp(5, True), None)
    assert json.loads(json.dumps(found)) == found
