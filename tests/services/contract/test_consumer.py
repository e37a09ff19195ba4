import os
import signal
import threading

import pytest
from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaTimeoutError,
    RebalanceInProgressError,
)

from services.contract import consumer
from services.contract.latency_csv import STORAGE_COLUMNS

ZERO, ONE = TopicPartition("frames", 0), TopicPartition("frames", 1)
AT_EVERY_TURN_S = 1e-9


def test_finished_frames_are_committed_and_the_report_says_so(run, broker, handler, make_record):
    batch = {ZERO: [make_record(0), make_record(1)], ONE: [make_record(5, partition=1)]}
    broker.steps = [lambda: broker.assign(ZERO, ONE), lambda: batch]
    status, report = run()
    assert (status, broker.commits, broker.closed_with, handler.closed) == (0, [{0: 2, 1: 6}], False, True)
    assert broker.subscribed == ["frames"]
    told = {"group": "db", "consumer": "pod-1", "run_id": "run", "received": 3, "unfinished": 0, "rows": 0}
    assert report.items() >= {**told, "drained": True, "handled": 3, "pid": os.getpid()}.items()
    assert report["dead"] == {}
    assert "bootstrap_servers" not in report["kafka_client"]


def test_a_frame_carries_what_the_record_held(run, broker, handler, make_record, make_headers):
    broker.steps = [lambda: {ONE: [make_record(7, partition=1)]}]
    run()
    (frame,) = handler.frames
    assert (frame.headers, frame.jpeg) == (make_headers(7), b"jpeg 7")
    assert frame.row.items() >= {"partition": 1, "offset": 7, "bytes": 6, "seq": 7, "truth": "cross"}.items()
    assert set(frame.row) < set(STORAGE_COLUMNS)


def test_nothing_is_committed_beyond_an_unfinished_frame(run, broker, handler, make_record):
    handler.finish = {0, 1, 3}
    broker.steps = [lambda: {ZERO: [make_record(n) for n in range(4)]}]
    _, report = run()
    assert (broker.commits, handler.closed) == ([{0: 2}], False)
    assert (report["drained"], report["unfinished"]) == (False, 1)


def test_frames_in_flight_at_sigterm_are_waited_for(run, broker, handler, make_record):
    handler.finish = ()
    later = threading.Timer(0.05, lambda: handler.frames[0].finished())

    def deliver():
        later.start()
        return {ZERO: [make_record(0)]}

    broker.steps = [deliver]
    _, report = run(drain_timeout_s=120.0)
    assert (broker.commits, report["drained"], handler.closed) == ([{0: 1}], True, True)


def test_a_signal_to_end_leaves_a_poll_that_waits(run, broker, make_record):
    def wait_for_ever():
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        threading.Event().wait()

    broker.steps = [lambda: {ZERO: [make_record(0)]}, wait_for_ever]
    status, report = run(commit_every_s=120.0)
    assert (status, report["drained"], broker.commits) == (0, True, [{0: 1}])


@pytest.mark.parametrize("refusal", [CommitFailedError, RebalanceInProgressError, KafkaTimeoutError])
def test_a_commit_that_is_refused_is_made_again(run, broker, make_record, refusal):
    broker.refusals = [refusal()]
    broker.steps = [lambda: {ZERO: [make_record(0)]}, lambda: {ZERO: [make_record(1)]}]
    status, _ = run(commit_every_s=AT_EVERY_TURN_S)
    assert (status, broker.commits) == (0, [{0: 1}, {0: 2}])


def test_a_commit_that_can_never_be_taken_ends_the_process(run, broker, make_record):
    broker.refusals = [GroupAuthorizationFailedError()]
    broker.steps = [lambda: {ZERO: [make_record(0)]}, dict]
    with pytest.raises(GroupAuthorizationFailedError):
        run(commit_every_s=AT_EVERY_TURN_S)


def test_a_commit_that_was_taken_is_not_made_again(run, broker, make_record):
    broker.steps = [lambda: {ZERO: [make_record(0)]}, dict, dict]
    run(commit_every_s=AT_EVERY_TURN_S)
    assert broker.commits == [{0: 1}]


def test_a_malformed_message_goes_to_the_dead_letters_and_is_passed_over(run, broker, handler, letters, make_record):
    broker.steps = [lambda: {ZERO: [make_record(0), make_record(1, headers=[("seq", b"x")]), make_record(2)]}]
    status, report = run()
    assert letters.sent == [("frames.dead", b"jpeg 1", b"malformed headers")]
    assert (status, report["dead"], report["received"]) == (0, {"malformed headers": 1}, 3)
    assert [frame.headers.seq for frame in handler.frames] == [0, 2]
    assert broker.commits == [{0: 3}]


def test_a_message_that_nobody_took_is_not_committed(run, broker, letters, make_record):
    letters.errors = [KafkaTimeoutError("no acknowledgement")]
    broker.steps = [lambda: {ZERO: [make_record(0, headers=[])]}]
    with pytest.raises(KafkaTimeoutError):
        run(commit_every_s=AT_EVERY_TURN_S)
    assert (broker.commits, broker.closed_with) == ([], False)


def test_a_frame_may_be_buried_by_its_handler(run, broker, handler, letters, make_record):
    handler.finish = ()
    broker.steps = [lambda: {ZERO: [make_record(0)]}, lambda: handler.frames[0].bury("HTTP 415", "no JPEG") or {}]
    status, report = run()
    assert (status, report["dead"], broker.commits) == (0, {"HTTP 415": 1}, [{0: 1}])


def test_a_frame_whose_dead_letter_was_refused_stays_unfinished(run, broker, handler, letters, make_record):
    def bury():
        with pytest.raises(KafkaTimeoutError):
            handler.frames[0].bury("HTTP 415", "no JPEG")
        return {}

    handler.finish = ()
    letters.errors = [KafkaTimeoutError("no acknowledgement")]
    broker.steps = [lambda: {ZERO: [make_record(0)]}, bury]
    _, report = run()
    assert (broker.commits, report["unfinished"], report["dead"]) == ([], 1, {})


def test_a_handler_that_can_not_go_on_ends_the_process_with_its_frames_uncommitted(
    run, broker, handler, probes, make_record
):
    def fail():
        assert probes.healthy()
        handler.error = ConnectionError("server gone")
        return {ZERO: [make_record(1)]}

    handler.finish = {0}
    broker.steps = [lambda: {ZERO: [make_record(0)]}, fail, lambda: {ZERO: [make_record(2)]}]
    status, report = run()
    assert (status, report["drained"], report["received"], report["unfinished"]) == (1, False, 2, 1)
    assert (broker.commits, probes.healthy()) == ([{0: 1}], False)


def test_a_partition_that_moves_is_committed_first_and_what_is_in_flight_is_left_to_its_new_owner(
    run, broker, handler, make_record
):
    handler.finish = {0}

    late = lambda: handler.frames[1].finished() or {}  # noqa: E731
    batch = {ZERO: [make_record(0), make_record(1)], ONE: [make_record(0, partition=1)]}
    broker.steps = [lambda: broker.assign(ZERO, ONE), lambda: batch, lambda: broker.revoke(ZERO), late]
    _, report = run()
    assert broker.commits == [{0: 1}, {1: 1}]
    assert (report["drained"], report["unfinished"]) == (True, 0)


def test_a_rebalance_survives_a_commit_that_fails(run, broker, make_record):
    broker.refusals = [CommitFailedError()]
    broker.steps = [lambda: broker.assign(ZERO), lambda: {ZERO: [make_record(0)]}, lambda: broker.revoke(ZERO)]
    status, report = run()
    assert (status, report["drained"], broker.commits) == (0, True, [{0: 1}])


def test_nothing_is_committed_of_a_partition_that_was_lost(run, broker, make_record):
    broker.steps = [lambda: broker.assign(ZERO), lambda: {ZERO: [make_record(0)]}, lambda: broker.lose(ZERO)]
    run()
    assert broker.commits == []


def test_new_partitions_begin_where_their_group_had_come_to(run, broker, make_record):
    broker.held = {ZERO: 7}
    broker.steps = [lambda: broker.assign(ZERO, ONE)]
    run()
    assert broker.seeks == {0: 7, 1: 0}


def test_a_partition_that_delivers_already_is_not_sought(run, broker, make_record):
    broker.steps = [lambda: broker.assign(ZERO, ONE) | {ONE: [make_record(3, partition=1)]}]
    run()
    assert broker.seeks == {0: 0}


def test_a_process_is_ready_while_it_has_partitions(run, broker, probes):
    ready = []

    def then_note(step):
        def run_step():
            batches = step()
            ready.append(probes.ready())
            return batches

        return run_step

    steps = [dict, lambda: broker.assign(ZERO), dict, lambda: broker.revoke(ZERO)]
    broker.steps = [then_note(step) for step in steps]
    run()
    assert ready == [False, True, True, False]


def test_without_room_the_membership_is_kept_alive_without_taking_frames(run, broker, handler, monkeypatch):
    monkeypatch.setattr(consumer, "_NO_ROOM_HEARTBEAT_S", -1.0)
    handler.rooms = [4, 0, 0, 3]
    broker.steps = [lambda: broker.assign(ZERO, ONE), dict]
    run()
    assert broker.idle_polls == [{ZERO, ONE}] * 2
    assert broker.most_records[:2] == [4, 3]
    assert broker.paused() == set()


def test_a_topic_that_does_not_exist_is_named(run, broker):
    broker.partitions_of = {}
    with pytest.raises(TimeoutError, match="no topic frames"):
        run(retry_for_s=0.001)


def test_metadata_are_fetched_between_the_subscription_and_the_first_join(run, broker):
    """Without them a group's leader shares out the partitions twice, the second time under load."""
    run()
    assert broker.calls[:3] == ["subscribe", "topics", "poll"]
