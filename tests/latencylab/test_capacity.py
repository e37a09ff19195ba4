"""The capacity search against pipelines whose capacity is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latencylab.capacity import CapacityLog, CapacityLogError, Objective, Outcome, Plan, search
from latencylab.saturation import Window, backlog_slope


def sharp(edge_hz: float) -> Callable[[float, int], Outcome]:
    return lambda rate_hz, repetition: Outcome(rate_hz <= edge_hz)


def noisy(edge_hz: float, spread: float, seed: int) -> Callable[[float, int], Outcome]:
    """Meets the objective with logistic odds in the rate, even at `edge_hz`."""

    def measure(rate_hz: float, repetition: int) -> Outcome:
        rng = np.random.default_rng([seed, repetition, int(rate_hz * 1e6)])
        return Outcome(bool(rng.random() < 1 / (1 + np.exp((rate_hz / edge_hz - 1) / spread))))

    return measure


@settings(deadline=None)
@given(edge=st.floats(0.3, 900), resolution=st.sampled_from([0.01, 0.05, 0.2]))
def test_a_sharp_edge_is_found_to_the_resolution(edge: float, resolution: float) -> None:
    found = search(sharp(edge), Plan(resolution=resolution))
    assert found.rate_hz is not None
    assert found.high_hz is not None
    assert found.rate_hz <= edge < found.high_hz
    assert found.high_hz - found.rate_hz <= resolution * found.high_hz
    for rate in (found.rate_hz, found.high_hz):
        assert (found.outcomes["rate_hz"] == rate).sum() == 3
    assert found.reason is None


def test_far_from_the_edge_nothing_is_repeated() -> None:
    found = search(sharp(100), Plan(resolution=0.05))
    runs = found.outcomes.groupby("rate_hz").size()
    assert (runs[[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]] == 1).all()
    assert len(found.outcomes) < 25


def test_limits_of_the_plan_are_told() -> None:
    above = search(sharp(1e9), Plan(max_hz=100))
    assert (above.rate_hz, above.high_hz) == (100, None)
    assert "max_hz 100" in (above.reason or "")
    below = search(sharp(0.01), Plan())
    assert (below.rate_hz, below.high_hz) == (None, 0.25)
    assert "min_hz 0.25" in (below.reason or "")


def test_a_blurred_edge_lies_within_the_interval() -> None:
    """R = 5: the even-odds rate is outside in 2 of 32 searches, some more for choosing the rates by the outcomes."""
    plan = Plan(resolution=0.05, repetitions=5)
    found = [search(noisy(20, 0.05, seed), plan) for seed in range(200)]
    inside = [f.rate_hz is not None and f.high_hz is not None and f.rate_hz <= 20 <= f.high_hz for f in found]
    assert np.mean(inside) >= 0.9
    assert np.mean([f.high_hz for f in found if f.high_hz]) < 30


def test_the_upper_end_comes_near_the_last_run_that_met() -> None:
    def blurred(rate_hz: float, repetition: int) -> Outcome:
        return Outcome(rate_hz <= 7.5 or (rate_hz <= 8.5 and repetition == 0))

    found = search(blurred, Plan())
    assert found.rate_hz == 7.5
    assert found.high_hz is not None
    assert 8.5 < found.high_hz <= 8.5 / (1 - 4 * Plan().resolution)


def test_a_lucky_run_is_not_the_answer() -> None:
    def lucky(rate_hz: float, repetition: int) -> Outcome:
        return Outcome(rate_hz <= 10 or (rate_hz == 16 and repetition == 0))

    found = search(lucky, Plan(resolution=0.05))
    assert found.rate_hz is not None
    assert 9.5 <= found.rate_hz <= 10


def test_a_log_is_read_back_without_the_line_that_a_kill_left_torn(tmp_path: Path) -> None:
    path, plan = tmp_path / "search.jsonl", Plan(resolution=0.2)
    log = CapacityLog(plan, path, {"image_width": 640})
    whole = search(noisy(20, 0.05, 1), plan, log)
    log.add(1e6, 0, Outcome(False, ("1 frames lost",), {"late_share": 0.5}, ("stand-in database",)))
    with path.open("a") as file:
        file.write('{"rate_hz": 3')
    found = CapacityLog.load(path)
    assert (found.plan, found.conditions, found.outcomes) == (plan, {"image_width": 640}, log.outcomes)

    def never(rate_hz: float, repetition: int) -> Outcome:
        raise AssertionError(f"{rate_hz} is there already")

    again = search(never, plan, found)
    assert (again.rate_hz, again.high_hz) == (whole.rate_hz, whole.high_hz)
    assert path.read_text().endswith('{"rate_hz": 3'), "reading wrote"


def test_a_new_log_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    CapacityLog(Plan(), path).add(1.0, 0, Outcome(True))
    CapacityLog(Plan(repetitions=2), path)
    assert CapacityLog.load(path).plan.repetitions == 2
    assert not CapacityLog.load(path).outcomes


def test_a_damaged_log_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    with pytest.raises(CapacityLogError, match=r"search\.jsonl: No such file"):
        CapacityLog.load(path)
    CapacityLog(Plan(), path).add(1.0, 0, Outcome(True))
    path.write_text(path.read_text().replace('"outcome"', '"income"'))
    with pytest.raises(CapacityLogError, match=r"search\.jsonl, line 2"):
        CapacityLog.load(path)
    path.write_text('{"plan": {"sta')
    with pytest.raises(CapacityLogError, match="empty"):
        CapacityLog.load(path)


@pytest.mark.parametrize(("repetitions", "confidence"), [(1, 0.0), (3, 0.75), (5, 0.9375)])
def test_the_confidence_is_what_chance_at_either_end_leaves(repetitions: int, confidence: float) -> None:
    assert search(sharp(10), Plan(repetitions=repetitions)).confidence == confidence


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"start_hz": 0.1}, "min_hz"), ({"resolution": 0.0}, "resolution"), ({"repetitions": 0}, "repetitions")],
)
def test_bad_plans_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**changes)


def judged(late: int, frames: int, lost: int = 0, *, growing: bool = False) -> Outcome:
    sent = np.arange(frames) * 10**8
    finished = sent + (np.arange(frames) * 5 * 10**7 if growing else 10**7)
    backlog = backlog_slope(sent, finished, Window(0, int(sent[-1])))
    latencies = np.full(frames - lost, 10**8)
    latencies[:late] = 6 * 10**8
    return Objective().judge(latencies, lost, backlog)


def test_the_objective_allows_its_share_of_late_frames_and_no_more() -> None:
    assert judged(late=3, frames=300).meets
    assert judged(late=0, frames=60).meets
    assert judged(late=3, frames=300).measured["latency_ns"] == 10**8
    assert judged(late=4, frames=300).measured["latency_ns"] == 6 * 10**8
    too_many = judged(late=4, frames=300)
    assert too_many.reasons == ("4 of 300 frames took longer than 500 ms (p99)",)
    assert not judged(late=1, frames=60).meets


def test_loss_and_growing_backlog_fail_the_objective() -> None:
    assert "1 frames lost" in judged(late=0, frames=300, lost=1).reasons
    assert judged(late=0, frames=300, lost=4).measured["latency_ns"] is None
    growing = judged(late=0, frames=300, growing=True)
    assert not growing.meets
    assert "backlog growing" in growing.reasons[0]
    assert growing.measured["achieved_hz"] == pytest.approx(6.7, abs=0.1)
