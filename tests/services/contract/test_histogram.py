"""The mergeable histogram against exact percentiles of the same latencies."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.histogram import (
    HIGHEST_NS,
    LOWEST_NS,
    RELATIVE_ERROR,
    HistogramError,
    HistogramFile,
    LatencyHistogram,
    merge_files,
)

QS = (0.01, 0.5, 0.9, 0.99, 0.999, 1.0)


def filled(latencies: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.record(latency)
    return histogram


def percentiles(histogram: LatencyHistogram) -> list[int | None]:
    return [histogram.percentile_ns(q) for q in QS]


@settings(deadline=None, max_examples=30)
@given(latencies=st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=300))
def test_percentiles_agree_with_the_exact_ones_within_the_stated_error(latencies: list[int]) -> None:
    histogram = filled(latencies)
    for q in QS:
        exact = sorted(latencies)[max(0, int(np.ceil(round(q * len(latencies), 9))) - 1)]
        found = histogram.percentile_ns(q)
        assert found is not None
        assert exact <= found <= exact * (1 + RELATIVE_ERROR) + LOWEST_NS


def test_processes_merge_as_if_they_were_one(tmp_path: Path) -> None:
    latencies = np.random.default_rng(1).lognormal(18, 1, 20_000).astype(int).tolist()
    latencies[:3] = [-5, HIGHEST_NS + 1, -1]
    paths = []
    for process in range(3):
        path = tmp_path / f"{process}.hdr.json"
        path.write_text(filled(latencies[process::3]).encode())
        paths.append(path)
    merged, whole = merge_files(paths), filled(latencies)
    assert percentiles(merged) == percentiles(whole)
    assert (len(merged), merged.negative, merged.too_long) == (20_000, 2, 1)
    assert len(paths[0].read_text()) < 20_000


def test_what_lies_outside_is_counted_and_ranked() -> None:
    histogram = filled([-7, 10**6, 10**6, HIGHEST_NS + 5])
    assert len(histogram) == 4
    assert histogram.percentile_ns(0.25) == -1
    assert histogram.percentile_ns(0.75) == pytest.approx(10**6, rel=RELATIVE_ERROR)
    assert histogram.percentile_ns(1.0) == HIGHEST_NS + 1


def test_nothing_recorded_has_no_percentile() -> None:
    assert LatencyHistogram().percentile_ns(0.5) is None
    assert LatencyHistogram.decode(LatencyHistogram().encode()).percentile_ns(0.5) is None
    with pytest.raises(ValueError, match="q must lie"):
        LatencyHistogram().percentile_ns(99)


@pytest.mark.parametrize("text", ["", "{}", '{"hdr": "HISTFAAA", "negative": 0, "too_long": 0}', "[1]"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.hdr.json"
    path.write_text(text)
    with pytest.raises(HistogramError, match=r"broken\.hdr\.json"):
        merge_files([path])


def test_the_file_is_there_from_the_start_and_changes_only_when_due(tmp_path: Path) -> None:
    file = HistogramFile(tmp_path / "deep" / "consumer.hdr.json", write_every_s=3600)
    assert len(merge_files([file.path])) == 0
    file.record([10**6, 2 * 10**6])
    file.write_if_due()
    assert len(merge_files([file.path])) == 0
    file.write_every_s = 0
    file.write_if_due()
    assert percentiles(merge_files([file.path])) == percentiles(filled([10**6, 2 * 10**6]))
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_file_that_holds_everything_is_left_alone(tmp_path: Path) -> None:
    file = HistogramFile(tmp_path / "consumer.hdr.json")
    file.record([10**6])
    file.write()
    file.path.write_text("someone else's")
    file.write()
    assert file.path.read_text() == "someone else's"
    file.record([-1])  # what is out of range is something new, too
    file.write()
    assert merge_files([file.path]).negative == 1


def test_a_reader_finds_a_whole_histogram_at_any_moment(tmp_path: Path) -> None:
    file = HistogramFile(tmp_path / "consumer.hdr.json")

    def fill() -> None:
        for number in range(200):
            file.record(range(10**6, 10**6 * (2 + number), 10**6))
            file.write()

    writer = threading.Thread(target=fill)
    writer.start()
    seen = [0]
    while writer.is_alive():
        seen.append(len(merge_files([file.path])))
    writer.join()
    assert seen == sorted(seen)
    assert len(merge_files([file.path])) == sum(range(1, 201))
