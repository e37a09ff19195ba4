import pandas as pd
import pytest

from latencylab.collect import Collected, Counts
from latencylab.saturation import Window
from latencylab.validity import Evidence, backlog, invalid_reasons

MS = 1_000_000
SECOND = 1_000_000_000
FINE = Counts(100, 100, 0, 100, 100, 0, 0, 0, 0, 100, 100)


def frames_of(n=100, late_ns=0, latency_ns=50 * MS):
    """A frame every 100 ms; `late_ns` and `latency_ns` are one value or one per frame."""
    intended = pd.Series(range(n), dtype="Int64") * (100 * MS)
    sent = intended + late_ns
    labelled = sent + latency_ns
    return pd.DataFrame(
        {"intended_ns": intended, "sent_ns": sent, "labelled_ns": labelled, "document_labelled_ns": labelled}
    )


@pytest.fixture
def evidence():
    """The evidence of a run that nothing speaks against, with changes."""

    def make(counts=FINE, disagreements=(), dead=None, **changes):
        frames = changes.pop("frames", None)
        fine = {
            "frames": frames_of() if frames is None else frames,
            "collected": Collected(counts, list(disagreements), dead or {}),
            "incidents": [],
            "consumer_reports": [{"consumer": "db-consumer-0", "clock_drift_ns": 0}],
            "producer_reports": [{"producer_index": 0, "drift_ns": 0}],
            "window": Window(0, 10 * SECOND),
            "drained": True,
        }
        return Evidence(**(fine | changes))

    return make


def test_nothing_speaks_against_a_good_run(evidence):
    assert invalid_reasons(evidence()) == []


def counts(**changes):
    return Counts(**{**FINE.__dict__, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"counts": counts(sent=97, unsent=3)}, "3 of 100 scheduled frames were not sent"),
        ({"counts": counts(lost_inference=2)}, "2 frames were not labelled, 0 not stored"),
        ({"counts": counts(lost_storage=1)}, "0 frames were not labelled, 1 not stored"),
        (
            {"counts": counts(lost_inference=2, dead=2), "dead": {"HTTP 400": 2}},
            "2 frames were not labelled, 0 not stored (2 dead letters: {'HTTP 400': 2})",
        ),
        (
            {"counts": counts(dead=1), "dead": {"malformed headers": 1}},
            "1 messages went to the dead-letter topic: {'malformed headers': 1}",
        ),
        ({"disagreements": ["1 documents too many"]}, "1 documents too many"),
        ({"incidents": ["mongodb was restarted"]}, "mongodb was restarted"),
        ({"drained": False}, "the pipeline had not worked off its backlog when drain_timeout_s was over"),
        (
            {"producer_reports": [{"producer_index": 3, "drift_ns": -6 * MS}]},
            "the wall clock moved by -6.0 ms under producer-3 during the run (limit ±5 ms)",
        ),
        (
            {"consumer_reports": [{"consumer": "db-consumer-0", "clock_drift_ns": 7 * MS}]},
            "the wall clock moved by +7.0 ms under db-consumer-0 during the run (limit ±5 ms)",
        ),
        ({"clock_bound_ns": 8 * MS}, "clocks of the hosts agree only within 8.0 ms (limit 5 ms)"),
    ],
)
def test_each_reason_is_a_sentence_with_its_number(evidence, changes, told):
    assert invalid_reasons(evidence(**changes)) == [told]


def test_a_limit_that_is_just_kept_is_no_reason(evidence):
    changes = {
        "producer_reports": [{"producer_index": 0, "drift_ns": 5 * MS}],
        "clock_bound_ns": 5 * MS,
        "frames": frames_of(late_ns=5 * MS),
    }
    assert invalid_reasons(evidence(**changes)) == []


def test_a_redelivered_frame_is_no_reason(evidence):
    assert invalid_reasons(evidence(counts=counts(redelivered=5))) == []


def test_late_producers_are_judged_by_their_p99(evidence):
    few = pd.Series([6 * MS] + [0] * 99, dtype="Int64")
    assert invalid_reasons(evidence(frames=frames_of(late_ns=few))) == []
    more = pd.Series([6 * MS] * 2 + [0] * 98, dtype="Int64")
    assert invalid_reasons(evidence(frames=frames_of(late_ns=more))) == [
        "producers were late: p99 of sent - intended is 6.0 ms (limit 5 ms)"
    ]


def test_a_backlog_that_grows_to_the_end_is_saturation(evidence):
    falling_behind = pd.Series(range(100), dtype="Int64") * (60 * MS) + 50 * MS
    found = evidence(frames=frames_of(latency_ns=falling_behind))
    (reason,) = invalid_reasons(found)
    assert reason.startswith("saturated: the backlog grew by ")
    assert backlog(found).growing


def test_every_reason_is_given_not_only_the_first(evidence):
    bad = evidence(counts=counts(unsent=1, lost_storage=1), incidents=["kafka ended"], drained=False)
    assert len(invalid_reasons(bad)) == 4


def test_a_run_without_csv_is_judged_by_its_documents(evidence):
    frames = frames_of()
    frames["labelled_ns"] = pd.Series([pd.NA] * len(frames), dtype="Int64")
    found = backlog(evidence(frames=frames))
    assert found.achieved_hz == pytest.approx(10, rel=0.05)


def test_a_run_that_sent_nothing_has_no_backlog_and_still_a_verdict(evidence):
    frames = frames_of()
    frames[["sent_ns", "labelled_ns", "document_labelled_ns"]] = pd.NA
    nothing = evidence(frames=frames.astype("Int64"), counts=counts(sent=0, unsent=100, stored=0, labelled=0))
    assert backlog(nothing) is None
    assert invalid_reasons(nothing) == ["100 of 100 scheduled frames were not sent"]
