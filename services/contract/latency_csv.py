"""The latency CSV that every consumer process leaves: one header line, one row per frame it finished."""

import csv
import io
import os
import time
from pathlib import Path
from typing import Any, Final

_IDENTITY = ("run_id", "image_id", "device_id", "seq", "partition", "offset", "bytes", "truth")

INFERENCE_COLUMNS: Final = (
    *_IDENTITY,
    "intended_ns",
    "sent_ns",
    "received_ns",
    "requested_ns",
    "answered_ns",
    "labelled_ns",
    "write_ns",  # the labelled_ns inside the document: when the write was issued, since no document knows its own ack
    "server_queue_ns",
    "server_decode_ns",
    "server_inference_ns",
    "attempts",
    "label",
    "class_id",
    "score",
)
"""Columns of an inference consumer's file; times in ns since the epoch, durations in ns."""

STORAGE_COLUMNS: Final = (
    *_IDENTITY,
    "intended_ns",
    "sent_ns",
    "storage_received_ns",
    "stored_ns",
    "write_ns",  # the stored_ns inside the document
    "attempts",
)
"""Columns of a DB consumer's file; times in ns since the epoch."""


class LatencyCsv:
    """Appends rows to a latency CSV.

    A consumer flushes after MongoDB's acknowledgement and before it commits the offsets, so a row can be missing
    only for a frame that will be delivered again. `flush` hands the rows to the operating system (they survive the
    process being killed); `close` also fsyncs them (they survive the machine).
    """

    def __init__(self, path: Path, columns: tuple[str, ...], flush_every_s: float = 1.0) -> None:
        """Open `path`, which must not exist yet: a consumer process never writes into another's file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = 0
        # Rows gather in memory and leave in one write, so that a killed process leaves whole lines only.
        self._file = path.open("xb", buffering=0)
        self._gathered = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._gathered, columns, extrasaction="raise")
        self._writer.writeheader()
        self._flush_every_s = flush_every_s
        self.flush()

    def write(self, row: dict[str, Any]) -> None:
        """Add one row; it reaches the operating system within `flush_every_s` of the next write, or at `flush`."""
        self._writer.writerow(row)
        self.rows += 1
        if time.monotonic() - self._flushed_at_s >= self._flush_every_s:
            self.flush()

    def flush(self) -> None:
        """Hand all rows to the operating system."""
        left = memoryview(self._gathered.getvalue().encode())
        while left:  # a raw write may take less than it is given, as on a disk that is almost full
            left = left[self._file.write(left) :]
        self._gathered.seek(0)
        self._gathered.truncate()
        self._flushed_at_s = time.monotonic()

    def close(self) -> None:
        """Flush, fsync and close; closing twice is fine."""
        if self._file.closed:
            return
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()
