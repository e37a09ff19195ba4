"""The loop that both consumers share: poll, hand over, commit what is finished, report at the end."""

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import kafka
import pymongo
from kafka import KafkaConsumer
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError
from prometheus_client import Counter, Gauge

from services.contract.clock import Clock
from services.contract.database import open_collection
from services.contract.dead_letters import DeadLetters
from services.contract.delivery import OffsetTracker
from services.contract.frame_writer import FrameWriter, Records
from services.contract.histogram import SUFFIX, HistogramFile
from services.contract.kafka import consumer_config
from services.contract.latency_csv import LatencyCsv
from services.contract.message import FrameHeaders, MalformedMessageError
from services.contract.rebalance import Rebalance
from services.contract.settings import ConsumerSettings
from services.contract.status import StatusServer

log = logging.getLogger(__name__)
_received = Counter("frames_received_total", "Messages that poll returned")
_unfinished = Gauge("unfinished_frames", "Frames delivered and not yet finished")

_NO_ROOM_HEARTBEAT_S = 5.0

# A poll returns as soon as there are frames; it must outlast a join, because kafka-python 3.0.12 forgets a join that
# outlives its poll: the member then sends no heartbeats, is put out of the group, and never fetches again.
_POLL_MS = 1000


@dataclass(frozen=True)
class Frame:
    """A well-formed message and what is to be called when its effects are durable, or when it can't be handled."""

    headers: FrameHeaders
    jpeg: bytes
    row: dict[str, Any]
    received_ns: int
    finished: Callable[[], None]
    bury: Callable[[str, str], None]


class Handler(Protocol):
    """What differs between the consumers."""

    def room(self) -> int:
        """How many more frames it can take now."""

    def take(self, frames: Sequence[Frame]) -> None:
        """Start on frames that came together; returns without waiting for them."""

    def failure(self) -> BaseException | None:
        """Why the process can't go on, if it can't."""

    def report(self) -> dict[str, Any]:
        """What belongs in the final report."""

    def close(self) -> None:
        """Let go of threads and connections, once no frame is unfinished."""


class _LeftPoll(Exception):
    """A signal to end came while a poll was waiting."""


class ConsumerProcess:
    """One consumer of the frames topic, from its settings to its final report."""

    def __init__(self, settings: ConsumerSettings, group: str, columns: tuple[str, ...]) -> None:
        self.settings = settings
        self.group = group
        self.clock = Clock()
        self.tracker = OffsetTracker()
        self.dead_letters = DeadLetters(settings, group)
        stem = f"{group}-{settings.consumer_name}-{self.clock.now_ns()}"
        self._report_path = settings.output_directory / f"{stem}.json"
        csv = LatencyCsv(settings.output_directory / f"{stem}.csv", columns) if settings.write_csv else None
        self.records = Records(csv, HistogramFile(settings.output_directory / f"{stem}{SUFFIX}"))
        self.collection = open_collection(settings)
        self.writer = FrameWriter(
            self.collection, self.records, self.clock, bulk=settings.mongodb_bulk, retry_for_s=settings.retry_for_s
        )
        self._stopping = threading.Event()
        self._polling = False
        self._received = 0

    def run(self, handler: Handler) -> int:
        """Consume until SIGTERM or SIGINT; return the process's exit status (1 when it could not go on)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        config = consumer_config(self.settings, self.group)
        consumer = KafkaConsumer(**config)
        rebalance = Rebalance(consumer, self.tracker)
        self._wait_for_topic(consumer)
        consumer.subscribe([self.settings.kafka_topic], listener=rebalance)
        # A group's leader takes the first metadata that come after its first assignment for changed ones, and has the
        # group share out its partitions again (kafka-python 3.0.12): that must be over before there are frames.
        consumer.topics()
        status = StatusServer(
            self.settings,
            # Not only when they are placed: that is seen at the end of a poll, and the load begins later than that.
            ready=lambda: bool(rebalance.partitions) and not self._stopping.is_set(),
            healthy=lambda: self._failure(handler) is None,
        )
        log.info("%s ready for run %s, status on port %s", self.group, self.settings.run_id, status.port)
        try:
            self._loop(consumer, rebalance, handler)
            drained = self._failure(handler) is None and self.tracker.wait_finished(self.settings.drain_timeout_s)
            self._commit(consumer)
        finally:
            consumer.close(autocommit=False)
            status.close()
        failure = self._failure(handler)
        if drained:
            handler.close()
            self.writer.close(self.settings.drain_timeout_s)
        self.dead_letters.close()
        self.records.close()
        self.collection.database.client.close()
        self._write_report(handler, config, drained)
        if failure is not None:
            log.error("stopped with frames uncommitted: %s", failure)
        return 0 if failure is None else 1

    def _stop(self, _number: int, frame: FrameType | None) -> None:
        """Handle a signal to end. A poll that waits is left at once; only there is it safe to raise, since nothing but
        the wait is unwound: the client's own thread holds all state."""
        self._stopping.set()
        if self._polling and frame is not None and frame.f_code is threading.Condition.wait.__code__:
            raise _LeftPoll

    def _poll(self, consumer: KafkaConsumer, room: int) -> dict[Any, list[Any]]:
        self._polling = True
        try:
            return dict(consumer.poll(timeout_ms=_POLL_MS, max_records=room))
        except _LeftPoll:
            return {}
        finally:
            self._polling = False

    def _wait_for_topic(self, consumer: KafkaConsumer) -> None:
        """Join no group before the topic's partitions are known: the client would share out none of them, join again
        and then sometimes stop polling for good (seen with kafka-python 3.0.12 on a busy host)."""
        deadline_s = time.monotonic() + self.settings.retry_for_s
        while not self._stopping.is_set() and not consumer.partitions_for_topic(self.settings.kafka_topic):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no topic {self.settings.kafka_topic} within {self.settings.retry_for_s:g} s")
            time.sleep(0.1)

    def _failure(self, handler: Handler) -> BaseException | None:
        return self.writer.failure or handler.failure()

    def _loop(self, consumer: KafkaConsumer, rebalance: Rebalance, handler: Handler) -> None:
        committed_at_s = polled_at_s = time.monotonic()
        while not self._stopping.is_set() and self._failure(handler) is None:
            room = handler.room()
            if room > 0:
                batches = self._poll(consumer, room)
                received_ns = self.clock.now_ns()
                rebalance.unplaced -= set(batches)
                taken = [
                    self._take(partition, record, received_ns)
                    for partition, records in batches.items()
                    for record in records
                ]
                handler.take([frame for frame in taken if frame])
                polled_at_s = time.monotonic()
            elif time.monotonic() - polled_at_s > _NO_ROOM_HEARTBEAT_S:
                # Polling is what keeps the membership alive, so poll without taking anything.
                consumer.pause(*consumer.assignment())
                consumer.poll(timeout_ms=0)
                consumer.resume(*consumer.paused())
                polled_at_s = time.monotonic()
            else:
                time.sleep(0.001)
            rebalance.place()
            _unfinished.set(self.tracker.unfinished())
            if time.monotonic() - committed_at_s >= self.settings.commit_every_s:
                self._commit(consumer)
                committed_at_s = time.monotonic()

    def _take(self, partition: Any, record: Any, received_ns: int) -> Frame | None:
        """The frame in a record; none when it is a dead letter."""
        _received.inc()
        self._received += 1
        delivery = self.tracker.delivered(partition, record.offset)

        def finished() -> None:
            self.tracker.finished(delivery)

        def bury(reason: str, detail: str) -> None:
            self.dead_letters.send(record, reason, detail)
            finished()

        try:
            headers = FrameHeaders.decode(record.headers)
        except MalformedMessageError as error:
            bury("malformed headers", str(error))
            return None
        row = {name: getattr(headers, name) for name in FrameHeaders.__dataclass_fields__}
        row |= {"partition": record.partition, "offset": record.offset, "bytes": len(record.value)}
        return Frame(headers, record.value, row, received_ns, finished, bury)

    def _commit(self, consumer: KafkaConsumer) -> None:
        offsets = self.tracker.committable()
        if not offsets:
            return
        try:
            consumer.commit(offsets)
        except KafkaError as error:
            if not (error.retriable or isinstance(error, (CommitFailedError, RebalanceInProgressError))):
                raise
            log.warning("commit failed; it is made again, or the frames are delivered again: %r", error)
        else:
            self.tracker.committed(offsets)

    def _write_report(self, handler: Handler, config: dict[str, Any], drained: bool) -> None:
        csv = self.records.csv
        report = {
            "group": self.group,
            "consumer": self.settings.consumer_name,
            "run_id": self.settings.run_id,
            "received": self._received,
            "rows": csv.rows if csv else None,
            "csv": csv.path.name if csv else None,
            "histogram": self.records.histogram.path.name,
            "dead": self.dead_letters.counts,
            "unfinished": self.tracker.unfinished(),
            "drained": drained,
            "clock_drift_ns": self.clock.drift_ns(),
            "kafka_client": {key: value for key, value in config.items() if key != "bootstrap_servers"},
            "versions": {"kafka-python": kafka.__version__, "pymongo": pymongo.version},
            "pid": os.getpid(),
            **handler.report(),
        }
        self._report_path.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(f"{self._report_path}.part")
        staged.write_text(json.dumps(report, indent=1))
        staged.rename(self._report_path)


def set_up_logging() -> None:
    """Log to standard error, with kafka-python's chatter left out; SIGUSR2 logs where each thread is."""
    faulthandler.register(signal.SIGUSR2)
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel("WARNING")
