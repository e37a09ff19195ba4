from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.schedule import (
    Schedule,
    TraceError,
    device_id,
    device_index,
    frames_of_devices,
    frames_of_run,
    read_trace,
)

decimals = st.decimals(min_value="0.01", max_value="200", places=2)
devices = st.integers(0, 5000)


@given(rate=decimals, duration=decimals, device=devices)
def test_constant_rate_gives_exactly_rate_times_duration_evenly_spaced_frames(rate, duration, device):
    offsets = Schedule("constant", float(rate), float(duration)).offsets_ns(device)
    assert len(offsets) == floor(Fraction(rate) * Fraction(duration))
    assert offsets.dtype == np.int64
    if len(offsets):
        assert offsets[0] >= 0
        assert offsets[-1] < float(duration) * 1e9
    period_ns = 1e9 / float(rate)
    assert np.all(np.abs(np.diff(offsets) - period_ns) <= 2)


def test_a_product_just_below_a_whole_number_in_binary_loses_no_frame():
    assert 0.29 * 100 < 29
    assert len(Schedule("constant", 0.29, 100.0).offsets_ns(0)) == 29


@given(count=st.integers(2, 400))
def test_constant_rate_keeps_any_number_of_devices_apart(count):
    schedule = Schedule("constant", 1.0, 1.0)
    phases = np.sort([schedule.offsets_ns(index)[0] / 1e9 for index in range(count)])
    gaps = np.diff(phases, append=phases[0] + 1)
    assert gaps.min() > 0.38 / count
    assert gaps.max() < 2.62 / count


@given(st.sampled_from(["constant", "poisson"]), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_the_times_do_not_depend_on_how_devices_are_spread_over_processes(arrivals, producers, cameras, seed):
    schedule = Schedule(arrivals, 5.0, 4.0, seed)
    together = frames_of_run(schedule, 1, producers * cameras, 1000)
    apart = frames_of_run(schedule, producers, cameras, 1000)
    for left, right in zip(together, apart, strict=True):
        np.testing.assert_array_equal(left, right)


@given(arrivals=st.sampled_from(["constant", "poisson"]), start=st.integers(0, 2**62), seed=st.integers(0, 9))
def test_the_frames_of_a_run_are_those_of_its_processes_in_order(arrivals, start, seed):
    schedule = Schedule(arrivals, 7.0, 2.0, seed)
    run = frames_of_run(schedule, 2, 3, start)
    assert np.all(np.diff(run.intended_ns) >= 0)
    from_run = set(zip(run.device_ids(), run.seq.tolist(), run.intended_ns.tolist(), strict=True))
    from_processes = set()
    for producer in range(2):
        own = frames_of_devices(schedule, [device_index(producer, 3, camera) for camera in range(3)], start)
        from_processes |= set(zip(own.device_ids(), own.seq.tolist(), own.intended_ns.tolist(), strict=True))
    assert from_run == from_processes
    for device in range(6):
        own_ns = run.intended_ns[run.device == device]
        np.testing.assert_array_equal(own_ns, schedule.intended_ns(start, device))
        np.testing.assert_array_equal(run.seq[run.device == device], np.arange(len(own_ns)))


def test_poisson_arrivals_repeat_with_the_seed_and_differ_between_seeds_and_devices():
    def offsets(seed, device):
        return Schedule("poisson", 20.0, 10.0, seed).offsets_ns(device).tolist()

    assert offsets(1, 0) == offsets(1, 0)
    assert offsets(1, 0) != offsets(2, 0)
    assert offsets(1, 0) != offsets(1, 1)


def test_poisson_counts_and_gaps_follow_the_law():
    schedule = Schedule("poisson", 10.0, 20.0, seed=3)
    per_device = [schedule.offsets_ns(device) for device in range(500)]
    counts = np.array([len(offsets) for offsets in per_device])
    # Mean 200, standard deviation of the mean 0.63; variance 200, standard deviation about 12.7.
    assert abs(counts.mean() - 200) < 4
    assert abs(counts.var() - 200) < 60
    gaps_s = np.concatenate([np.diff(offsets) for offsets in per_device]) / 1e9
    assert abs((gaps_s > 0.1).mean() - np.exp(-1)) < 0.01
    assert all(np.all(np.diff(offsets) >= 0) and offsets[-1] < 20e9 for offsets in per_device)


def test_a_trace_is_replayed_as_it_is_up_to_the_end_of_the_schedule():
    schedule = Schedule("trace", 1.0, 2.0, trace=(0.0, 0.5, 0.5, 1.999999999, 2.0, 7.0))
    for device in (0, 3):
        assert schedule.intended_ns(10, device).tolist() == [10, 500_000_010, 500_000_010, 2_000_000_009]


def test_read_trace_takes_seconds_comments_and_blank_lines(tmp_path):
    file = tmp_path / "trace.txt"
    file.write_text("# seconds\n0\n\n 1.5\n1.5\n2e0\n")
    assert read_trace(file) == (0.0, 1.5, 1.5, 2.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0\nnoon\n", r"line 2: 'noon' is not a number"),
        ("-1\n", r"line 1: '-1' is not a time at or after the start"),
        ("0\ninf\n", r"line 2: 'inf' is not a time"),
        ("nan\n", r"line 1: 'nan' is not a time"),
        ("1\n2\n1.5\n", r"line 3: '1.5' is earlier"),
        ("# nothing\n", r"has no times"),
    ],
)
def test_read_trace_names_file_and_line(tmp_path, text, complaint):
    file = tmp_path / "trace.txt"
    file.write_text(text)
    with pytest.raises(TraceError, match=complaint) as caught:
        read_trace(file)
    assert str(file) in str(caught.value)


def test_read_trace_names_a_missing_file(tmp_path):
    with pytest.raises(TraceError, match=r"absent\.txt can't be read"):
        read_trace(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("sometimes", 1.0, 1.0), "arrivals must be"),
        (("constant", 0.0, 1.0), "rate_hz must be"),
        (("constant", 1.0, float("inf")), "duration_s must be"),
        (("trace", 1.0, 1.0, 0, (1.0, 2.0)), "trace has no time before duration_s"),
    ],
)
def test_an_impossible_schedule_is_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Schedule(*arguments)


def test_a_rate_too_low_for_the_duration_schedules_nothing():
    frames = frames_of_run(Schedule("constant", 0.1, 5.0), 2, 2)
    assert [len(column) for column in frames] == [0, 0, 0]
    assert frames.device_ids() == []


def test_device_names_sort_like_their_indices():
    assert device_index(2, 4, 3) == 11
    assert device_id(11) == "cam-0011"
