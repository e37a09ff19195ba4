"""How much a correlated series knows about its own mean: neighbouring frames wait in the same queue."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, stats


@functools.cache
def t_quantile(confidence: float, degrees_of_freedom: float) -> float:
    """The two-sided critical value of Student's t."""
    return float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom))


@dataclass(frozen=True)
class LongRunVariance:
    """``value / n`` is the variance of the mean of the series; `degrees_of_freedom` belongs to its t quantile."""

    value: float
    degrees_of_freedom: int

    def t_quantile(self, confidence: float) -> float:
        """The two-sided critical value of Student's t at `confidence`."""
        return t_quantile(confidence, self.degrees_of_freedom)


def long_run_variance(series: ArrayLike, terms: int | None = None) -> LongRunVariance:
    """The equally weighted cosine estimate of the long-run variance of `series` (shape ``(n,)``, in time order).

    The mean square of the first B cosine coefficients of the series, with t critical values of B degrees of
    freedom; B is `terms`, or ``0.4 n^(2/3)``: fewer for a series that remembers longer. Against the Newey-West
    (1987) estimate with normal critical values it trades a little power for intervals that hold their coverage in
    short, strongly correlated series.

    Source: Lazarus, Lewis, Stock and Watson, "HAR Inference: Recommendations for Practice", JBES 36(4), 2018,
    equations 4 and 10; Müller, J. Econometrics 141, 2007. Raises `ValueError` for fewer than 4 values.
    """
    values = np.asarray(series, dtype=float)
    if len(values) < 4:
        raise ValueError(f"a long-run variance needs at least 4 values, got {len(values)}")
    terms = terms or max(2, int(0.4 * len(values) ** (2 / 3)))
    coefficients = fft.dct(values - values.mean(), type=2, norm="ortho")[1 : terms + 1]
    return LongRunVariance(float(np.mean(coefficients**2)), terms)


@dataclass(frozen=True)
class Trend:
    """Slope of a least-squares line per unit of time, with its interval."""

    slope: float
    low: float
    high: float


def trend(time: ArrayLike, series: ArrayLike, confidence: float = 0.95) -> Trend:
    """The linear trend of `series` (shape ``(n,)``) sampled at evenly spaced `time`, errors being autocorrelated.

    The error of the slope is ``sqrt(v / sum((t - mean t)^2))``, v being the long-run variance from the first four
    cosines made orthogonal to a constant and a line, so that fitting the line takes nothing from it. Four terms
    and their wide t quantile hold the coverage for errors as correlated as a queue's backlog. Source: Lazarus et
    al., 2018; Müller and Watson, Econometrica 76(5), 2008, for the detrended cosines. Raises `ValueError` for
    fewer than 12 values.
    """
    times, values = np.asarray(time, dtype=float), np.asarray(series, dtype=float)
    if len(values) < 12:
        raise ValueError(f"a trend with an interval needs at least 12 values, got {len(values)}")
    terms = 4
    centred = times - times.mean()
    position = (np.arange(len(values)) + 0.5) / len(values)
    cosines = np.cos(np.pi * np.outer(position, np.arange(1, terms + 1)))
    basis = np.linalg.qr(np.column_stack([np.ones(len(values)), centred, cosines]))[0][:, 2:]
    variance = LongRunVariance(float(np.mean((values @ basis) ** 2)), terms)
    scale = float(centred @ centred)
    slope = float(centred @ values) / scale
    half = variance.t_quantile(confidence) * (variance.value / scale) ** 0.5
    return Trend(slope, slope - half, slope + half)
