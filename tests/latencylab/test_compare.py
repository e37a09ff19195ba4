"""Comparisons of simulated systems whose difference is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from latencylab import compare
from latencylab.compare import PointComparison, Rule


def runs(repetitions: int, seed: int, scale: float = 1.0, frames: int = 350) -> list[np.ndarray]:
    """Latencies in ns of a point's runs: lognormal, autocorrelated, and each run a little different from the next."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((repetitions, frames + 100))
    series = lfilter([math.sqrt(1 - 0.6**2)], [1, -0.6], noise, axis=1)[:, 100:]
    levels = rng.normal(0, 0.03, (repetitions, 1))
    return list((1e8 * scale * np.exp(0.3 * series + levels)).astype("int64"))


def values(repetitions: int, seed: int, scale: float = 1.0) -> dict[float, list[float | None]]:
    return compare.run_values(runs(repetitions, seed, scale), Rule().qs)


@pytest.mark.parametrize(("confidence", "n"), [(0.95, 4), (1 - 0.05 / 3, 5), (1 - 0.05 / 12, 6), (0.5, 2)])
def test_minimum_repetitions(confidence: float, n: int) -> None:
    assert compare.minimum_repetitions(confidence) == n
    assert compare.shift_interval(range(n), range(n), confidence) is not None
    assert compare.shift_interval(range(n - 1), range(n - 1), confidence) is None


@settings(deadline=None, max_examples=40)
@given(
    a=st.lists(st.integers(-50, 50), min_size=4, max_size=5),
    b=st.lists(st.integers(-50, 50), min_size=4, max_size=5),
    offset=st.sampled_from([-0.25, 0.25]),
)
def test_the_interval_is_what_scipys_permutation_test_does_not_reject(
    a: list[int], b: list[int], offset: float
) -> None:
    """Just outside either bound scipy's exact test of that shift rejects, just inside it does not."""
    interval = compare.shift_interval(a, b)
    assert interval is not None

    def rejects(shift: float, alternative: str) -> bool:
        def difference(x: np.ndarray, y: np.ndarray) -> float:
            return float(np.mean(y) - np.mean(x))

        moved = np.array(b) - shift
        found = stats.permutation_test(
            (np.array(a, float), moved), difference, alternative=alternative, n_resamples=np.inf
        )
        return bool(found.pvalue <= 0.025)

    nudge = 1e-6
    assert rejects(interval[0] - nudge, "greater")
    assert not rejects(interval[0] + nudge, "greater")
    assert rejects(interval[1] + nudge, "less")
    assert not rejects(interval[1] - nudge, "less")


def test_random_splits_agree_with_all_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 8), rng.normal(0.5, 1, 8)
    exact = compare.shift_interval(a, b)
    monkeypatch.setattr(compare, "_ENUMERATED", 100)
    compare._splits.cache_clear()
    try:
        assert compare.shift_interval(a, b) == pytest.approx(exact, abs=0.05)
    finally:
        compare._splits.cache_clear()


@pytest.mark.parametrize("n", [5, 12])
def test_intervals_cover_the_shift_of_skewed_runs(n: int) -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        interval = compare.shift_interval(rng.exponential(1, n), 0.7 + rng.exponential(1, n))
        assert interval is not None
        covered += interval[0] <= 0.7 <= interval[1]
    assert 0.93 <= covered / 400 <= 0.975


@pytest.mark.parametrize("repetitions", [5, 8])
def test_identical_systems_are_rarely_called_different(repetitions: int) -> None:
    verdicts = [
        compare.compare_point(values(repetitions, 2 * i), values(repetitions, 2 * i + 1)).verdict for i in range(200)
    ]
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 10


def test_identical_sweeps_are_rarely_called_different() -> None:
    different = 0
    for i in range(200):
        a = {f"point-{p}": values(6, 1000 * i + p) for p in range(4)}
        b = {f"point-{p}": values(6, 1000 * i + 500 + p) for p in range(4)}
        different += any(c.verdict in ("better", "worse") for c in compare.compare_sweeps(a, b).values())
    assert different <= 10


def test_a_slower_system_is_worse_and_the_reverse_better() -> None:
    slower = compare.compare_point(values(6, 1), values(6, 2, scale=1.3))
    assert slower.verdict == "worse"
    for change in slower.changes:
        assert change.low is not None
        assert change.high is not None
        assert change.low <= 0.3 <= change.high
    faster = compare.compare_point(values(6, 2, scale=1.3), values(6, 1))
    assert faster.verdict == "better"
    assert compare.exit_status([slower, faster]) == 1
    assert compare.exit_status([faster]) == 0
    assert list(compare.change_table(slower).index) == ["p50", "p90", "p99"]


def test_enough_repetitions_show_equivalence() -> None:
    rule = Rule(margin=0.2)
    result = compare.compare_point(values(8, 1), values(8, 2), rule)
    assert str(result) == "equivalent: within 20%"
    assert compare.exit_status([result]) == 0


def test_too_few_repetitions_say_how_many_more() -> None:
    result = compare.compare_point(values(3, 1), values(3, 2, scale=1.3))
    assert str(result) == "cannot tell: needs 2 more repetitions"
    assert compare.exit_status([result]) == 3
    assert result.changes[0].change == pytest.approx(0.3, abs=0.1)


def test_the_repetitions_asked_for_are_about_enough() -> None:
    """Where the margin is tight, follow the advice: the verdict comes within a round or two."""
    rule = Rule(margin=0.05, qs=(0.5,))
    n, asked = 5, 0
    while True:
        result = compare.compare_point(values(n, 21), values(n, 22), rule)
        if result.verdict != "cannot tell":
            break
        assert result.more_repetitions is not None
        n, asked = n + result.more_repetitions, asked + 1
        assert asked <= 3
    assert result.verdict == "equivalent"
    assert asked >= 1


def test_a_percentile_that_a_run_lacks_is_left_out_with_a_reason() -> None:
    short = [run[:100] for run in runs(5, 1)]
    few = compare.run_values(short, Rule().qs)
    result = compare.compare_point(few, few)
    assert result.changes[2].reason == "p99 of A: 5 of 5 runs have no value"
    assert result.verdict in ("equivalent", "cannot tell")
    nothing = compare.compare_point({0.99: [None]}, {0.99: [None]}, Rule(qs=(0.99,)))
    assert nothing.verdict == "cannot tell"
    assert "p99 of A" in str(nothing)


def test_points_that_only_one_sweep_has_are_told() -> None:
    result = compare.compare_sweeps({"a": values(5, 1), "b": values(5, 2)}, {"b": values(5, 3), "c": values(5, 4)})
    assert list(result) == ["a", "b", "c"]
    assert str(result["a"]) == "cannot tell: only A has this point"
    assert str(result["c"]) == "cannot tell: only B has this point"


def test_no_points_are_no_success() -> None:
    assert compare.exit_status([]) == 3
    assert compare.exit_status([PointComparison((), "cannot tell"), PointComparison((), "better")]) == 3


def test_the_shift_function_shows_where_the_distribution_moved() -> None:
    a, b = runs(5, 1), runs(5, 2)
    tail = [np.where(run > np.quantile(run, 0.9), run * 2, run) for run in b]
    table = compare.quantile_shift(a, tail, (0.25, 0.5, 0.95))
    assert table["change"].to_numpy() == pytest.approx([0, 0, 1], abs=0.15)
    assert table.loc[2, "low"] > 0.5
    assert (table["low"] <= table["change"]).all()
    assert len(compare.quantile_shift(a, b)) == 19


@pytest.mark.parametrize(
    ("settings_", "message"), [({"margin": 0}, "margin"), ({"confidence": 95}, "confidence"), ({"qs": ()}, "qs")]
)
def test_bad_rules_are_refused(settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**settings_)
