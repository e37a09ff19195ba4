"""Exact percentiles of raw latencies, with intervals that assume no distribution."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from latencylab.dependence import long_run_variance
from latencylab.quantiles import check, label, minimum_samples

_EXCEEDANCES = 30  # samples needed on either side of a level to see whether they cluster


@dataclass(frozen=True)
class Percentile:
    """The quantile `q` of `n` samples with the interval ``[low, high]``, in the samples' unit.

    `n_effective` is how many independent samples would have known as much. What could not be given is None, and
    `reason` says why.
    """

    q: float
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_effective: int
    reason: str | None = None


@dataclass(frozen=True)
class AcrossRepetitions:
    """One number of several runs: their geometric mean with an interval whose unit of replication is the run."""

    value: float | None
    low: float | None
    high: float | None
    runs: int
    reason: str | None = None


@functools.cache
def interval_ranks(n: int, q: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks ``(j, k)``, from 1, of the order statistics that enclose quantile `q` of `n` independent samples with
    at least `confidence`; None if n < `minimum_samples`.

    Half of the error lies on either side where that is possible; near the ends, the outermost sample takes what it
    must and the other side the rest. Source: David and Nagaraja, section 7.1; Le Boudec, Performance Evaluation of
    Computer and Communication Systems, 2010, theorem 2.1.
    """
    check(q, confidence)
    error = 1 - confidence
    below, above = (1 - q) ** n, q**n  # the chance that even the first, or the last, lies on the wrong side
    if below + above > error:
        return None
    left = error - above if above > error / 2 else error / 2
    right = error - below if below > error / 2 else error / 2
    j = max(1, int(stats.binom.ppf(left, n, q)))
    k = min(n, int(stats.binom.ppf(1 - right, n, q)) + 1)
    return j, k


def percentile(samples: ArrayLike, q: float, confidence: float = 0.95, *, independent: bool = False) -> Percentile:
    """Quantile `q` of `samples` (shape ``(n,)``, in the order of their intended times) with its interval.

    The value is the smallest sample x with ``F(x) >= q``, definition 1 of Hyndman and Fan, Am. Stat. 50(4), 1996
    (numpy's ``inverted_cdf``): always a latency that was seen, never interpolated. The interval takes the order
    statistics of `interval_ranks`. Unless the samples are declared `independent`, their number is first reduced to
    the effective number ``n q (1-q) / v``, v being the long-run variance of the series "sample exceeds the value"
    (Woodruff, JASA 47, 1952, with `long_run_variance` and its t quantile), so that the interval widens by as much
    as neighbouring frames are alike.

    With fewer samples than `minimum_samples` no value is given; with fewer effective ones, the value without an
    interval; `reason` says so. Raises `ValueError` for NaN or a wrong shape.
    """
    return percentiles(samples, (q,), confidence, independent=independent)[0]


def percentiles(
    samples: ArrayLike, qs: Iterable[float], confidence: float = 0.95, *, independent: bool = False
) -> list[Percentile]:
    """`percentile` for each of `qs`, sorting only once."""
    values = np.asarray(samples)
    if values.ndim != 1:
        raise ValueError(f"samples must have one dimension, not {values.ndim}")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("samples contain NaN: leave lost frames out and count them")
    ordered = np.sort(values)
    return [_percentile(values, ordered, q, confidence, independent) for q in qs]


def quantile_of_sorted(ordered: np.ndarray, q: float) -> float:
    """The smallest value x of `ordered` (ascending, shape ``(n,)``) with ``F(x) >= q``."""
    rank = math.ceil(round(q * len(ordered), 9))  # rounded: 0.07 * 100 is a little more than 7 in binary
    return ordered[max(rank, 1) - 1].item()


def _percentile(values: np.ndarray, ordered: np.ndarray, q: float, confidence: float, independent: bool) -> Percentile:
    n, needed = len(values), minimum_samples(q, confidence)
    if n < needed:
        return Percentile(q, None, None, None, n, n, f"{label(q)} needs {needed} frames, got {n}")
    value = quantile_of_sorted(ordered, q)
    effective = n if independent else _effective_samples(values, ordered, q, confidence)
    ranks = interval_ranks(effective, q, confidence)
    if ranks is None:
        reason = f"the interval of {label(q)} needs {needed} independent frames; these {n} are worth {effective}"
        return Percentile(q, value, None, None, n, effective, reason)
    # Rank r of the effective samples lies at the same height as rank r (n + 1) / (effective + 1) of all of them; only
    # the outermost stand for themselves, being the extremes of as many clusters as there are effective samples.
    j, k = ranks
    scale = (n + 1) / (effective + 1)
    low = ordered[0 if j == 1 else int(j * scale) - 1].item()
    high = ordered[n - 1 if k == effective else math.ceil(k * scale) - 1].item()
    return Percentile(q, value, low, high, n, effective)


def _effective_samples(values: np.ndarray, ordered: np.ndarray, q: float, confidence: float) -> int:
    # A handful of exceedances can't show that they cluster: judge the dependence at the quantile nearest to q that
    # has enough on either side. Extremes depend on one another no more than the bulk does, so this errs to caution.
    enough = min(0.5, _EXCEEDANCES / len(values))
    level = min(max(q, enough), 1 - enough)
    exceeds = values > quantile_of_sorted(ordered, level)
    share = exceeds.mean()
    if len(values) < 4 or share in (0, 1):  # too few to tell, or ties: nothing shows a dependence
        return len(values)
    variance = long_run_variance(exceeds)
    widening = (variance.t_quantile(confidence) / stats.norm.ppf(0.5 + confidence / 2)) ** 2
    inflation = widening * variance.value / (share * (1 - share))
    return int(len(values) / max(1.0, inflation))


def across_repetitions(per_run_values: Iterable[float | None], confidence: float = 0.95) -> AcrossRepetitions:
    """The reported value of one number measured in several runs, with Student's t interval over the runs.

    Frames of one run share a warm-up, a placement and a seed, so only another run is a replication (Kalibera and
    Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013; Le Boudec, 2010, section 2.2). Latencies are
    skewed to the right, so the interval is taken of their logarithms and the value is the geometric mean.

    One run gives a value without an interval; a run without a value (None) gives nothing, since leaving it out
    would favour the runs that happened to be measurable; nor does a value of zero or less, which only clocks that
    disagree can give.
    """
    check(0.5, confidence)
    values = list(per_run_values)
    present = [value for value in values if value is not None]
    if not values or len(present) < len(values):
        missing = len(values) - len(present)
        return AcrossRepetitions(None, None, None, len(values), f"{missing} of {len(values)} runs have no value")
    if min(present) <= 0:
        return AcrossRepetitions(None, None, None, len(values), "a run's value is not positive: check its clocks")
    logs = np.log(present)
    if len(logs) == 1:
        return AcrossRepetitions(float(present[0]), None, None, 1, "one run has no interval: repeat it")
    half = stats.t.ppf(0.5 + confidence / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, value, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half]).tolist()
    return AcrossRepetitions(value, low, high, len(logs))
