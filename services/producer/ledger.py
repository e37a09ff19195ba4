"""What became of every scheduled frame of one producer process, and the report made of it."""

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.contract.clock import Clock
from services.producer.schedule import ScheduledFrames, device_id

_PER_MILLE: Final = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}


def percentiles(samples: NDArray[np.int64]) -> dict[str, int | None]:
    """Exact percentiles of raw samples by the nearest-rank method; all None when there is no sample."""
    if not len(samples):
        return dict.fromkeys(_PER_MILLE)
    ordered = np.sort(samples)
    # In whole numbers: as a float, 99.9 % of 1000 samples is a little more than 999 of them.
    return {name: int(ordered[-(-len(ordered) * share // 1000) - 1]) for name, share in _PER_MILLE.items()}


class Ledger:
    """One position per frame of `frames`: when it was sent, when it was acknowledged, or why it was not sent.

    The schedule's thread writes with `attempted` and `refused`, the Kafka client's thread with `acknowledged` and
    `failed`. Each list has positions of its own per frame and each running total one writer, so no lock is needed.
    """

    def __init__(self, frames: ScheduledFrames, clock: Clock) -> None:
        self.frames = frames
        self._clock = clock
        count = len(frames.seq)
        self._sent_ns = [0] * count
        self._acknowledged_ns = [0] * count
        self._reasons: list[str | None] = [None] * count
        self._handed_over = 0
        self._handed_over_bytes = 0
        self._finished = 0
        self._finished_bytes = 0

    @property
    def outstanding(self) -> int:
        """Frames that the Kafka client has neither delivered nor given up."""
        return self._handed_over - self._finished

    @property
    def outstanding_bytes(self) -> int:
        """Size of the `outstanding` frames."""
        return self._handed_over_bytes - self._finished_bytes

    def attempted(self, position: int, sent_ns: int, size_bytes: int) -> None:
        """The frame goes to the Kafka client now."""
        self._sent_ns[position] = sent_ns
        self._handed_over += 1
        self._handed_over_bytes += size_bytes

    def refused(self, position: int, reason: str, size_bytes: int = 0) -> None:
        """The frame stays here; `size_bytes` takes back an `attempted` that the client refused."""
        self._reasons[position] = reason
        if size_bytes:
            self._handed_over -= 1
            self._handed_over_bytes -= size_bytes

    def acknowledged(self, position: int, size_bytes: int) -> None:
        """The broker has the frame."""
        self._acknowledged_ns[position] = self._clock.now_ns()
        self._finished += 1
        self._finished_bytes += size_bytes

    def failed(self, position: int, size_bytes: int, reason: str) -> None:
        """The Kafka client gave the frame up."""
        self._reasons[position] = reason
        self._finished += 1
        self._finished_bytes += size_bytes

    def report(self, interrupted: bool) -> dict[str, Any]:
        """Counts, unsent frames by device, reasons and percentiles; sent + unsent = scheduled.

        ``lateness_ns`` is over all frames that went to the Kafka client. ``sent`` counts acknowledged frames only: one
        without an answer may have reached the broker all the same.
        """
        sent = np.asarray(self._sent_ns, np.int64)
        acknowledged = np.asarray(self._acknowledged_ns, np.int64)
        delivered = acknowledged > 0
        missing = np.flatnonzero(~delivered)
        unsent: dict[str, list[int]] = {}
        reasons: Counter[str] = Counter()
        for position in missing.tolist():
            device = device_id(int(self.frames.device[position]))
            unsent.setdefault(device, []).append(int(self.frames.seq[position]))
            reasons[self._reason(position, interrupted)] += 1
        tried = sent > 0
        return {
            "scheduled": len(sent),
            "sent": int(delivered.sum()),
            "unsent": len(missing),
            "unsent_frames": {device: sorted(numbers) for device, numbers in sorted(unsent.items())},
            "reasons": dict(reasons),
            "lateness_ns": percentiles((sent - self.frames.intended_ns)[tried]),
            "ack_latency_ns": percentiles((acknowledged - sent)[delivered]),
        }

    def _reason(self, position: int, interrupted: bool) -> str:
        if reason := self._reasons[position]:
            return reason
        if self._sent_ns[position]:
            return "no acknowledgement in time"
        return "interrupted" if interrupted else "not attempted"
