"""The saturation test against simulated queues that keep up, and that don't."""

import numpy as np
import pytest

from latencylab.statistics import Window, backlog_series, backlog_slope

START_NS = 1_760_000_000_000_000_000


def queue(offered_hz: float, served_hz: float, duration_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sent and finished times, ns, of one server with Poisson arrivals and service times within 20 % of the mean."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, duration_s, rng.poisson(offered_hz * duration_s)))
    service = rng.uniform(0.8, 1.2, len(arrivals)) / served_hz
    started = np.cumsum(service) - service
    finished = np.cumsum(service) + np.maximum.accumulate(arrivals - started)  # Lindley's recursion, unrolled
    return START_NS + (arrivals * 1e9).astype("int64"), START_NS + (finished * 1e9).astype("int64")


def window(duration_s: float) -> Window:
    return Window(START_NS + int(0.1 * duration_s * 1e9), START_NS + int(duration_s * 1e9))


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_a_queue_that_keeps_up_is_not_growing(utilisation: float) -> None:
    results = [backlog_slope(*queue(8 * utilisation, 8, 60, seed), window(60)) for seed in range(100)]
    assert sum(r.growing for r in results) <= 5
    assert np.mean([r.achieved_hz / r.offered_hz for r in results]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("offered_hz", "duration_s"), [(10, 60), (12, 20), (16, 20)])
def test_an_overloaded_queue_is_growing_at_the_rate_of_the_overload(offered_hz: float, duration_s: float) -> None:
    results = [backlog_slope(*queue(offered_hz, 8, duration_s, seed), window(duration_s)) for seed in range(50)]
    assert sum(r.growing for r in results) >= 47
    assert np.mean([r.slope_hz for r in results]) == pytest.approx(offered_hz - 8, rel=0.1)
    assert np.mean([r.achieved_hz for r in results]) == pytest.approx(8, rel=0.03)
    assert all(r.low_hz <= r.slope_hz <= r.high_hz for r in results)


def test_the_series_is_the_mean_backlog_of_each_part() -> None:
    sent = START_NS + np.array([0, 1_000, 2_000])
    finished = START_NS + np.array([1_500, 4_000])  # the third is lost and stays
    series = backlog_series(sent, finished, Window(START_NS, START_NS + 4_000), points=4)
    assert series == pytest.approx([1, 1.5, 2, 2])


def test_frames_before_the_window_count_as_backlog_in_it() -> None:
    sent = START_NS - np.array([50, 40])
    finished = START_NS + np.array([-10, 500])
    series = backlog_series(sent, finished, Window(START_NS, START_NS + 1_000), points=2)
    assert series == pytest.approx([1, 0])


def test_lost_frames_make_the_backlog_grow() -> None:
    sent, finished = queue(4, 8, 60, 1)
    assert backlog_slope(sent, finished[::2], window(60)).growing
    assert backlog_slope(sent, [], window(60)).achieved_hz == 0


def test_windows_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        backlog_slope([1, 2], [3], Window(START_NS, START_NS + 10))
    with pytest.raises(ValueError, match="window is empty"):
        Window(10, 10)
