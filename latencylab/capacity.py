"""The highest rate at which the pipeline meets an objective: doubling, then bisection with repetition at the edge."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from latencylab.quantiles import label
from latencylab.saturation import Backlog


@dataclass(frozen=True)
class Outcome:
    """Whether one run met the objective, why not, and what it measured (for tables and figures)."""

    meets: bool
    reasons: tuple[str, ...] = ()
    measured: Mapping[str, float | None] = field(default_factory=dict)


Measure = Callable[[float, int], Outcome]
"""Runs the pipeline at a rate in frames/s, for the repetition of that number (from 0), and judges the run."""


@dataclass(frozen=True)
class Objective:
    """What a run must do: a share `q` of its frames within `limit_ns`, none lost, no growing backlog."""

    q: float = 0.99
    limit_ns: int = 500_000_000

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ValueError(f"q must lie between 0 and 1, got {self.q}")
        if self.limit_ns <= 0:
            raise ValueError(f"limit_ns must be positive, got {self.limit_ns}")

    def judge(self, latencies_ns: ArrayLike, lost: int, backlog: Backlog) -> Outcome:
        """Judge a run by the latencies of its finished frames after the warm-up, shape ``(n,)``, and its lost ones.

        The frames of this run are counted: at most the share ``1 - q`` may be late, a lost frame being late. That
        is defined for any number of frames; how far another run would agree is what the repetitions are for.
        """
        latencies = np.asarray(latencies_ns)
        frames = len(latencies) + lost
        if not frames:
            raise ValueError("no frame to judge: check the run's duration and its warm-up")
        late = int((latencies > self.limit_ns).sum()) + lost
        reasons = []
        if late > round((1 - self.q) * frames, 9):
            reasons.append(f"{late} of {frames} frames took longer than {self.limit_ns / 1e6:g} ms ({label(self.q)})")
        if lost:
            reasons.append(f"{lost} frames lost")
        if backlog.growing:
            reasons.append(f"backlog growing by {backlog.slope_hz:.2f} frames/s")
        measured = {
            "frames": frames,
            "late_share": late / frames,
            "offered_hz": backlog.offered_hz,
            "achieved_hz": backlog.achieved_hz,
            "backlog_slope_hz": backlog.slope_hz,
        }
        return Outcome(not reasons, tuple(reasons), measured)


@dataclass(frozen=True)
class Plan:
    """Where to search, in frames/s: from `start_hz`, within ``[min_hz, max_hz]``, until the edge is known to the
    share `resolution`; each rate that bounds the answer is measured `repetitions` times.
    """

    start_hz: float = 1.0
    min_hz: float = 0.25
    max_hz: float = 1000.0
    resolution: float = 0.05
    repetitions: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.min_hz <= self.start_hz <= self.max_hz:
            raise ValueError(
                f"need 0 < min_hz <= start_hz <= max_hz, got {self.min_hz}, {self.start_hz}, {self.max_hz}"
            )
        if not 0.005 <= self.resolution < 1:
            raise ValueError(f"resolution must lie in [0.005, 1), got {self.resolution}")
        if self.repetitions < 1:
            raise ValueError(f"repetitions must be at least 1, got {self.repetitions}")


@dataclass(frozen=True)
class Capacity:
    """The answer in frames/s.

    `rate_hz` is the highest rate tried at which every repetition met the objective, None if there is none. Every
    repetition failed at `high_hz`, None if there is no such rate; runs at rates in between went either way, or
    were not made. With monotone odds, the rate at which a run meets the objective as often as not lies between the
    two unless R like runs agreed against them by chance, 1 in 2^R at either end. `outcomes` are those of the search,
    as a table: `rate_hz, repetition, meets, reasons` and what was measured.
    """

    rate_hz: float | None
    high_hz: float | None
    plan: Plan
    outcomes: pd.DataFrame
    reason: str | None = None


class CapacityLogError(ValueError):
    """A log of a search that can't be continued; the text names the file, the line or field, and the fix."""


class CapacityLog:
    """The outcomes of a search so far; with a path, one JSON line each, on disk before the search goes on."""

    def __init__(self, plan: Plan, path: Path | None = None, conditions: Mapping[str, Any] | None = None) -> None:
        """Continue the log at `path` or start it. `conditions` are whatever else the outcomes depend on (objective,
        experiment, backend), JSON values; a log made under a different plan or other conditions is refused.
        """
        self.outcomes: dict[tuple[float, int], Outcome] = {}
        self._path = path
        header = json.loads(json.dumps({"plan": asdict(plan), "conditions": dict(conditions or {})}))
        if path is None:
            return
        if path.exists() and self._read(path, header):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._append(header)

    def add(self, rate_hz: float, repetition: int, outcome: Outcome) -> None:
        """Record one outcome durably."""
        self.outcomes[rate_hz, repetition] = outcome
        if self._path is not None:
            self._append({"rate_hz": rate_hz, "repetition": repetition, "outcome": asdict(outcome)})

    def table(self) -> pd.DataFrame:
        """One row per outcome, in the order of measuring."""
        rows = [
            {"rate_hz": rate, "repetition": repetition, "meets": o.meets, "reasons": "; ".join(o.reasons), **o.measured}
            for (rate, repetition), o in self.outcomes.items()
        ]
        return pd.DataFrame(rows)

    def _read(self, path: Path, header: dict[str, Any]) -> bool:
        """Take in the outcomes; cut off a last line that a kill left torn. False when not even the header is whole."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.decode().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    self._compare(path, entry, header)
                    continue
                outcome = entry["outcome"]
                outcome["reasons"] = tuple(outcome["reasons"])
                self.outcomes[entry["rate_hz"], entry["repetition"]] = Outcome(**outcome)
            except (json.JSONDecodeError, KeyError, TypeError):
                raise CapacityLogError(
                    f"{path}, line {number} is not an entry: remove the file to start anew"
                ) from None
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        return bool(lines)

    @staticmethod
    def _compare(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        for part in ("plan", "conditions"):
            for name in sorted({*found[part], *wanted[part]}):
                before, now = found[part].get(name), wanted[part].get(name)
                if before != now:
                    fix = "use another file or the same value"
                    raise CapacityLogError(f"{path} was made with {name} = {before}, not {now}: {fix}")

    def _append(self, entry: dict[str, Any]) -> None:
        assert self._path is not None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def search(measure: Measure, plan: Plan, log: CapacityLog | None = None) -> Capacity:
    """Find the capacity by `plan`; what `log` already holds is not measured again.

    The next rate depends on the outcomes alone, so that a search that was killed repeats its steps from the log and
    goes on where it stopped. What `measure` raises ends the search and leaves the log whole.
    """
    log = log or CapacityLog(plan)
    return _Search(measure, plan, log).run()


class _Search:
    def __init__(self, measure: Measure, plan: Plan, log: CapacityLog) -> None:
        self._measure, self._plan, self._log = measure, plan, log
        self._tried: set[float] = set()

    def run(self) -> Capacity:
        low, high = self._bracket()
        while low is not None and not self._holds(low):  # one run was enough to pass by, not to answer
            low, high = self._halve(low), low
        if low is None:
            too_low = f"the objective was not met at min_hz {self._plan.min_hz:g} in every repetition"
            return Capacity(None, self._failing(0), self._plan, self._log.table(), too_low)
        while high is not None and high - low > self._plan.resolution * high:
            middle = float(f"{(low + high) / 2:.5g}")
            if self._holds(middle):
                low = middle
            else:
                high = middle
        failing = self._failing(low)
        reason = None if failing else f"some run met the objective at every rate up to max_hz {self._plan.max_hz:g}"
        return Capacity(low, failing, self._plan, self._log.table(), reason)

    def _bracket(self) -> tuple[float | None, float | None]:
        """A rate that met once and twice that, which did not; None for an end that the limits of the plan cut off."""
        rate = self._plan.start_hz
        if not self._meets(rate):
            lower = self._halve(rate)
            while lower is not None and not self._meets(lower):
                rate = lower
                lower = self._halve(rate)
            return lower, rate
        while rate < self._plan.max_hz:
            twice = min(2 * rate, self._plan.max_hz)
            if not self._meets(twice):
                return rate, twice
            rate = twice
        return rate, None

    def _halve(self, rate: float) -> float | None:
        return max(rate / 2, self._plan.min_hz) if rate > self._plan.min_hz else None

    def _failing(self, low: float) -> float | None:
        """The lowest rate above `low`, of those tried and then by doubling, at which every repetition fails."""
        above = sorted(rate for rate in self._tried if rate > low)
        for rate in above:
            if self._fails(rate):
                return rate
        rate = max(self._tried)
        while rate < self._plan.max_hz:
            rate = min(2 * rate, self._plan.max_hz)
            if self._fails(rate):
                return rate
        return None

    def _holds(self, rate: float) -> bool:
        return all(self._meets(rate, repetition) for repetition in range(self._plan.repetitions))

    def _fails(self, rate: float) -> bool:
        return not any(self._meets(rate, repetition) for repetition in range(self._plan.repetitions))

    def _meets(self, rate: float, repetition: int = 0) -> bool:
        self._tried.add(rate)
        if (rate, repetition) not in self._log.outcomes:
            self._log.add(rate, repetition, self._measure(rate, repetition))
        return self._log.outcomes[rate, repetition].meets
