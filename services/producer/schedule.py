"""When each camera means to send each frame: the open-loop schedule of a run.

The times follow from the experiment alone, never from the pipeline, so that a stalled pipeline can't slow down its own
load and hide the delay (coordinated omission: Gil Tene, "How NOT to Measure Latency"). They depend on the global index
of a device and not on how the devices are spread over processes: one process of eight cameras and eight processes of
one camera have the same schedule, and anybody can list every scheduled frame without asking a producer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, isfinite
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_GOLDEN: Final = (5**0.5 - 1) / 2
_POISSON_STREAM: Final = 1  # keeps these random numbers apart from those of the scenes


class TraceError(ValueError):
    """A trace file that is no schedule; the text names the file and the line."""


def device_index(producer_index: int, cameras: int, camera: int) -> int:
    """Global index of camera number `camera` of the process `producer_index`, each process having `cameras`."""
    return producer_index * cameras + camera


def device_id(index: int) -> str:
    """Name of the device with the global `index`, such as ``cam-0003``."""
    return f"cam-{index:04d}"


def read_trace(path: Path) -> tuple[float, ...]:
    """Read a trace: seconds after the start, one number per line, not decreasing; blank and ``#`` lines are skipped.

    Raises `TraceError` naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"trace file {path} can't be read: {error}") from None
    seconds: list[float] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"trace file {path}, line {number}: {text!r}"
        try:
            value = float(text)
        except ValueError:
            raise TraceError(f"{where} is not a number of seconds") from None
        if not isfinite(value) or value < 0:
            raise TraceError(f"{where} is not a time at or after the start; use seconds from 0 up")
        if seconds and value < seconds[-1]:
            raise TraceError(f"{where} is earlier than the line before it; sort the file")
        seconds.append(value)
    if not seconds:
        raise TraceError(f"trace file {path} has no times; give seconds, one per line")
    return tuple(seconds)


@dataclass(frozen=True)
class Schedule:
    """The intended times of every device of a run.

    ``constant``: exactly ``floor(rate_hz * duration_s)`` frames per device, evenly spaced. Device *i* is shifted by the
    fraction ``i * 0.618... mod 1`` of a period. That Kronecker sequence of the golden ratio keeps any number of
    devices almost evenly apart (no two of N nearer than 0.38/N of a period), so that they don't all send at one
    instant.
    ``poisson``: per device a Poisson process of `rate_hz` over `duration_s`, seeded by `seed` and the device's index.
    ``trace``: every device sends at the times of `trace` that lie before `duration_s`, as they are, without a shift.
    """

    arrivals: Literal["constant", "poisson", "trace"]
    rate_hz: float
    duration_s: float
    seed: int = 0
    trace: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.arrivals not in ("constant", "poisson", "trace"):
            raise ValueError(f"arrivals must be constant, poisson or trace, not {self.arrivals!r}")
        for name in ("rate_hz", "duration_s"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value}")
        if self.arrivals == "trace" and not any(second < self.duration_s for second in self.trace):
            raise ValueError(f"trace has no time before duration_s = {self.duration_s}")

    def offsets_ns(self, device: int) -> NDArray[np.int64]:
        """Intended times of the device with global index `device`: shape (frames,), int64, ns after the start, sorted.

        All lie in [0, duration_s). The position in the array is the frame's sequence number.
        """
        if self.arrivals == "constant":
            # As decimals, because 0.29 * 100 in binary is a little under 29 and would lose a frame.
            frames = floor(Fraction(repr(self.rate_hz)) * Fraction(repr(self.duration_s)))
            seconds = (np.arange(frames) + device * _GOLDEN % 1) / self.rate_hz
        elif self.arrivals == "poisson":
            rng = np.random.default_rng([self.seed, _POISSON_STREAM, device])
            # Given their number, the arrivals of a Poisson process are independent and uniform
            # (S. Ross, Introduction to Probability Models, "Conditional distribution of the arrival times").
            seconds = np.sort(rng.uniform(0, self.duration_s, rng.poisson(self.rate_hz * self.duration_s)))
        else:
            seconds = np.asarray([second for second in self.trace if second < self.duration_s])
        return np.floor(seconds * 1e9).astype(np.int64)

    def intended_ns(self, start_at_ns: int, device: int) -> NDArray[np.int64]:
        """`offsets_ns` as stamps: ns since the epoch, for a schedule that starts at `start_at_ns`."""
        return start_at_ns + self.offsets_ns(device)


class ScheduledFrames(NamedTuple):
    """Frames of several devices, one position per frame in three equally long arrays."""

    device: NDArray[np.int64]
    """Global device index; `device_id` names it."""
    seq: NDArray[np.int64]
    """Number of the frame within its device, from 0."""
    intended_ns: NDArray[np.int64]
    """Intended send time, ns since the epoch (since the start if that was 0)."""

    def device_ids(self) -> list[str]:
        """Name of each frame's device."""
        names = {int(index): device_id(int(index)) for index in np.unique(self.device)}
        return [names[index] for index in self.device.tolist()]


def frames_of_devices(schedule: Schedule, devices: Sequence[int], start_at_ns: int) -> ScheduledFrames:
    """Every scheduled frame of the devices with these global indices, ordered by intended time, then device."""
    times = [schedule.intended_ns(start_at_ns, index) for index in devices]
    if not times:
        return ScheduledFrames(*(np.empty(0, np.int64) for _ in range(3)))
    device = np.repeat(np.asarray(devices, np.int64), [len(t) for t in times])
    seq = np.concatenate([np.arange(len(t), dtype=np.int64) for t in times])
    intended = np.concatenate(times)
    order = np.lexsort((seq, device, intended))
    return ScheduledFrames(device[order], seq[order], intended[order])


def frames_of_run(schedule: Schedule, producers: int, cameras: int, start_at_ns: int = 0) -> ScheduledFrames:
    """Every scheduled frame of a run of `producers` processes with `cameras` cameras each."""
    return frames_of_devices(schedule, range(producers * cameras), start_at_ns)
