import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.clock import Clock


class Source:
    """Wall and monotonic clock under the test's control; each reading takes `reading_ns`."""

    def __init__(self, monkeypatch, reading_ns=0):
        self.true_ns = 5_000_000_000
        self.wall_offset_ns = 1_700_000_000_000_000_000
        self.reading_ns = reading_ns
        monkeypatch.setattr(time, "monotonic_ns", self.monotonic_ns)
        monkeypatch.setattr(time, "time_ns", self.time_ns)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def monotonic_ns(self):
        self.true_ns += self.reading_ns
        return self.true_ns

    def time_ns(self):
        self.true_ns += self.reading_ns
        return self.true_ns + self.wall_offset_ns

    def sleep(self, seconds):
        assert seconds > 0
        self.true_ns += max(1, int(seconds * 1e9 * 0.75))  # wakes early, as a sleep of a real system may


def test_a_new_clock_agrees_with_the_wall_clock():
    before = time.time_ns()
    now = Clock().now_ns()
    after = time.time_ns()
    assert before - 1_000_000 <= now <= after + 1_000_000


def test_time_does_not_run_backwards():
    clock = Clock()
    readings = [clock.now_ns() for _ in range(1000)]
    assert readings == sorted(readings)


@given(step_ns=st.integers(-(10**12), 10**12), passed_ns=st.integers(0, 10**12))
def test_a_step_of_the_wall_clock_is_drift_and_changes_no_stamp(step_ns, passed_ns):
    with pytest.MonkeyPatch.context() as monkeypatch:
        source = Source(monkeypatch)
        clock = Clock()
        before = clock.now_ns()
        source.wall_offset_ns += step_ns
        source.true_ns += passed_ns
        assert clock.now_ns() - before == passed_ns
        assert clock.drift_ns() == step_ns


def test_the_anchor_takes_the_middle_of_the_two_readings(monkeypatch):
    source = Source(monkeypatch, reading_ns=100)
    clock = Clock()
    assert abs(clock.drift_ns()) <= source.reading_ns
    assert clock.now_ns() == source.true_ns + source.wall_offset_ns


def test_sleep_until_sleeps_again_when_woken_early(monkeypatch):
    source = Source(monkeypatch)
    clock = Clock()
    when = clock.now_ns() + 1_000_000_000
    clock.sleep_until(when)
    assert clock.now_ns() >= when
    assert source.true_ns < 5_000_000_000 + 1_001_000_000


def test_sleep_until_a_time_that_has_passed_does_not_sleep(monkeypatch):
    source = Source(monkeypatch)
    clock = Clock()
    clock.sleep_until(clock.now_ns() - 1)
    clock.sleep_until(clock.now_ns())
    assert source.true_ns == 5_000_000_000
