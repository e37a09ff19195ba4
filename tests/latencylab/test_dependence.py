"""The long-run variance and the trend against processes whose answers are known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from latencylab.dependence import long_run_variance, trend


def autoregressive(shape: tuple[int, int], rho: float, seed: int) -> np.ndarray:
    """Stationary AR(1) series of unit variance, one a row."""
    noise = np.random.default_rng(seed).standard_normal((shape[0], shape[1] + 200))
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=1)[:, 200:]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_long_run_variance_of_an_autoregression(rho: float) -> None:
    estimates = [long_run_variance(series).value for series in autoregressive((300, 2000), rho, 1)]
    assert np.mean(estimates) == pytest.approx((1 + rho) / (1 - rho), rel=0.08)


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        long_run_variance([1, 2, 3])
    with pytest.raises(ValueError, match="at least 12"):
        trend(range(5), range(5))


def test_an_exact_line_has_its_slope_and_no_doubt() -> None:
    time = np.arange(60) * 0.5
    line = trend(time, 3 + 2.5 * time)
    assert line.slope == pytest.approx(2.5)
    assert line.high - line.low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_interval_of_a_trend_covers_in_spite_of_autocorrelation(rho: float) -> None:
    time = np.arange(60.0)
    lines = [trend(time, 0.1 * time + errors) for errors in autoregressive((2000, 60), rho, 2)]
    assert 0.93 <= np.mean([line.low <= 0.1 <= line.high for line in lines]) <= 0.97
