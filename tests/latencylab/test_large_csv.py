"""Bounded-memory summaries against numpy, and against the histogram that consumers keep."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.analysis import generate
from latencylab.large_csv import LargeCsvError, Limits, summarise
from services.contract.histogram import RELATIVE_ERROR, LatencyHistogram
from services.contract.latency_csv import INFERENCE_COLUMNS, STORAGE_COLUMNS, LatencyCsv

START_NS = 1_760_000_000_000_000_000


def write(path: Path, latencies_ns: list[int | None], first: int = 0, ids: list[int] | None = None) -> Path:
    """A DB consumer's CSV with those latencies; None for a frame without an end."""
    file = LatencyCsv(path, STORAGE_COLUMNS)
    for i, latency in enumerate(latencies_ns):
        row = dict.fromkeys(STORAGE_COLUMNS, 'x, "y"\nz')  # csv must quote this, and the reader take it
        intended = START_NS + i * 1000
        stored = "" if latency is None else intended + latency
        file.write(
            row | {"image_id": f"{ids[i] if ids else first + i:024x}", "intended_ns": intended, "stored_ns": stored}
        )
    file.close()
    return path


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), n=st.integers(300, 2000), scale=st.sampled_from([1.0, 1e3, 1e7, 1e12]))
def test_percentiles_are_exact_and_the_cdf_true(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, scale: float
) -> None:
    latencies = (scale * np.random.default_rng(seed).normal(1, 0.5, n)).astype("int64")
    folder = tmp_path_factory.mktemp("csv")
    paths = [write(folder / f"{i}.csv", latencies[i::2].tolist(), first=i * n) for i in range(2)]
    summary = summarise(paths, "stored_ns", (0.05, 0.5, 0.99))
    for q, value in summary.percentiles_ns.items():
        assert value == np.quantile(latencies, q, method="inverted_cdf")
    assert (summary.rows, summary.frames, summary.repeated_rows) == (n, n, 0)
    assert summary.negative_frames == (latencies < 0).sum()
    assert (summary.minimum_ns, summary.maximum_ns) == (latencies.min(), latencies.max())
    shares = [(latencies <= edge).mean() for edge in summary.cdf["latency_ns"]]
    assert summary.cdf["share"].to_numpy() == pytest.approx(shares)
    assert summary.cdf["share"].iloc[-1] == 1
    assert summary.cdf["latency_ns"].is_monotonic_increasing


def test_frames_delivered_again_count_once_by_their_earliest_end(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.csv", [10] * 10, ids=list(range(10))),
        write(tmp_path / "b.csv", [99, 99, 5], ids=[0, 1, 2]),
    ]
    summary = summarise(paths, "stored_ns", (0.5,))
    assert (summary.rows, summary.frames, summary.repeated_rows) == (13, 10, 3)
    assert (summary.minimum_ns, summary.maximum_ns) == (5, 10)


def test_rows_without_an_end_are_counted_and_too_few_frames_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [7, None, 8, None, 9, -1, 10, 11])
    summary = summarise([path], "stored_ns", (0.5, 0.99))
    assert (summary.rows, summary.frames, summary.unfinished_rows, summary.negative_frames) == (8, 8, 2, 1)
    assert summary.percentiles_ns == {0.5: 8, 0.99: None}
    assert summary.reasons == ("p99 needs 299 frames, got 6",)


def test_a_file_with_no_rows_is_a_summary_of_nothing(tmp_path: Path) -> None:
    summary = summarise([write(tmp_path / "a.csv", [])], "stored_ns", (0.5,))
    assert (summary.rows, summary.minimum_ns, summary.percentiles_ns) == (0, None, {0.5: None})
    assert summary.cdf.empty


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", [1, 2])
    with pytest.raises(LargeCsvError, match=r"good\.csv has no column labelled_ns"):
        summarise([good], "labelled_ns")
    other = tmp_path / "other.csv"
    LatencyCsv(other, (*INFERENCE_COLUMNS, "stored_ns")).close()
    with pytest.raises(LargeCsvError, match=r"other\.csv has other columns"):
        summarise([good, other], "stored_ns")
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(LargeCsvError, match=r"empty\.csv is empty"):
        summarise([empty], "stored_ns")
    with pytest.raises(LargeCsvError, match=r"missing\.csv"):
        summarise([tmp_path / "missing.csv"], "stored_ns")
    with pytest.raises(LargeCsvError, match="no latency CSV"):
        summarise([], "stored_ns")
    torn = write(tmp_path / "torn.csv", [1, 2])
    with torn.open("a") as file:
        file.write("run,id,device\n")
    with pytest.raises(LargeCsvError, match=r"torn\.csv"):
        summarise([torn], "stored_ns")


def test_the_histogram_of_several_processes_agrees_within_its_precision(tmp_path: Path) -> None:
    """The same generated frames, summarised from the CSV and by merged histograms, under a tight memory limit."""
    path = tmp_path / "frames.csv"
    generate(path, 30_000, seed=1)
    summary = summarise([path], "stored_ns", limits=Limits(memory_bytes=64 * 1024 * 1024, threads=1))
    table = pd.read_csv(path)
    latencies = (table["stored_ns"] - table["intended_ns"]).tolist()
    merged = LatencyHistogram()
    for process in range(3):
        own = LatencyHistogram()
        for latency in latencies[process::3]:
            own.record(latency)
        merged.merge(LatencyHistogram.decode(own.encode()))
    assert len(merged) == summary.frames == 30_000
    for q, exact in summary.percentiles_ns.items():
        assert exact == np.quantile(latencies, q, method="inverted_cdf")
        assert merged.percentile_ns(q) == pytest.approx(exact, rel=RELATIVE_ERROR)
