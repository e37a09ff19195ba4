"""A latency histogram of fixed size that merges across processes: percentiles of any run without its raw data."""

import itertools
import json
import math
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hdrh.histogram import HdrHistogram

LOWEST_NS: Final = 1_000
HIGHEST_NS: Final = 3_600_000_000_000
SIGNIFICANT_DIGITS: Final = 3
SUFFIX: Final = ".hdr.json"
"""Ending of a histogram's file; without it, the name is that of the same process's CSV and report."""

RELATIVE_ERROR: Final = 10**-SIGNIFICANT_DIGITS
"""A value that the histogram gives back lies within this share (and `LOWEST_NS`) of the one recorded."""


class HistogramError(ValueError):
    """A histogram that can't be read; the text names the file."""


class LatencyHistogram:
    """Counts latencies of 1 µs to 1 h in buckets no wider than a thousandth of the value (HdrHistogram, Gil Tene,
    http://hdrhistogram.org); about 190 KB whatever the number of frames.

    Nothing is dropped: what lies outside is counted in `negative` (clocks that disagree) and `too_long`, and
    percentiles rank it below and above everything else.
    """

    def __init__(self) -> None:
        self._counts = HdrHistogram(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
        self.negative = 0
        self.too_long = 0

    def record(self, latency_ns: int, count: int = 1) -> None:
        """Count a latency; a few microseconds of work."""
        if latency_ns < 0:
            self.negative += count
        elif latency_ns > HIGHEST_NS:
            self.too_long += count
        else:
            self._counts.record_value(latency_ns, count)

    def __len__(self) -> int:
        """The number of latencies recorded, those outside the range with them."""
        return int(self._counts.total_count) + self.negative + self.too_long

    def merge(self, other: "LatencyHistogram") -> None:
        """Add the counts of another process: exactly as if both had recorded here."""
        self._counts.add(other._counts)
        self.negative += other.negative
        self.too_long += other.too_long

    def percentile_ns(self, q: float) -> int | None:
        """The smallest latency x with ``F(x) >= q`` within the stated error; None when nothing is recorded.

        The upper end of its bucket, so never below the exact percentile. A rank among the
        negative latencies gives -1, one among the too long ones ``HIGHEST_NS + 1``.
        """
        if not 0 < q <= 1:
            raise ValueError(f"q must lie in (0, 1], got {q}")
        if not len(self):
            return None
        rank = max(1, math.ceil(round(q * len(self), 9))) - self.negative
        if rank <= 0:
            return -1
        if rank > self._counts.total_count:
            return HIGHEST_NS + 1
        seen = itertools.accumulate(self._counts.counts)
        bucket = next(index for index, count in enumerate(seen) if count >= rank)
        return int(self._counts.get_highest_equivalent_value(self._counts.get_value_from_index(bucket)))

    def encode(self) -> str:
        """One line of JSON; the counts in HdrHistogram's own compressed V2 format, which its other tools read."""
        counts = self._counts.encode().decode()
        return json.dumps({"hdr": counts, "negative": self.negative, "too_long": self.too_long})

    @classmethod
    def decode(cls, text: str) -> "LatencyHistogram":
        """What `encode` wrote; raises `HistogramError`."""
        histogram = cls()
        try:
            fields = json.loads(text)
            counts = HdrHistogram.decode(fields["hdr"])
            histogram.negative, histogram.too_long = int(fields["negative"]), int(fields["too_long"])
        except Exception as error:  # the package raises its own kinds, struct.error and zlib.error among others
            raise HistogramError(f"not a latency histogram: {error}") from error
        shape = (counts.lowest_trackable_value, counts.highest_trackable_value, counts.significant_figures)
        if shape != (LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS):
            raise HistogramError(f"a histogram of another shape: {shape}")
        histogram._counts.add(counts)
        return histogram


class HistogramFile:
    """A latency histogram and the file that holds it, replaced as a whole every `write_every_s` and at the end.

    A process that is killed leaves the histogram of up to `write_every_s` ago: its CSV, not this, is the record of
    every frame. Safe to use from several threads.
    """

    def __init__(self, path: Path, write_every_s: float = 5.0) -> None:
        self.path = path
        self.write_every_s = write_every_s
        self._histogram = LatencyHistogram()
        self._lock = threading.Lock()
        self._written = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def record(self, latencies_ns: Iterable[int]) -> None:
        """Count latencies; nothing is written."""
        with self._lock:
            for latency_ns in latencies_ns:
                self._histogram.record(latency_ns)

    def write_if_due(self) -> None:
        """Write the file if something was recorded since and `write_every_s` are over."""
        if time.monotonic() - self._written_at_s >= self.write_every_s:
            self.write()

    def write(self) -> None:
        """Write the file, unless it holds everything already; a reader sees the old one or the new one."""
        with self._lock:
            self._written_at_s = time.monotonic()
            if self._written == len(self._histogram):
                return
            self._written = len(self._histogram)
            text = self._histogram.encode()
            staged = Path(f"{self.path}.part")
            staged.write_text(text)
            staged.rename(self.path)


def merge_files(paths: Iterable[Path]) -> LatencyHistogram:
    """The sum of the histograms that the processes of a run wrote; raises `HistogramError` that names the file."""
    total = LatencyHistogram()
    for path in paths:
        try:
            total.merge(LatencyHistogram.decode(path.read_text()))
        except HistogramError as error:
            raise HistogramError(f"{path}: {error}") from error
    return total
