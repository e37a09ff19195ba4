from hypothesis import given
from hypothesis import strategies as st

from services.inference_consumer.in_flight import AdaptiveLimit, FixedLimit

events = st.lists(st.one_of(st.just("busy"), st.tuples(st.integers(0, 10**9), st.integers(0, 10**9))))


@given(st.integers(1, 64), events)
def test_the_limit_stays_between_one_and_the_highest_and_moves_in_small_steps(highest, outcomes):
    limit = AdaptiveLimit(highest)
    for outcome in outcomes:
        before = limit.value
        if outcome == "busy":
            limit.busy()
            assert before // 2 <= limit.value <= before
        else:
            limit.answered(*outcome, in_flight=before)
            assert abs(limit.value - before) <= 1
        assert 1 <= limit.value <= highest


def test_short_queues_raise_the_limit_only_when_it_was_the_limit_that_held_back():
    limit = AdaptiveLimit(32)
    for _ in range(100):
        limit.answered(0, 100, in_flight=1)
    assert limit.value == 2
    for _ in range(100):
        limit.answered(0, 100, in_flight=limit.value)
    assert limit.value > 8


def test_long_queues_lower_the_limit():
    limit = AdaptiveLimit(32, start=16)
    for _ in range(300):
        limit.answered(500, 100, in_flight=limit.value)
    assert limit.value == 1


def test_a_fixed_limit_learns_nothing():
    limit = FixedLimit(7)
    limit.busy()
    limit.answered(10**9, 1, 7)
    assert limit.value == 7
