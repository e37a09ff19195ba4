"""Percentiles: their definition, their refusals, and the coverage of their intervals by simulation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from latencylab.percentiles import interval_ranks
from latencylab.statistics import (
    AcrossRepetitions,
    Percentile,
    across_repetitions,
    label,
    minimum_samples,
    percentile,
    percentiles,
)

QS = (0.5, 0.9, 0.99)


def latencies_ms(runs: int, n: int, rho: float, seed: int) -> np.ndarray:
    """Lognormal latencies around 100 ms whose logarithms are AR(1): shape ``(runs, n)``."""
    noise = np.random.default_rng(seed).standard_normal((runs, n + 200))
    return 100 * np.exp(0.5 * lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=1)[:, 200:])


def true_quantile_ms(q: float) -> float:
    return float(100 * np.exp(0.5 * stats.norm.ppf(q)))


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.9, 29), (0.1, 29), (0.99, 299), (0.999, 2995), (0.9999, 29956)])
def test_minimum_samples(q: float, n: int) -> None:
    assert minimum_samples(q) == n


@settings(deadline=None)
@given(q=st.floats(0.001, 0.999), confidence=st.floats(0.5, 0.999))
def test_an_interval_exists_from_the_minimum_on_and_not_before(q: float, confidence: float) -> None:
    n = minimum_samples(q, confidence)
    assert interval_ranks(n, q, confidence) is not None
    assert n == 1 or interval_ranks(n - 1, q, confidence) is None


@settings(deadline=None)
@given(q=st.floats(0.01, 0.99), extra=st.integers(0, 2000))
def test_ranks_hold_their_confidence_by_the_binomial_law(q: float, extra: int) -> None:
    n = minimum_samples(q) + extra
    ranks = interval_ranks(n, q)
    assert ranks is not None
    j, k = ranks
    assert 1 <= j < k <= n
    covered = stats.binom.cdf(k - 1, n, q) - stats.binom.cdf(j - 1, n, q)
    assert covered >= 0.95 - 1e-9
    if n > 4 * minimum_samples(q):
        assert covered < 0.99  # as wide as needed and no wider


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(299, 500), q=st.sampled_from(["0.01", "0.07", "0.5", "0.9", "0.99"]))
def test_the_value_is_the_smallest_sample_with_enough_at_or_below(seed: int, n: int, q: str) -> None:
    samples = np.random.default_rng(seed).integers(-100, 100, n)
    result = percentile(samples, float(q), independent=True)
    enough = [x for x in samples.tolist() if Fraction(int((samples <= x).sum()), n) >= Fraction(q)]
    assert result.value == min(enough)
    low, value, high = np.array([result.low, result.value, result.high], dtype=float)
    assert low <= value <= high
    assert result.n == result.n_effective == n


def test_too_few_samples_are_refused_with_a_reason() -> None:
    result = percentile(np.arange(200), 0.999)
    assert (result.value, result.low, result.high, result.n) == (None, None, None, 200)
    assert result.reason == "p99.9 needs 2995 frames, got 200"
    assert percentile([], 0.5).value is None


def test_too_few_independent_samples_have_a_value_but_no_interval() -> None:
    series = latencies_ms(1, 400, 0.95, 7)[0]
    result = percentile(series, 0.99)
    assert result.value == np.quantile(series, 0.99, method="inverted_cdf")
    assert (result.low, result.high) == (None, None)
    assert result.n_effective < 299
    assert "needs 299 independent frames" in (result.reason or "")


def test_equal_samples_have_an_interval_of_no_width() -> None:
    result = percentile(np.full(400, 7), 0.5)
    assert (result.low, result.value, result.high) == (7, 7, 7)


@pytest.mark.parametrize(("samples", "message"), [([1.0, float("nan")], "NaN"), ([[1, 2], [3, 4]], "one dimension")])
def test_bad_samples_are_refused(samples: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        percentile(samples, 0.5)


@pytest.mark.parametrize("q", [0, 1, 99])
def test_a_quantile_outside_its_range_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile([1, 2, 3], q)


def test_labels() -> None:
    assert [label(q) for q in (0.5, 0.9, 0.99, 0.999)] == ["p50", "p90", "p99", "p99.9"]


def coverage(results: list[Percentile] | list[AcrossRepetitions], truth: float) -> float:
    """Share of the intervals that hold the truth; every result must have one."""
    bounds = np.array([(r.low, r.high) for r in results], dtype=float)
    assert not np.isnan(bounds).any()
    return float(np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])))


@pytest.mark.parametrize("rho", [0.5, 0.7])
def test_intervals_within_a_run_cover_in_spite_of_autocorrelation(rho: float) -> None:
    results = [percentiles(run, QS) for run in latencies_ms(1000, 4000, rho, 11)]
    for i, q in enumerate(QS):
        assert 0.93 <= coverage([result[i] for result in results], true_quantile_ms(q)) <= 0.97, q


def test_intervals_that_call_frames_independent_do_not_cover() -> None:
    """What the allowance for dependence is for: without it, 95 % means less than 75 %."""
    runs = latencies_ms(500, 1000, 0.8, 12)
    results = [percentile(run, 0.5, independent=True) for run in runs]
    assert coverage(results, 100) < 0.75


@pytest.mark.parametrize("repetitions", [3, 5, 10])
@pytest.mark.parametrize("q", QS)
def test_intervals_across_repetitions_cover(repetitions: int, q: float) -> None:
    runs = latencies_ms(2000 * repetitions, 300, 0.8, 13)
    values = np.quantile(runs, q, axis=1, method="inverted_cdf")
    expected = np.exp(np.log(values).mean())
    results = [across_repetitions(row) for row in values.reshape(-1, repetitions)]
    assert 0.93 <= coverage(results, expected) <= 0.97


def test_one_run_has_a_value_and_no_interval() -> None:
    result = across_repetitions([5.0])
    assert (result.value, result.low, result.high, result.runs) == (5.0, None, None, 1)
    assert "repeat" in (result.reason or "")


@pytest.mark.parametrize(
    ("values", "reason"), [([5.0, None, 6.0], "1 of 3 runs"), ([], "0 of 0"), ([4.0, -1.0], "not positive")]
)
def test_what_can_not_be_reported_says_why(values: list[float | None], reason: str) -> None:
    result = across_repetitions(values)
    assert result.value is None
    assert reason in (result.reason or "")
