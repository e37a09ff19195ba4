import pytest

from latencylab.backends.kubernetes.sampling import parse


def test_cgroup_v2():
    line = "1700000000000000000 usage_usec 2500000 throttled_usec 100000 anon 1048576"
    assert parse(line) == {
        "time_ns": 1_700_000_000_000_000_000,
        "cpu_s": 2.5,
        "rss_bytes": 1_048_576,
        "throttled_s": 0.1,
    }


def test_cgroup_v1():
    line = "1700000000000000000 usage_ns 2500000000 throttled_time 0 total_rss 4096"
    assert parse(line) == {
        "time_ns": 1_700_000_000_000_000_000,
        "cpu_s": 2.5,
        "rss_bytes": 4096,
        "throttled_s": 0.0,
    }


def test_without_the_cpu_controllers_throttling_it_is_not_known():
    sample = parse("17 usage_usec 5 anon 1")
    assert sample is not None
    assert sample["throttled_s"] is None


@pytest.mark.parametrize("line", ["", "17", "17 usage_usec", "17 usage_usec 5", "17 throttled_usec 5 anon 1"])
def test_a_line_that_is_not_whole_is_no_sample(line):
    assert parse(line) is None
