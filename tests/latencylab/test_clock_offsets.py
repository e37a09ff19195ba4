import pytest
from hypothesis import given
from hypothesis import strategies as st

from latencylab.clock_offsets import (
    ClockOffset,
    ClockSampleError,
    PairOffset,
    estimate,
    over_run,
    pairs_over_run,
    through,
    uncertainty_ns,
    unresolved_stages,
)

EPOCH_NS = 1_700_000_000_000_000_000
delays = st.integers(0, 10**9)
offsets = st.integers(-(10**12), 10**12)


def exchange(
    offset_ns: int, there_ns: int, work_ns: int, back_ns: int, at_ns: int = EPOCH_NS
) -> tuple[int, int, int, int]:
    """The four timestamps when the responder's clock is ahead by `offset_ns`."""
    t2 = at_ns + there_ns + offset_ns
    t3 = t2 + work_ns
    return at_ns, t2, t3, t3 - offset_ns + back_ns


def test_the_formula_of_rfc_5905():
    assert estimate([(1000, 1510, 1520, 1030)]) == ClockOffset(offset_ns=500, bound_ns=11)


@given(offsets, st.lists(st.tuples(delays, delays, delays), min_size=1))
def test_the_truth_lies_within_the_bound(offset_ns, paths):
    found = estimate(exchange(offset_ns, *path) for path in paths)
    assert found.low_ns <= offset_ns <= found.high_ns


@given(offsets, delays, delays)
def test_symmetric_paths_give_the_exact_offset(offset_ns, one_way_ns, work_ns):
    assert estimate([exchange(offset_ns, one_way_ns, work_ns, one_way_ns)]).offset_ns == offset_ns


def test_the_quickest_exchange_decides():
    slow = exchange(700, there_ns=1_000_000, work_ns=10, back_ns=0)
    quick = exchange(700, there_ns=100, work_ns=10, back_ns=100)
    assert estimate([slow, quick, slow]) == ClockOffset(700, 101)


@given(offsets, offsets, delays)
def test_bounds_add_up_along_a_way(first_ns, second_ns, bound_ns):
    there = through(ClockOffset(first_ns, bound_ns), ClockOffset(second_ns, 5))
    assert there.bound_ns == bound_ns + 5
    assert through(there, there.reversed()).offset_ns == 0


@given(offsets, delays, offsets, delays)
def test_a_run_holds_what_was_seen_before_and_after(first_ns, first_bound, last_ns, last_bound):
    before, after = ClockOffset(first_ns, first_bound), ClockOffset(last_ns, last_bound)
    during = over_run(before, after)
    for end in (before, after):
        assert during.low_ns <= end.low_ns
        assert end.high_ns <= during.high_ns


@pytest.mark.parametrize("sample", [(10, 0, 0, 5), (0, 10, 5, 20), (0, 0, 100, 50)])
def test_a_stepped_clock_is_not_believed(sample):
    with pytest.raises(ClockSampleError, match="stepped during the exchange"):
        estimate([sample])


def test_no_sample_is_an_error():
    with pytest.raises(ClockSampleError, match="no sample"):
        estimate([])


def test_a_node_that_left_during_the_run_is_named():
    pair = PairOffset("vm1", "vm2", ClockOffset(0, 1))
    with pytest.raises(ClockSampleError, match="'vm1', 'vm2'"):
        pairs_over_run([pair], [])
    assert pairs_over_run([pair], [pair]) == [pair]


def test_uncertainty_is_the_worst_pair():
    pairs = [PairOffset("a", "b", ClockOffset(-40, 10)), PairOffset("a", "c", ClockOffset(20, 15))]
    assert uncertainty_ns(pairs) == 50
    assert uncertainty_ns([]) == 0


def test_only_short_stages_between_nodes_are_unresolved():
    pairs = [PairOffset("vm1", "vm3", ClockOffset(300, 200)), PairOffset("vm2", "vm3", ClockOffset(0, 10))]
    hosts = {
        "broker": ("vm3", "vm1"),
        "inference": ("vm3", "vm3"),
        "labelling": ("vm3", "vm2"),
        "storage_broker": ("vm1", "vm3"),
    }
    medians = {"broker": 499, "inference": 1, "labelling": 10, "storage_broker": 500}
    assert unresolved_stages(hosts, medians, pairs) == {"broker": 500}


def test_a_pair_that_was_not_measured_is_an_error():
    with pytest.raises(KeyError):
        unresolved_stages({"broker": ("vm1", "vm9")}, {"broker": 1}, [])
