"""Warm-up and stationarity on series whose warm-up is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from latencylab.statistics import mser, stationary_halves, warmup_cut


def steady_ms(n: int, rho: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(n + 200)
    return 100 * np.exp(0.3 * lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise)[200:])


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=10, max_size=120))
def test_mser_is_the_definition(series: list[int]) -> None:
    batches = np.array(series[: len(series) // 5 * 5], dtype=float).reshape(-1, 5).mean(axis=1)
    expected = [np.var(batches[d:]) / (len(batches) - d) for d in range(len(batches) // 2 + 1)]
    rounding = 1e-13 * max(series) ** 2  # of running sums of squares
    assert mser(series) == pytest.approx(expected, rel=1e-6, abs=rounding)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_a_decaying_warm_up_is_cut_and_little_more(rho: float) -> None:
    cuts = []
    for seed in range(50):
        series = steady_ms(1000, rho, seed)
        series[:100] += np.linspace(900, 0, 100)
        found = warmup_cut(series)
        assert found.steady
        cuts.append(found.cut)
    assert 70 <= np.median(cuts) <= 130
    assert max(cuts) <= 250


def test_a_steady_series_loses_little() -> None:
    found = [warmup_cut(steady_ms(1000, 0.5, seed)) for seed in range(100)]
    assert sum(not w.steady for w in found) <= 2
    assert np.mean([w.cut for w in found]) < 50


def test_a_series_that_never_settles_is_not_steady() -> None:
    series = steady_ms(1000, 0.5, 1) + np.linspace(0, 5000, 1000)
    found = warmup_cut(series, maximum=0.2)
    assert not found.steady
    assert found.cut == 200
    assert "no steady state" in (found.reason or "")


def test_a_longer_warm_up_than_declared_is_not_steady() -> None:
    series = steady_ms(1000, 0.0, 2)
    series[:400] += 2000
    assert not warmup_cut(series, maximum=0.25).steady
    found = warmup_cut(series, maximum=0.5)
    assert found.steady
    assert 400 <= found.cut <= 450


def test_too_few_frames_and_a_bad_maximum() -> None:
    found = warmup_cut(range(49))
    assert (found.cut, found.steady) == (0, False)
    assert "50 needed" in (found.reason or "")
    with pytest.raises(ValueError, match="maximum"):
        warmup_cut(range(100), maximum=0.9)


def test_halves_of_a_steady_series_agree() -> None:
    halves = [stationary_halves(steady_ms(500, 0.5, seed)) for seed in range(300)]
    assert 0.92 <= np.mean([h.low <= 0 <= h.high for h in halves]) <= 0.98
    assert sum(not h.stationary for h in halves) <= 12


def test_halves_that_differ_are_told_apart() -> None:
    series = steady_ms(500, 0.5, 3)
    series[250:] *= 1.5
    halves = stationary_halves(series)
    assert not halves.stationary
    assert halves.low > 0
    assert halves.difference == pytest.approx(halves.second - halves.first)
    assert "+" in (halves.reason or "")


def test_a_change_below_the_margin_does_not_matter() -> None:
    series = np.concatenate([np.full(5000, 100.0), np.full(5000, 101.0)])
    halves = stationary_halves(series)
    assert halves.stationary
    assert (halves.low, halves.high) == (1, 1)
    assert not stationary_halves(series, margin=0.005).stationary


def test_too_few_frames_are_not_called_stationary() -> None:
    halves = stationary_halves(range(20))
    assert not halves.stationary
    assert "too few" in (halves.reason or "")
