import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.clock import Clock
from services.producer.ledger import Ledger, percentiles
from services.producer.schedule import Schedule, frames_of_devices

SCHEDULE = Schedule("constant", 4.0, 2.0)
FRAMES = frames_of_devices(SCHEDULE, [5, 2], start_at_ns=1_000)


def test_percentiles_are_samples_by_the_nearest_rank():
    assert percentiles(np.arange(1, 1001)) == {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}
    assert percentiles(np.array([7])) == dict.fromkeys(["p50", "p90", "p99", "p99.9", "max"], 7)
    assert set(percentiles(np.empty(0, np.int64)).values()) == {None}


def test_an_untouched_ledger_reports_every_frame_unsent():
    report = Ledger(FRAMES, Clock()).report(interrupted=True)
    assert (report["scheduled"], report["sent"], report["unsent"]) == (16, 0, 16)
    assert report["unsent_frames"] == {"cam-0002": list(range(8)), "cam-0005": list(range(8))}
    assert report["reasons"] == {"interrupted": 16}
    assert report["lateness_ns"]["max"] is None


fates = st.sampled_from(["acknowledged", "failed", "refused", "buffer full", "unanswered", "untouched"])


@given(st.lists(fates, min_size=16, max_size=16))
def test_every_frame_is_counted_once_whatever_becomes_of_it(all_fates):
    ledger = Ledger(FRAMES, Clock())
    for position, fate in enumerate(all_fates):
        size = 100 + position
        if fate == "buffer full":
            ledger.refused(position, fate)
        elif fate != "untouched":
            ledger.attempted(position, int(FRAMES.intended_ns[position]) + position, size)
        if fate == "refused":
            ledger.refused(position, fate, size)
        elif fate == "acknowledged":
            ledger.acknowledged(position, size)
        elif fate == "failed":
            ledger.failed(position, size, fate)
    report = ledger.report(interrupted=False)
    unsent = {
        (device, seq)
        for device, seq, fate in zip(FRAMES.device_ids(), FRAMES.seq.tolist(), all_fates, strict=True)
        if fate != "acknowledged"
    }
    assert report["sent"] + report["unsent"] == report["scheduled"] == 16
    assert {(device, seq) for device, seqs in report["unsent_frames"].items() for seq in seqs} == unsent
    assert sum(report["reasons"].values()) == report["unsent"]
    for reason in ("failed", "refused", "buffer full"):
        assert report["reasons"].get(reason, 0) == all_fates.count(reason)
    assert report["reasons"].get("not attempted", 0) == all_fates.count("untouched")
    assert report["reasons"].get("no acknowledgement in time", 0) == all_fates.count("unanswered")
    assert ledger.outstanding == all_fates.count("unanswered")
    unanswered = [100 + position for position, fate in enumerate(all_fates) if fate == "unanswered"]
    assert ledger.outstanding_bytes == sum(unanswered)
    went = [p for p, fate in enumerate(all_fates) if fate not in ("untouched", "buffer full")]
    assert report["lateness_ns"]["max"] == (max(went) if went else None)


def test_the_acknowledgement_latency_starts_when_the_frame_was_sent():
    clock = Clock()
    ledger = Ledger(FRAMES, clock)
    sent_ns = clock.now_ns()
    ledger.attempted(0, sent_ns, 10)
    ledger.acknowledged(0, 10)
    latency_ns = ledger.report(interrupted=False)["ack_latency_ns"]["max"]
    assert 0 <= latency_ns <= clock.now_ns() - sent_ns


@pytest.mark.parametrize(("interrupted", "reason"), [(True, "interrupted"), (False, "not attempted")])
def test_what_was_not_attempted_says_why(interrupted, reason):
    assert Ledger(FRAMES, Clock()).report(interrupted)["reasons"] == {reason: 16}
