"""The open loop: every frame goes to the Kafka client at its intended time, whatever the pipeline does."""

import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kafka.errors import KafkaError
from prometheus_client import Counter, Histogram

from services.contract.clock import Clock
from services.contract.message import FrameHeaders, make_image_id
from services.contract.settings import ProducerSettings
from services.producer.images import Pool
from services.producer.ledger import Ledger
from services.producer.schedule import device_id

_NAP_S: Final = 0.2  # longest sleep, so that a stop is seen in time

_OUTCOMES = Counter("producer_frames", "Frames by outcome: acknowledged, failed or refused", ["outcome"])
_LATENESS = Histogram(
    "producer_lateness_seconds",
    "Sent minus intended time",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1, 10),
)


class Client(Protocol):
    """What is used of `kafka.KafkaProducer`; `send` returns a future with `add_callback` and `add_errback`."""

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> Any:
        """Take a message for delivery in the background."""


class Stop:
    """A wish to end early; `requested` may be set from a signal handler."""

    requested = False


@dataclass
class OpenLoop:
    """Sends the frames of a ledger and writes into it what becomes of them."""

    settings: ProducerSettings
    client: Client
    clock: Clock
    stop: Stop

    def run(self, ledger: Ledger, pools: dict[int, Pool]) -> None:
        """Send the frames in order until the last or until `stop`; the acknowledgements come in later.

        `pools` has the pictures of each device by global index.
        """
        frames = ledger.frames
        rows = zip(frames.device.tolist(), frames.seq.tolist(), frames.intended_ns.tolist(), strict=True)
        run_id = self.settings.run_id
        for position, (index, seq, intended_ns) in enumerate(rows):
            device = device_id(index)
            image_id = make_image_id(run_id, device, seq)
            jpeg, truth = pools[index].frame(seq, intended_ns)
            if not self._sleep_until(intended_ns):
                return
            if ledger.outstanding_bytes + len(jpeg) > self.settings.buffer_bytes:
                # kafka-python has no bound of its own: it would take frames until the memory is gone.
                ledger.refused(position, "buffer full")
                _OUTCOMES.labels("refused").inc()
                continue
            sent_ns = self.clock.now_ns()
            headers = FrameHeaders(image_id, run_id, device, seq, intended_ns, sent_ns, truth)
            self._send(ledger, position, headers, jpeg)
            _LATENESS.observe((sent_ns - intended_ns) / 1e9)

    def drain(self, ledger: Ledger) -> None:
        """Wait until every frame that was sent is acknowledged or given up, or until its time is over.

        That is a little over the delivery timeout, by which the Kafka client must have settled each frame; after a
        stop, even one that comes meanwhile, at most `drain_timeout_s`.
        """
        began_s = time.monotonic()
        stopped_s: float | None = None
        while ledger.outstanding:
            now_s = time.monotonic()
            if self.stop.requested and stopped_s is None:
                stopped_s = now_s
            if now_s - began_s > self.settings.delivery_timeout_s + 5:
                return
            if stopped_s is not None and now_s - stopped_s > self.settings.drain_timeout_s:
                return
            time.sleep(0.02)

    def _sleep_until(self, when_ns: int) -> bool:
        """Whether the time has come; False when a stop came first."""
        while not self.stop.requested:
            left_s = (when_ns - self.clock.now_ns()) / 1e9
            if left_s <= 0:
                return True
            time.sleep(min(left_s, _NAP_S))
        return False

    def _send(self, ledger: Ledger, position: int, headers: FrameHeaders, jpeg: bytes) -> None:
        size = len(jpeg)
        ledger.attempted(position, headers.sent_ns, size)
        try:
            future = self.client.send(
                self.settings.kafka_topic, value=jpeg, key=headers.device_id.encode(), headers=headers.encode()
            )
        except KafkaError as error:
            ledger.refused(position, type(error).__name__, size)
            _OUTCOMES.labels("refused").inc()
            return

        def acknowledged(_: object) -> None:
            ledger.acknowledged(position, size)
            _OUTCOMES.labels("acknowledged").inc()

        def failed(error: BaseException) -> None:
            ledger.failed(position, size, type(error).__name__)
            _OUTCOMES.labels("failed").inc()

        future.add_callback(acknowledged)
        future.add_errback(failed)
