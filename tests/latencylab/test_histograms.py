"""Histograms of several consumer processes against the CSVs that the same writers left."""

import numpy as np
import pandas as pd
import pytest

from latencylab import histograms, runs
from latencylab.percentiles import quantile_of_sorted
from latencylab.runs import RunName
from latencylab.summary import QUANTILES
from services.contract.clock import Clock
from services.contract.frame_writer import FrameWrite, FrameWriter, Records
from services.contract.histogram import LOWEST_NS, RELATIVE_ERROR, HistogramFile
from services.contract.latency_csv import STORAGE_COLUMNS, LatencyCsv


class Database:
    """Acknowledges every bulk write."""

    def bulk_write(self, operations, ordered):
        pass


def consume(stem, waited_ns):
    """Have a consumer's own writer finish a frame for each of `waited_ns`, the age at which it comes."""
    csv = LatencyCsv(stem.with_suffix(".csv"), STORAGE_COLUMNS)
    records = Records(csv, HistogramFile(stem.with_suffix(".hdr.json")))
    clock = Clock()
    writer = FrameWriter(Database(), records, clock)
    for number, age_ns in enumerate(waited_ns):
        row = dict.fromkeys(STORAGE_COLUMNS, 0) | {"intended_ns": clock.now_ns() - age_ns, "seq": number}
        write = FrameWrite(f"{number:024x}", {}, "stored_ns", row, "stored_ns", lambda: None, lambda why: None)
        writer.put(write)
    writer.close(60)
    records.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What three DB consumers and an inference consumer left."""
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(1)
    for process in range(3):
        ages_ns = random.lognormal(19 + process / 2, 0.8, 2000).astype(int).tolist()
        consume(folder / "consumers" / f"db-consumer-{process}-17", ages_ns)
    consume(folder / "consumers" / "inference-consumer-0-17", [10**10])
    return folder


def test_the_percentiles_of_all_consumers_are_those_of_their_rows(folder):
    tables = [pd.read_csv(path) for path in (folder / "consumers").glob("db-consumer-*.csv")]
    rows = pd.concat(tables)
    assert len(rows) == 6000
    ordered = np.sort((rows["stored_ns"] - rows["intended_ns"]).to_numpy())
    merged = histograms.merged(folder, "db-consumer")
    assert len(merged) == 6000
    for q in (0.001, 0.1, *QUANTILES, 1.0):
        exact = quantile_of_sorted(ordered, q)
        assert exact <= merged.percentile_ns(q) <= exact * (1 + RELATIVE_ERROR) + LOWEST_NS


def test_groups_are_told_apart(folder):
    assert len(histograms.merged(folder, "inference-consumer")) == 1
    assert histograms.merged(folder, "inference-consumer").percentile_ns(1.0) >= 10**10
    assert len(histograms.merged(folder, "nobody")) == 0


def test_the_summary_has_the_percentiles_of_each_group(folder):
    found = histograms.summarise(folder)
    merged = histograms.merged(folder, "db-consumer")
    expected = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    assert found["db-consumer"] == {
        "count": 6000,
        "negative": 0,
        "too_long": 0,
        "percentiles_ns": {name: merged.percentile_ns(q) for name, q in expected.items()},
    }
    assert found["inference-consumer"]["count"] == 1


def test_a_run_without_histograms_has_no_summary_of_them(tmp_path):
    (tmp_path / "consumers").mkdir()
    assert histograms.summarise(tmp_path) == {}


def test_a_complete_run_agrees_with_its_histograms(tmp_path, make_run):
    run = make_run(tmp_path, RunName("s", "p", 1))
    assert run.valid
    assert run.info["histograms"]["inference-consumer"]["count"] == run.info["counts"]["labelled"]
    ordered = np.sort((run.frames["labelled_ns"] - run.frames["intended_ns"]).astype("int64").to_numpy())
    p50 = run.info["histograms"]["inference-consumer"]["percentiles_ns"]["p50"]
    assert p50 == pytest.approx(quantile_of_sorted(ordered, 0.5), rel=2 * RELATIVE_ERROR)


@pytest.fixture
def report(tmp_path):
    """A consumer's report of 3 rows, and the histogram it names, in `tmp_path`."""
    histogram = HistogramFile(tmp_path / "consumers" / "db-consumer-0.hdr.json")
    histogram.record([10**6] * 3)
    histogram.write()
    return {"consumer": "db-consumer-0", "csv": "db-consumer-0.csv", "rows": 3, "histogram": histogram.path.name}


def test_a_histogram_that_counts_something_else_speaks_against_the_run(tmp_path, report):
    assert histograms.disagreements(tmp_path, [report]) == []
    told = histograms.disagreements(tmp_path, [report | {"rows": 4}])
    assert told == ["db-consumer-0 counted 3 latencies and wrote 4 rows of CSV"]


@pytest.mark.parametrize("without", [{"csv": None, "rows": None}, {"histogram": None}])
def test_a_consumer_without_either_is_not_asked(tmp_path, report, without):
    assert histograms.disagreements(tmp_path, [report | {"rows": 4} | without]) == []


def test_a_damaged_histogram_is_named_and_ends_nothing(tmp_path, report):
    damaged = tmp_path / "consumers" / report["histogram"]
    damaged.write_text("{}")
    (told,) = histograms.disagreements(tmp_path, [report])
    assert told.startswith(f"the histogram of db-consumer-0 can't be read: {damaged}: not a latency histogram")
    assert str(damaged) in histograms.summarise(tmp_path)["db-consumer"]["reason"]
    with pytest.raises(runs.RunError, match=r"db-consumer-0\.hdr\.json"):
        histograms.merged(tmp_path, "db-consumer")


def test_a_histogram_that_is_missing_is_named(tmp_path, report):
    (tmp_path / "consumers" / report["histogram"]).unlink()
    (told,) = histograms.disagreements(tmp_path, [report])
    assert told.startswith("the histogram of db-consumer-0 can't be read: ")
