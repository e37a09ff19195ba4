"""Where the warm-up of a run ends, and whether what follows is steady."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latencylab.dependence import long_run_variance, t_quantile

_BATCH = 5


@dataclass(frozen=True)
class WarmUp:
    """The first `cut` samples are warm-up. `steady` is False when the cut would exceed the declared maximum."""

    cut: int
    steady: bool
    reason: str | None = None


@dataclass(frozen=True)
class Halves:
    """Mean of the second half minus that of the first, in the series' unit, with its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    stationary: bool
    reason: str | None = None


def mser(series: ArrayLike) -> np.ndarray:
    """The MSER-5 statistic for each number of leading batches of 5 left out, up to half of them; shape ``(m,)``.

    It is the squared standard error of the mean of the batch means that stay. Source: White, "An Effective
    Truncation Heuristic for Bias Reduction in Simulation Output", Simulation 69(6), 1997; with batches: White,
    Cobb and Spratt, WSC 2000.
    """
    values = np.asarray(series, dtype=float)
    batches = values[: len(values) // _BATCH * _BATCH].reshape(-1, _BATCH).mean(axis=1)
    m = len(batches)
    left = m - np.arange(m // 2 + 1)
    centred = batches - batches.mean()  # sums of squares of large numbers would lose the small differences
    sums = np.cumsum(centred[::-1])[::-1][: len(left)]
    squares = np.cumsum(centred[::-1] ** 2)[::-1][: len(left)]
    return np.maximum(squares - sums**2 / left, 0) / left**2


def warmup_cut(series: ArrayLike, maximum: float = 0.25) -> WarmUp:
    """How many leading samples of `series` (latencies, shape ``(n,)``, in the order of their intended times) are
    warm-up, by MSER-5, and at most the share `maximum` of them.

    The truncation that makes the mean of the rest most precise. A minimum beyond `maximum` means that the series
    was still moving ("no steady state"), unless cutting there gains less than a tenth over the best cut allowed,
    since in a steady series the statistic is flat and its minimum lies anywhere (White 1997 discards runs whose
    minimum lies in the second half). Fewer than 50 samples can't show a warm-up: cut 0 with a reason.
    """
    if not 0 < maximum <= 0.5:
        raise ValueError(f"maximum must lie in (0, 0.5], got {maximum}")
    values = np.asarray(series, dtype=float)
    if len(values) < 10 * _BATCH:
        return WarmUp(0, False, f"{len(values)} frames are too few to detect the warm-up ({10 * _BATCH} needed)")
    statistic = mser(values)
    allowed = int(maximum * len(values)) // _BATCH
    best = int(np.argmin(statistic[: allowed + 1]))
    if statistic.min() < 0.9 * statistic[best]:
        return WarmUp(allowed * _BATCH, False, f"no steady state: still moving after {maximum:.0%} of the frames")
    return WarmUp(best * _BATCH, True)


def stationary_halves(series: ArrayLike, confidence: float = 0.95, margin: float = 0.1) -> Halves:
    """Whether the mean of the second half of `series` differs from that of the first.

    They differ when the interval of the difference (Welch's, over the long-run variances of the halves) excludes
    zero and the difference exceeds `margin` times the first half's mean: a long run can show a change too small to
    matter. The comparison of two halves follows Geweke (Bayesian Statistics 4, 1992). Fewer than 50 samples: not
    stationary, with a reason.
    """
    values = np.asarray(series, dtype=float)
    if len(values) < 50:
        nothing = float("nan")
        too_few = f"{len(values)} frames are too few to compare halves (50 needed)"
        return Halves(nothing, nothing, nothing, nothing, nothing, False, too_few)
    halves = np.array_split(values, 2)
    variances = [long_run_variance(half, terms=4) for half in halves]
    errors = [variance.value / len(half) for variance, half in zip(variances, halves, strict=True)]
    spread = sum(errors)
    first, second = (float(half.mean()) for half in halves)
    difference = second - first
    if spread == 0:
        width = 0.0
    else:
        parts = sum(error**2 / v.degrees_of_freedom for error, v in zip(errors, variances, strict=True))
        width = t_quantile(confidence, spread**2 / parts) * spread**0.5
    low, high = difference - width, difference + width
    moved = (low > 0 or high < 0) and abs(difference) > margin * abs(first)
    reason = f"the mean moved by {difference / first:+.0%} from the first half to the second" if moved else None
    return Halves(first, second, difference, low, high, not moved, reason)
