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

from latencylab.experiment import ExperimentError
from latencylab.paths import shown
from latencylab.quantiles import label
from latencylab.runs import RunError
from latencylab.saturation import Backlog


@dataclass(frozen=True)
class Outcome:
    """Whether one run met the objective, why not, what it measured (for tables and figures), and what limits the
    meaning of that.
    """

    meets: bool
    reasons: tuple[str, ...] = ()
    measured: Mapping[str, float | None] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()


Measure = Callable[[float, int], Outcome]
"""Runs the pipeline at a rate in frames/s, for the repetition of that number (from 0), and judges the run."""


@dataclass(frozen=True)
class Objective:
    """What a run must do: a share `q` of its frames within `limit_ns`, none lost, no growing backlog."""

    q: float = 0.99
    limit_ns: int = 500_000_000

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ExperimentError(f"q must lie between 0 and 1, got {self.q}")
        if self.limit_ns <= 0:
            raise ExperimentError(f"limit_ns must be positive, got {self.limit_ns}")

    @classmethod
    def of(cls, percentile: float, limit_ms: float) -> "Objective":
        """From a percentile in % and a limit in ms, as a user gives them."""
        return cls(round(percentile / 100, 9), round(limit_ms * 1e6))

    def told(self) -> str:
        """In words."""
        return f"{label(self.q)} within {self.limit_ns / 1e6:g} ms, no frame lost, no growing backlog"

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
            "latency_ns": _quantile_ns(latencies, lost, self.q),
            "offered_hz": backlog.offered_hz,
            "achieved_hz": backlog.achieved_hz,
            "backlog_slope_hz": backlog.slope_hz,
        }
        return Outcome(not reasons, tuple(reasons), measured)


def _quantile_ns(latencies_ns: np.ndarray, lost: int, q: float) -> float | None:
    """The latency that the share `q` of the frames did not exceed; None when too many were lost to have one."""
    rank = int(np.ceil(round(q * (len(latencies_ns) + lost), 9)))
    return float(np.sort(latencies_ns)[rank - 1]) if rank <= len(latencies_ns) else None


BLUR = 4
"""How many resolutions the upper end of the interval may lie above the highest rate at which a run met: each halving
there costs as many runs as there are repetitions, and the edge is rarely sharper than this.
"""


@dataclass(frozen=True)
class Plan:
    """Where to search, in frames/s: from `start_hz`, within ``[min_hz, max_hz]``, until the edge is known to the
    share `resolution`, and from the highest rate at which any run met to the lowest at which all fail `BLUR` times
    that; each rate that bounds the answer is measured `repetitions` times.
    """

    start_hz: float = 1.0
    min_hz: float = 0.25
    max_hz: float = 1000.0
    resolution: float = 0.05
    repetitions: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.min_hz <= self.start_hz <= self.max_hz:
            raise ExperimentError(
                f"need 0 < min_hz <= start_hz <= max_hz, got {self.min_hz}, {self.start_hz}, {self.max_hz}"
            )
        if not 0.005 <= self.resolution < 1:
            raise ExperimentError(f"resolution must lie in [0.005, 1), got {self.resolution}")
        if self.repetitions < 1:
            raise ExperimentError(f"repetitions must be at least 1, got {self.repetitions}")


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

    @property
    def confidence(self) -> float:
        """Nominal confidence of ``[rate_hz, high_hz]``: what the chance of R like runs at either end leaves of 1."""
        return 1 - 2 * 0.5**self.plan.repetitions


class CapacityLogError(RunError):
    """A record of a search that can't be read; the text names the file, the line, and the fix."""


class CapacityLog:
    """The outcomes of a search so far; with a path, also on disk: a line of JSON with the plan and the conditions,
    then one for each outcome, written before the search goes on.
    """

    def __init__(self, plan: Plan, path: Path | None = None, conditions: Mapping[str, Any] | None = None) -> None:
        """Begin a log, at `path` in place of what is there. `conditions` are whatever else the outcomes depend on
        (objective, experiment), JSON values.
        """
        self.plan = plan
        self.conditions = dict(conditions or {})
        self.outcomes: dict[tuple[float, int], Outcome] = {}
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._append({"plan": asdict(plan), "conditions": self.conditions})

    @classmethod
    def load(cls, path: Path) -> "CapacityLog":
        """Read a log, of which nothing is written any more; a last line that a kill left torn is left out."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CapacityLogError(f"{shown(path)}: {error.strerror}: no capacity search was recorded here") from None
        log = None
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
            try:
                entry = json.loads(line)
                if log is None:
                    log = cls(Plan(**entry["plan"]), conditions=entry["conditions"])
                    continue
                outcome = entry["outcome"] | {part: tuple(entry["outcome"][part]) for part in ("reasons", "caveats")}
                log.outcomes[entry["rate_hz"], entry["repetition"]] = Outcome(**outcome)
            except (ValueError, KeyError, TypeError):
                raise CapacityLogError(f"{shown(path)}, line {number} is not an entry: search again") from None
        if log is None:
            raise CapacityLogError(f"{shown(path)} is empty: search again")
        return log

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

    def _append(self, entry: dict[str, Any]) -> None:
        assert self._path is not None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def search(measure: Measure, plan: Plan, log: CapacityLog | None = None) -> Capacity:
    """Find the capacity by `plan`; what `log` already holds is not measured again.

    The next rate depends on the outcomes alone, so that a search whose outcomes are there already repeats its steps
    without measuring. What `measure` raises ends the search and leaves the log whole.
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
        if failing is not None:
            failing = self._nearest(failing)
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

    def _nearest(self, failing: float) -> float:
        """The rate at which every repetition fails, brought near the highest rate below at which one met."""
        met = max(rate for (rate, _), outcome in self._log.outcomes.items() if outcome.meets and rate < failing)
        while failing - met > BLUR * self._plan.resolution * failing:
            middle = float(f"{(met + failing) / 2:.5g}")
            if self._fails(middle):
                failing = middle
            else:
                met = middle
        return failing

    def _holds(self, rate: float) -> bool:
        return all(self._meets(rate, repetition) for repetition in range(self._plan.repetitions))

    def _fails(self, rate: float) -> bool:
        return not any(self._meets(rate, repetition) for repetition in range(self._plan.repetitions))

    def _meets(self, rate: float, repetition: int = 0) -> bool:
        self._tried.add(rate)
        if (rate, repetition) not in self._log.outcomes:
            self._log.add(rate, repetition, self._measure(rate, repetition))
        return self._log.outcomes[rate, repetition].meets
