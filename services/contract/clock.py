"""One clock per process: wall time read once, carried on by the monotonic clock."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class _Anchor:
    wall_ns: int
    monotonic_ns: int
    bound_ns: int


def _read_anchor(attempts: int = 32) -> _Anchor:
    """Pair the two clocks, keeping the attempt whose two monotonic readings lie closest together."""
    best: _Anchor | None = None
    for _ in range(attempts):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best.bound_ns:
            best = _Anchor(wall, (before + after) // 2, after - before)
    assert best is not None
    return best


class Clock:
    """Nanoseconds since the epoch that can't run backwards.

    ``CLOCK_REALTIME`` is read once, when the clock is made; from then on ``CLOCK_MONOTONIC`` carries the time, so
    that a step of the wall clock (NTP, a person) can't make a stage negative. `drift_ns` says how far the wall
    clock has moved away since: a process whose drift is large has stamps that other hosts would not agree with.
    """

    def __init__(self) -> None:
        self._anchor = _read_anchor()

    def now_ns(self) -> int:
        """The time now, in nanoseconds since the epoch."""
        return self._anchor.wall_ns + time.monotonic_ns() - self._anchor.monotonic_ns

    def drift_ns(self) -> int:
        """Wall clock minus this clock, in nanoseconds: positive when the wall clock ran ahead or was stepped on."""
        current = _read_anchor()
        return current.wall_ns - (self._anchor.wall_ns + current.monotonic_ns - self._anchor.monotonic_ns)

    def sleep_until(self, when_ns: int) -> None:
        """Return at `when_ns` or as soon after as the system lets us; at once if it has passed."""
        while (left := when_ns - self.now_ns()) > 0:
            time.sleep(left / 1e9)
