"""Whether the pipeline kept up with the load, or its backlog grew."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latencylab.dependence import trend


@dataclass(frozen=True)
class Window:
    """The part of a run that is judged, ns since the epoch: after the warm-up, until the last intended time."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns:
            raise ValueError(f"the window is empty: end_ns {self.end_ns} is not after start_ns {self.start_ns}")

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Backlog:
    """Growth of the backlog in frames/s with its interval, and the rates in and out of the window.

    `time_s` (from the window's start) and `backlog` are the series behind it, for the figure.
    """

    slope_hz: float
    low_hz: float
    high_hz: float
    offered_hz: float
    achieved_hz: float
    growing: bool
    time_s: np.ndarray
    backlog: np.ndarray


def backlog_series(sent_ns: ArrayLike, finished_ns: ArrayLike, window: Window, points: int = 60) -> np.ndarray:
    """The mean backlog (frames sent minus frames finished) in each of `points` equal parts of the window.

    `sent_ns` and `finished_ns` have one entry per frame sent and finished, in any order, lost frames left out of
    the second: they stay in the backlog for ever, as they should.
    """
    edges = np.linspace(0, window.end_ns - window.start_ns, points + 1)

    def area(times_ns: ArrayLike) -> np.ndarray:
        """Frame-nanoseconds until each edge: the integral of the number of events so far."""
        times = np.sort(np.asarray(times_ns, dtype=np.int64) - window.start_ns).astype(float)
        count = np.searchsorted(times, edges, side="right")
        sums = np.concatenate([[0.0], np.cumsum(np.maximum(times, 0))])
        return count * edges - sums[count]

    return np.diff(area(sent_ns) - area(finished_ns)) / np.diff(edges)


def backlog_slope(
    sent_ns: ArrayLike, finished_ns: ArrayLike, window: Window, confidence: float = 0.95, tolerance: float = 0.01
) -> Backlog:
    """Test whether the backlog grows: the slope of its least-squares line, with an interval that allows for the
    strong autocorrelation of a queue (`trend`).

    The backlog is `growing`, that is, the point is saturated, when the whole interval lies above zero and the
    slope is more than the share `tolerance` of the offered rate, which a stable queue (Le Boudec 2010, chapter 8)
    does not sustain. A window without a frame raises `ValueError`.
    """
    sent = np.asarray(sent_ns, dtype=np.int64)
    finished = np.asarray(finished_ns, dtype=np.int64)
    offered = _rate_hz(sent, window)
    if offered == 0:
        raise ValueError("no frame was sent in the window: check start_ns and end_ns")
    backlog = backlog_series(sent, finished, window)
    time_s = (np.arange(len(backlog)) + 0.5) * window.duration_s / len(backlog)
    line = trend(time_s, backlog, confidence)
    growing = line.low > 0 and line.slope > tolerance * offered
    achieved = _rate_hz(finished, window)
    return Backlog(line.slope, line.low, line.high, offered, achieved, growing, time_s, backlog)


def _rate_hz(times_ns: np.ndarray, window: Window) -> float:
    inside = (times_ns >= window.start_ns) & (times_ns <= window.end_ns)
    return float(inside.sum()) / window.duration_s
