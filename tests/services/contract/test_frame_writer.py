import csv

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from services.contract.clock import Clock
from services.contract.frame_writer import FrameWrite, FrameWriter
from services.contract.latency_csv import LatencyCsv


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
def written(tmp_path):
    """Write `count` frames and close: (writer, seqs of the CSV when each frame was finished, refusals)."""

    def run(collection, count=1, retry_for_s=30.0):
        file = LatencyCsv(tmp_path / "latency.csv", ("seq", "stored_ns", "write_ns", "attempts"), 3600)
        finished: list[tuple[int, list[int]]] = []
        refused: list[str] = []

        def on_disk():
            return [int(row["seq"]) for row in csv.DictReader(file.path.open())]

        writer = FrameWriter(collection, file, Clock(), retry_for_s=retry_for_s)
        for seq in range(count):
            write = FrameWrite(
                f"{seq:024x}", {"seq": seq}, "stored_ns", {"seq": seq}, "stored_ns",
                lambda seq=seq: finished.append((seq, on_disk())), refused.append,
            )  # fmt: skip
            writer.put(write)
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
