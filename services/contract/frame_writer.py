"""Writes to MongoDB in bulk and, once they are acknowledged, to the latency CSV; only then is a frame finished."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from prometheus_client import Counter, Histogram
from pymongo import UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError, ConnectionFailure, ExecutionTimeout
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from services.contract.clock import Clock
from services.contract.histogram import HistogramFile
from services.contract.latency_csv import LatencyCsv

log = logging.getLogger(__name__)
_written = Counter("frames_written_total", "Frames whose update MongoDB acknowledged")
_write_seconds = Histogram("mongodb_bulk_write_seconds", "Time of one bulk write to MongoDB")
_retries = Counter("mongodb_retries_total", "Bulk writes tried again")

_TRANSIENT = (AutoReconnect, ConnectionFailure, ExecutionTimeout)
_DUPLICATE_KEY = 11000


class _RacedUpsertError(Exception):
    """Two consumers upserted the same new document at the same time; the loser only has to write again."""


@dataclass(frozen=True)
class FrameWrite:
    """One frame's update of `iot.frames` and its row of the latency CSV.

    ``stamp_path`` is the dotted field that receives the time at which the write was issued, ``ack_column`` the CSV
    column that receives the time of the acknowledgement.
    """

    image_id: str
    fields: dict[str, Any]
    stamp_path: str
    row: dict[str, Any]
    ack_column: str
    finished: Callable[[], None]
    refused: Callable[[str], None]
    attempts: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True)
class Records:
    """Where the latencies go: each frame's row, and the histogram of them all."""

    csv: LatencyCsv | None
    histogram: HistogramFile

    def close(self) -> None:
        """Leave both files whole."""
        if self.csv is not None:
            self.csv.close()
        self.histogram.write()


class FrameWriter:
    """A thread that takes `FrameWrite`s off the critical path, as many at a time as have gathered.

    A lost connection is retried with backoff for ``retry_for_s``; the updates are idempotent, so writing twice
    changes nothing. When that time is over, `failure` is set and nothing more is finished: the process must end and
    leave its offsets uncommitted.
    """

    def __init__(
        self, collection: Any, records: Records, clock: Clock, *, bulk: int = 32, retry_for_s: float = 240.0
    ) -> None:
        self._collection = collection
        self._csv = records.csv
        self._histogram = records.histogram
        self._clock = clock
        self._bulk = bulk
        self._retry_for_s = retry_for_s
        self._queue: queue.SimpleQueue[FrameWrite | None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="frame-writer", daemon=True)
        self._thread.start()

    def put(self, write: FrameWrite) -> None:
        """Queue one frame; returns at once."""
        self._queue.put(write)

    def close(self, timeout_s: float) -> None:
        """Write what is queued, then stop. Raises `TimeoutError` if that takes longer than `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"MongoDB did not take the last frames within {timeout_s:.0f} s")

    def _run(self) -> None:
        try:
            last = False
            while not last:
                batch, last = self._gather()
                if batch:
                    self._write(batch)
                self._histogram.write_if_due()
        except BaseException as error:
            log.exception("writing to MongoDB failed for good")
            self.failure = error

    def _gather(self) -> tuple[list[FrameWrite], bool]:
        """The frames that have gathered, and whether they are the last; no frame when none comes for a while."""
        batch: list[FrameWrite] = []
        try:
            item = self._queue.get(timeout=self._histogram.write_every_s)
        except queue.Empty:
            return batch, False
        while item is not None:
            batch.append(item)
            if len(batch) == self._bulk:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: list[FrameWrite]) -> None:
        again = retry_if_exception_type((*_TRANSIENT, _RacedUpsertError))
        retrying = Retrying(
            retry=again,
            stop=stop_after_delay(self._retry_for_s),
            wait=wait_random_exponential(0.05, max=5),
            before_sleep=lambda _: _retries.inc(),
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                write_ns, ack_ns, refusals = self._write_once(batch)
        for index, item in enumerate(batch):
            if index in refusals:
                item.refused(refusals[index])
            elif self._csv is not None:
                stamps = {"write_ns": write_ns, item.ack_column: ack_ns}
                self._csv.write({**item.row, **stamps, "attempts": item.row.get("attempts", item.attempts[0])})
        if self._csv is not None:
            self._csv.flush()
        for index, item in enumerate(batch):
            if index not in refusals:
                item.finished()
                _written.inc()
        # Last, so that no offset waits for it.
        self._histogram.record(
            ack_ns - item.row["intended_ns"] for index, item in enumerate(batch) if index not in refusals
        )

    def _write_once(self, batch: list[FrameWrite]) -> tuple[int, int, dict[int, str]]:
        """One bulk write: (issued at, acknowledged at, {index: why MongoDB refused it})."""
        write_ns = self._clock.now_ns()
        operations = []
        for item in batch:
            item.attempts[0] += 1
            update = {"$set": {**item.fields, item.stamp_path: write_ns}}
            operations.append(UpdateOne({"_id": ObjectId(item.image_id)}, update, upsert=True))
        refusals: dict[int, str] = {}
        with _write_seconds.time():
            try:
                self._collection.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                problems = error.details.get("writeErrors", [])
                if any(problem["code"] == _DUPLICATE_KEY for problem in problems):
                    raise _RacedUpsertError from error
                if not problems:
                    raise
                refusals = {problem["index"]: problem["errmsg"] for problem in problems}
        return write_ns, self._clock.now_ns(), refusals
