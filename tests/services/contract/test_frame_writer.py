import csv
import time

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from services.contract.clock import Clock
from services.contract.frame_writer import FrameWrite, FrameWriter, Records
from services.contract.histogram import HistogramFile, LatencyHistogram, merge_files
from services.contract.latency_csv import LatencyCsv

ONE_S_AGO_NS = 1_000_000_000


class Collection:
    """Takes bulk writes, or raises what is next in `errors`."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.writes = []

    def bulk_write(self, operations, ordered):
        assert ordered is False
        self.writes.append(len(operations))
        if self.errors:
            raise self.errors.pop(0)


def refusal(code, index=0):
    return BulkWriteError({"writeErrors": [{"index": index, "code": code, "errmsg": "too large"}]})


@pytest.fixture
def histogram(tmp_path):
    return HistogramFile(tmp_path / "latency.hdr.json", write_every_s=3600)


def write_of(seq, finished=lambda: None, refused=lambda why: None):
    row = {"seq": seq, "intended_ns": Clock().now_ns() - ONE_S_AGO_NS}
    return FrameWrite(f"{seq:024x}", {"seq": seq}, "stored_ns", row, "stored_ns", finished, refused)


@pytest.fixture
def written(tmp_path, histogram):
    """Write `count` frames and close: (writer, seqs of the CSV when each frame was finished, refusals)."""

    def run(collection, count=1, retry_for_s=30.0):
        file = LatencyCsv(tmp_path / "latency.csv", ("seq", "intended_ns", "stored_ns", "write_ns", "attempts"), 3600)
        finished: list[tuple[int, list[int]]] = []
        refused: list[str] = []

        def on_disk():
            return [int(row["seq"]) for row in csv.DictReader(file.path.open())]

        writer = FrameWriter(collection, Records(file, histogram), Clock(), retry_for_s=retry_for_s)
        for seq in range(count):
            writer.put(write_of(seq, lambda seq=seq: finished.append((seq, on_disk())), refused.append))
        writer.close(60)
        return writer, finished, refused, list(csv.DictReader(file.path.open()))

    return run


def test_a_frame_is_finished_only_once_its_row_is_handed_over(written):
    _, finished, refused, rows = written(Collection(), count=5)
    assert [seq for seq, _ in finished] == list(range(5))
    assert all(seq in on_disk for seq, on_disk in finished)
    assert refused == []
    assert all(int(row["write_ns"]) <= int(row["stored_ns"]) for row in rows)


@pytest.mark.parametrize("error", [AutoReconnect("gone"), refusal(11000)], ids=["lost connection", "raced upsert"])
def test_what_is_transient_is_written_again_and_counted_once(written, error):
    collection = Collection(error)
    writer, finished, refused, rows = written(collection)
    assert collection.writes == [1, 1]
    assert (len(finished), refused, writer.failure) == (1, [], None)
    assert [row["attempts"] for row in rows] == ["2"]


def test_a_refused_frame_is_handed_back_and_gets_no_row(written):
    _, finished, refused, rows = written(Collection(refusal(10334)))
    assert (finished, refused, rows) == ([], ["too large"], [])


def test_a_database_that_stays_away_finishes_nothing(written):
    writer, finished, _, rows = written(Collection(*[AutoReconnect("gone")] * 100), retry_for_s=0.01)
    assert isinstance(writer.failure, AutoReconnect)
    assert (finished, rows) == ([], [])


def counted(histogram: HistogramFile) -> LatencyHistogram:
    """What the file holds."""
    return merge_files([histogram.path])


def test_each_row_is_counted_once_in_the_histogram(written, histogram):
    _, _, _, rows = written(Collection(AutoReconnect("gone")), count=40)
    histogram.write()
    assert len(counted(histogram)) == 40
    latencies_ns = [int(row["stored_ns"]) - int(row["intended_ns"]) for row in rows]
    assert counted(histogram).percentile_ns(1.0) == pytest.approx(max(latencies_ns), rel=1e-3)


@pytest.mark.parametrize("errors", [[refusal(10334)], [AutoReconnect("gone")] * 100], ids=["refused", "away"])
def test_a_frame_without_a_row_is_not_counted(written, histogram, errors):
    written(Collection(*errors), retry_for_s=0.01)
    histogram.write()
    assert len(counted(histogram)) == 0


def test_without_a_csv_the_histogram_is_kept_all_the_same(histogram):
    records = Records(None, histogram)
    writer = FrameWriter(Collection(), records, Clock())
    writer.put(write_of(1))
    writer.close(60)
    assert len(counted(histogram)) == 0  # not due
    records.close()
    assert len(counted(histogram)) == 1
    assert counted(histogram).percentile_ns(1.0) >= ONE_S_AGO_NS


def test_the_histogram_is_written_while_no_frame_comes(tmp_path):
    histogram = HistogramFile(tmp_path / "latency.hdr.json", write_every_s=0.05)
    writer = FrameWriter(Collection(), Records(None, histogram), Clock())
    writer.put(write_of(1))
    deadline_s = time.monotonic() + 60
    while not len(counted(histogram)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert len(counted(histogram)) == 1
    writer.close(60)
