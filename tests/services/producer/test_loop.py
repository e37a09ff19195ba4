from dataclasses import dataclass, field

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.future import Future

from services.contract.clock import Clock
from services.contract.message import FrameHeaders, make_image_id
from services.producer.images import make_pools
from services.producer.ledger import Ledger
from services.producer.loop import OpenLoop, Stop
from services.producer.schedule import Schedule, frames_of_devices


@dataclass
class Message:
    topic: str
    value: bytes
    key: bytes
    headers: FrameHeaders


@dataclass
class FakeClient:
    """A Kafka client in memory: answers each send as told, or not at all while `answer` is None."""

    answer: object | None = True
    refuse: Exception | None = None
    stop_after: tuple[int, Stop] | None = None
    messages: list[Message] = field(default_factory=list)
    pending: list[Future] = field(default_factory=list)

    def send(self, topic, value, key, headers):
        if self.refuse:
            raise self.refuse
        self.messages.append(Message(topic, value, key, FrameHeaders.decode(headers)))
        if self.stop_after and len(self.messages) == self.stop_after[0]:
            self.stop_after[1].requested = True
        future: Future = Future()
        if self.answer is None:
            self.pending.append(future)
        elif isinstance(self.answer, Exception):
            future.failure(self.answer)
        else:
            future.success(self.answer)
        return future


class Rig:
    """An open loop over two cameras whose schedule starts `ahead_s` from now."""

    def __init__(self, settings, client, schedule, ahead_s=-60.0):
        self.clock = Clock()
        self.stop = client.stop_after[1] if client.stop_after else Stop()
        self.client = client
        start_at_ns = self.clock.now_ns() + int(ahead_s * 1e9)
        self.ledger = Ledger(frames_of_devices(schedule, [0, 1], start_at_ns), self.clock)
        self.pools = dict(enumerate(make_pools(settings, schedule, [0, 1])))
        self.loop = OpenLoop(settings, client, self.clock, self.stop)

    def run(self):
        self.loop.run(self.ledger, self.pools)
        return self.ledger.report(self.stop.requested)


SCHEDULE = Schedule("constant", 10.0, 1.0)


def test_every_frame_is_sent_once_in_order_with_its_headers(make_settings):
    rig = Rig(make_settings(), FakeClient(), SCHEDULE)
    report = rig.run()
    assert (report["scheduled"], report["sent"], report["unsent"], report["reasons"]) == (20, 20, 0, {})
    frames = rig.ledger.frames
    expected = zip(frames.device_ids(), frames.seq.tolist(), frames.intended_ns.tolist(), strict=True)
    for message, (device, seq, intended_ns) in zip(rig.client.messages, expected, strict=True):
        headers = message.headers
        assert (message.topic, message.key) == ("frames", device.encode())
        assert (headers.device_id, headers.seq, headers.intended_ns) == (device, seq, intended_ns)
        assert (headers.run_id, headers.image_id) == ("run", make_image_id("run", device, seq))
        assert (message.value, headers.truth) == rig.pools[int(device[-4:])].frame(seq, intended_ns)


def test_no_frame_leaves_before_its_time(make_settings):
    rig = Rig(make_settings(), FakeClient(), Schedule("poisson", 100.0, 0.2, seed=5), ahead_s=0.05)
    report = rig.run()
    assert report["sent"] == report["scheduled"] > 0
    assert all(message.headers.sent_ns >= message.headers.intended_ns for message in rig.client.messages)


def test_the_reported_lateness_is_sent_minus_intended(make_settings):
    rig = Rig(make_settings(), FakeClient(), SCHEDULE)
    lateness = sorted(m.headers.sent_ns - m.headers.intended_ns for m in rig.run() and rig.client.messages)
    assert rig.ledger.report(False)["lateness_ns"]["max"] == lateness[-1]
    assert rig.ledger.report(False)["lateness_ns"]["p50"] == lateness[9]
    assert lateness[0] > 58e9  # the schedule lies a minute back, and no part of that is forgiven


def test_a_broker_that_answers_nothing_does_not_hold_the_loop_up(make_settings):
    rig = Rig(make_settings(drain_timeout_s=0.01), FakeClient(answer=None), SCHEDULE)
    rig.run()
    assert len(rig.client.messages) == rig.ledger.outstanding == 20
    rig.stop.requested = True
    rig.loop.drain(rig.ledger)
    assert rig.ledger.report(False)["reasons"] == {"no acknowledgement in time": 20}


def test_frames_beyond_the_buffer_are_counted_and_room_is_used_again(make_settings):
    settings = make_settings()
    size = max(len(pool.frame(seq, 10**19)[0]) for pool in make_pools(settings, SCHEDULE, [0, 1]) for seq in (0, 1))
    rig = Rig(make_settings(buffer_bytes=3 * size), FakeClient(answer=None), SCHEDULE)
    report = rig.run()
    sent = len(rig.client.messages)
    assert 3 <= sent < 20
    assert report["reasons"] == {"no acknowledgement in time": sent, "buffer full": 20 - sent}
    for future in rig.client.pending:
        future.success(True)
    assert rig.ledger.outstanding_bytes == 0


@pytest.mark.parametrize("client", [FakeClient(answer=KafkaTimeoutError()), FakeClient(refuse=KafkaTimeoutError())])
def test_a_frame_that_the_client_gives_up_or_refuses_is_unsent_with_the_reason(make_settings, client):
    rig = Rig(make_settings(), client, SCHEDULE)
    report = rig.run()
    assert (report["sent"], report["unsent"], report["reasons"]) == (0, 20, {"KafkaTimeoutError": 20})
    assert (rig.ledger.outstanding, rig.ledger.outstanding_bytes) == (0, 0)


def test_a_stop_leaves_the_rest_unsent_and_named(make_settings):
    rig = Rig(make_settings(), FakeClient(stop_after=(5, Stop())), SCHEDULE)
    report = rig.run()
    assert (report["sent"], report["unsent"], report["reasons"]) == (5, 15, {"interrupted": 15})
    sent = {(message.headers.device_id, message.headers.seq) for message in rig.client.messages}
    unsent = {(device, seq) for device, seqs in report["unsent_frames"].items() for seq in seqs}
    assert len(sent | unsent) == 20


def test_a_stop_ends_the_wait_for_a_frame_that_is_far_off(make_settings):
    stop = Stop()
    rig = Rig(make_settings(), FakeClient(stop_after=(99, stop)), SCHEDULE, ahead_s=3600)
    stop.requested = True
    assert rig.run()["reasons"] == {"interrupted": 20}


def test_drain_returns_once_everything_is_settled(make_settings):
    rig = Rig(make_settings(), FakeClient(), SCHEDULE)
    rig.run()
    rig.loop.drain(rig.ledger)
    assert rig.ledger.outstanding == 0
