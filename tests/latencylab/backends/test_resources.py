import os
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

from latencylab.backends.resources import SCHEMA, ProcessSampler, write_resources

NEVER_S = 3600.0
TICKS_S = 0.05  # the kernel counts CPU time in ticks of 10 ms


@pytest.fixture
def child():
    """A process that does nothing until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def seen(sampler):
    return [(sample["component"], sample["instance"]) for sample in sampler.samples]


def test_a_sample_says_what_a_process_has_used():
    sampler = ProcessSampler(NEVER_S)
    sampler.add("test", "test-0", os.getpid())
    began_ns, began_cpu_s = time.time_ns(), time.process_time()
    sampler.start()
    sampler.stop()
    ended_ns, ended_cpu_s = time.time_ns(), time.process_time()
    (sample,) = sampler.samples
    assert list(sample) == SCHEMA.names
    assert began_ns <= sample["time_ns"] <= ended_ns
    assert began_cpu_s - TICKS_S <= sample["cpu_s"] <= ended_cpu_s + TICKS_S
    assert 2**20 < sample["rss_bytes"] < 2**40
    assert sample["throttled_s"] is None


def test_samples_are_taken_until_it_is_stopped():
    sampler = ProcessSampler(0.001)
    sampler.add("test", "test-0", os.getpid())
    sampler.start()
    while len(sampler.samples) < 3:
        time.sleep(0.001)
    sampler.stop()
    assert "resources" not in {thread.name for thread in threading.enumerate()}
    for name in ("time_ns", "cpu_s"):
        values = [sample[name] for sample in sampler.samples]
        assert values == sorted(values)


def test_cpu_time_is_that_of_the_process_alone(child):
    sampler = ProcessSampler(NEVER_S)
    sampler.add("test", "test-0", os.getpid())
    sampler.add("child", "child-0", child.pid)
    sampler.stop()
    until_s = time.process_time() + 4 * TICKS_S
    while time.process_time() < until_s:
        pass
    sampler.stop()
    used = {sample["component"]: sample["cpu_s"] for sample in sampler.samples[2:]}
    before = {sample["component"]: sample["cpu_s"] for sample in sampler.samples[:2]}
    assert used["test"] - before["test"] >= 2 * TICKS_S
    assert used["child"] < used["test"]


def test_a_process_that_ends_is_no_longer_sampled_and_the_others_are(child):
    sampler = ProcessSampler(NEVER_S)
    sampler.add("consumer", "consumer-0", child.pid)
    sampler.add("consumer", "consumer-1", os.getpid())
    sampler.stop()
    child.kill()
    child.wait()
    sampler.stop()
    assert seen(sampler) == [("consumer", "consumer-0"), ("consumer", "consumer-1"), ("consumer", "consumer-1")]


def test_a_process_that_has_ended_already_is_passed_over(child):
    child.kill()
    child.wait()
    sampler = ProcessSampler(NEVER_S)
    sampler.add("consumer", "consumer-0", child.pid)
    sampler.stop()
    assert sampler.samples == []


def test_samples_are_the_same_after_they_were_written(tmp_path):
    sampler = ProcessSampler(NEVER_S)
    sampler.add("test", "test-0", os.getpid())
    sampler.stop()
    throttled = {**sampler.samples[0], "instance": "test-1", "throttled_s": 0.25}
    write_resources([*sampler.samples, throttled], tmp_path / "resources.parquet")
    table = pq.read_table(tmp_path / "resources.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [*sampler.samples, throttled]


def test_a_run_without_samples_has_the_columns_all_the_same(tmp_path):
    write_resources([], tmp_path / "resources.parquet")
    table = pq.read_table(tmp_path / "resources.parquet")
    assert (table.num_rows, table.column_names) == (0, SCHEMA.names)
