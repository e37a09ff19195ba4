"""Whether B is slower than A: percentiles of repeated runs, the change between them, and a verdict per point."""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from latencylab.percentiles import across_repetitions, percentiles
from latencylab.quantiles import label

Verdict = Literal["better", "worse", "equivalent", "cannot tell"]
RunValues = Mapping[float, Sequence[float | None]]
"""For each quantile, one value per run in ns; None where the run had too few frames for it."""

_ENUMERATED = 20_000  # splits counted out one by one: up to 8 runs against 8
_SAMPLED = 19_999  # random splits beyond that


@dataclass(frozen=True)
class Rule:
    """When a change counts. `margin` is the relative change too small to matter; `points` is how many verdicts
    share the error ``1 - confidence``, such as those of a sweep behind one exit status.
    """

    confidence: float = 0.95
    margin: float = 0.05
    qs: tuple[float, ...] = (0.5, 0.9, 0.99)
    points: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.margin > 0:
            raise ValueError(f"margin must be positive, got {self.margin}")
        if not self.qs:
            raise ValueError("qs must name at least one quantile")


@dataclass(frozen=True)
class Change:
    """One percentile of two systems: geometric means over the runs in ns, and ``b / a - 1`` with its interval.

    `more_repetitions` is None unless the verdict is "cannot tell" and repeating can help.
    """

    q: float
    a_ns: float | None
    b_ns: float | None
    change: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    more_repetitions: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PointComparison:
    """The changes of one point and the verdict they give together."""

    changes: tuple[Change, ...]
    verdict: Verdict
    more_repetitions: int | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}" if self.reason else self.verdict


def run_values(runs: Iterable[ArrayLike], qs: Iterable[float]) -> dict[float, list[float | None]]:
    """The percentiles of each of `runs` (latencies in ns, shape ``(n,)`` each), as `compare_point` takes them."""
    levels = tuple(qs)
    found = [percentiles(run, levels, independent=True) for run in runs]  # only the values are wanted
    return {q: [own[i].value for own in found] for i, q in enumerate(levels)}


def shift_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """The interval of the shift from `a` to `b` (shapes ``(n,)`` and ``(m,)``) that permutation tests of the
    difference of means don't reject; None when there are too few values for any to be rejected.

    Swapping a part S of `a` with an equally large part T of `b` makes the difference of means more extreme exactly
    when the true shift exceeds ``mean(T) - mean(S)``, so the bounds are order statistics of these numbers. The level
    is exact for any distribution and any number of runs, where a bootstrap's is not for few: all splits are counted
    up to 20,000, and as many random ones drawn beyond (seeded). Sources: Tritchler, JASA 79, 1984; Dwass, Ann. Math.
    Stat. 28, 1957, for random splits; Kalibera and Jones, ISMM 2013, for runs as the unit.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n = len(first)
    members = _splits(n, n + len(second))
    rank = math.floor((1 - confidence) / 2 * len(members) + 1e-9)
    if rank < 1:
        return None
    swapped = members[:, n:].sum(axis=1)
    sums = members[:, n:] @ second - (1 - members[:, :n]) @ first
    identical = int((swapped == 0).sum()) - 1  # random splits may draw the one observed again
    rank = max(1, rank - identical)
    shifts = np.sort(sums[swapped > 0] / swapped[swapped > 0])
    return float(shifts[rank - 1]), float(shifts[-rank])


@functools.lru_cache(maxsize=4)
def _splits(n: int, total: int) -> np.ndarray:
    """All ways, or many random ones, to take `n` of `total` values, the one observed first: 0 and 1, one a row."""
    if math.comb(total, n) <= _ENUMERATED:
        chosen = np.array(list(itertools.combinations(range(total), n)))
    else:
        order = np.random.default_rng(0).random((_SAMPLED, total)).argsort(axis=1)
        chosen = np.vstack([np.arange(n), order[:, :n]])
    members = np.zeros((len(chosen), total))
    np.put_along_axis(members, chosen, 1, axis=1)
    return members


def minimum_repetitions(confidence: float = 0.95) -> int:
    """Runs of each system without which `shift_interval` has no interval: 4 at 95 %."""
    n = 1
    while math.floor((1 - confidence) / 2 * math.comb(2 * n, n) + 1e-9) < 1:
        n += 1
    return n


def compare_point(a: RunValues, b: RunValues, rule: Rule | None = None) -> PointComparison:
    """Compare two systems at one point by the percentiles of their runs.

    Each percentile is "equivalent" when its interval lies within the margin, "worse" or "better" when it excludes no
    change, else "cannot tell". The point is worse when any percentile is; else it is undecided when any is; else it
    is better when any is. The intervals hold together (Bonferroni over percentiles and ``rule.points``), so that
    identical systems are called different in at most ``1 - confidence`` of comparisons. Percentiles are compared by
    their ratio. Those that a run has too few frames for are left out with a reason; when that leaves none, nothing
    can be told.
    """
    rule = rule or Rule()
    usable = [q for q in rule.qs if _unusable(a, b, q) is None]
    confidence = 1 - (1 - rule.confidence) / (max(1, len(usable)) * rule.points)
    changes = tuple(_change(a, b, q, confidence, rule.margin) for q in rule.qs)
    decided = [change for change in changes if change.q in usable]
    if not decided:
        return PointComparison(changes, "cannot tell", None, "; ".join(c.reason for c in changes if c.reason))
    for verdict in ("worse", "cannot tell", "better"):
        own = [change for change in decided if change.verdict == verdict]
        if own and verdict == "cannot tell":
            more = max(change.more_repetitions or 1 for change in own)
            return PointComparison(changes, verdict, more, f"needs {more} more repetition{'s' if more > 1 else ''}")
        if own:
            reason = ", ".join(f"{label(c.q)} {c.change:+.1%}" for c in own)
            return PointComparison(changes, verdict, None, reason)
    return PointComparison(changes, "equivalent", None, f"within {rule.margin:.0%}")


def compare_sweeps(
    a: Mapping[str, RunValues], b: Mapping[str, RunValues], rule: Rule | None = None
) -> dict[str, PointComparison]:
    """`compare_point` for every point of either sweep, by its name; a point that only one has can't be told.

    The verdicts share the error, so that two identical sweeps show any difference in at most 5 % of comparisons.
    """
    rule = rule or Rule()
    shared = [name for name in a if name in b]
    rule = replace(rule, points=rule.points * max(1, len(shared)))
    result = {}
    for name in [*a, *(name for name in b if name not in a)]:
        if name in shared:
            result[name] = compare_point(a[name], b[name], rule)
        else:
            result[name] = PointComparison((), "cannot tell", None, f"only {'A' if name in a else 'B'} has this point")
    return result


def exit_status(comparisons: Iterable[PointComparison]) -> int:
    """0 when every point is better or equivalent, 1 when any is worse, 3 when none is worse but some can't be told
    or there is none (2 is the command line's own, for wrong usage).
    """
    verdicts = {comparison.verdict for comparison in comparisons}
    if "worse" in verdicts:
        return 1
    return 3 if "cannot tell" in verdicts or not verdicts else 0


def change_table(comparison: PointComparison) -> pd.DataFrame:
    """The changes as a table, one row per percentile, index its label; columns as in `Change`."""
    rows = [{"percentile": label(change.q), **vars(change)} for change in comparison.changes]
    return pd.DataFrame(rows).set_index("percentile")


def quantile_shift(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], qs: Iterable[float] = (), confidence: float = 0.95
) -> pd.DataFrame:
    """The shift function: for each of `qs` (default 5 % to 95 % by fives) the change from `a` to `b`, which are the
    latencies of each run in ns. Columns `q, a_ns, b_ns, change, low, high`; each interval holds for itself alone.

    Source: Doksum, Ann. Stat. 2, 1974; with runs as the unit of replication.
    """
    levels = tuple(qs) or tuple(round(0.05 * i, 2) for i in range(1, 20))
    first, second = run_values(a, levels), run_values(b, levels)
    changes = [_change(first, second, q, confidence, margin=1.0) for q in levels]
    return pd.DataFrame([vars(change) for change in changes])[["q", "a_ns", "b_ns", "change", "low", "high"]]


def _unusable(a: RunValues, b: RunValues, q: float) -> str | None:
    for name, system in (("A", a), ("B", b)):
        reported = across_repetitions(system.get(q, ()))
        if reported.value is None:
            return f"{label(q)} of {name}: {reported.reason}"
    return None


def _change(a: RunValues, b: RunValues, q: float, confidence: float, margin: float) -> Change:
    reason = _unusable(a, b, q)
    if reason is not None:
        a_ns, b_ns = (across_repetitions(system.get(q, ())).value for system in (a, b))
        return Change(q, a_ns, b_ns, None, None, None, "cannot tell", None, reason)
    logs_a, logs_b = (np.log(np.asarray(system[q], dtype=float)) for system in (a, b))
    shift = float(logs_b.mean() - logs_a.mean())
    means = math.exp(logs_a.mean()), math.exp(logs_b.mean())
    fewest = min(len(logs_a), len(logs_b))
    interval = shift_interval(logs_a, logs_b, confidence)
    if interval is None:
        more = max(1, minimum_repetitions(confidence) - fewest)
        reason = f"{len(logs_a)} and {len(logs_b)} runs are too few for an interval"
        return Change(q, *means, math.expm1(shift), None, None, "cannot tell", more, reason)
    low, high = interval
    verdict = _verdict(low, high, math.log1p(margin))
    more_or_none = None
    if verdict == "cannot tell":
        more_or_none = max(1, _repetitions(logs_a, logs_b, confidence, math.log1p(margin)) - fewest)
    bounds = math.expm1(low), math.expm1(high)
    return Change(q, *means, math.expm1(shift), *bounds, verdict, more_or_none)


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if -margin <= low and high <= margin:
        return "equivalent"
    if low > 0:
        return "worse"
    return "better" if high < 0 else "cannot tell"


def _repetitions(a: np.ndarray, b: np.ndarray, confidence: float, margin: float) -> int:
    """Runs of each at which an interval as wide as Student's, around the shift seen, would give a verdict."""
    shift = abs(b.mean() - a.mean())
    wanted = max(shift, margin - shift)
    spread = math.sqrt((len(a) * a.var() + len(b) * b.var()) / (len(a) + len(b) - 2))
    counts = np.unique(np.geomspace(2, 100_000, 2000).astype(int))
    half = stats.t.ppf(0.5 + confidence / 2, 2 * counts - 2) * spread * np.sqrt(2 / counts)
    enough = counts[half <= wanted]
    return int(enough[0]) if len(enough) else int(counts[-1])
