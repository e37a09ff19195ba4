import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from services.contract.delivery import OffsetTracker

ZERO, ONE = TopicPartition("frames", 0), TopicPartition("frames", 1)


@pytest.fixture
def tracker():
    made = OffsetTracker()
    made.assign({ZERO, ONE})
    return made


def offsets(tracker):
    return {partition.partition: meta.offset for partition, meta in tracker.committable().items()}


@given(st.permutations(range(8)), st.integers(0, 8))
def test_nothing_beyond_the_first_unfinished_frame_is_ever_committable(order, finished):
    tracker = OffsetTracker()
    tracker.assign({ZERO})
    deliveries = [tracker.delivered(ZERO, 10 + offset) for offset in range(8)]
    done = set()
    for offset in order[:finished]:
        tracker.finished(deliveries[offset])
        done.add(offset)
        first = next((n for n in range(8) if n not in done), 8)
        assert offsets(tracker) == ({0: 10 + first} if first else {})
    assert tracker.unfinished() == 8 - finished


def test_offsets_with_gaps_are_passed_over(tracker):
    for offset in (3, 7, 12):
        tracker.finished(tracker.delivered(ZERO, offset))
    assert offsets(tracker) == {0: 13}


def test_partitions_do_not_wait_for_each_other(tracker):
    tracker.delivered(ZERO, 0)
    tracker.finished(tracker.delivered(ONE, 5))
    assert offsets(tracker) == {1: 6}


def test_what_has_been_committed_is_not_committed_again(tracker):
    tracker.finished(tracker.delivered(ZERO, 0))
    tracker.committed(tracker.committable())
    assert offsets(tracker) == {}
    tracker.finished(tracker.delivered(ZERO, 1))
    assert offsets(tracker) == {0: 2}


def test_a_frame_that_finishes_after_its_partition_moved_changes_nothing(tracker):
    late = tracker.delivered(ZERO, 0)
    tracker.revoke({ZERO})
    tracker.finished(late)
    assert offsets(tracker) == {}
    tracker.assign({ZERO})
    again = tracker.delivered(ZERO, 0)
    tracker.finished(late)
    assert (offsets(tracker), tracker.unfinished()) == ({}, 1)
    tracker.finished(again)
    assert offsets(tracker) == {0: 1}


def test_waiting_ends_when_nothing_is_unfinished(tracker):
    delivery = tracker.delivered(ZERO, 0)
    assert tracker.wait_finished(0) is False
    tracker.finished(delivery)
    assert tracker.wait_finished(0) is True
