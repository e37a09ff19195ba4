from types import SimpleNamespace

import pytest
from bson import Binary
from kafka import TopicPartition

from services.contract.consumer import Frame
from services.contract.delivery import OffsetTracker
from services.contract.latency_csv import STORAGE_COLUMNS
from services.contract.settings import DbConsumerSettings
from services.db_consumer import main as db_consumer
from services.db_consumer.main import StoreFrames

PARTITION = TopicPartition("frames", 0)
IDENTITY = {"partition": 0, "offset": 0, "bytes": 4}


@pytest.fixture
def process(writer):
    """As much of a `ConsumerProcess` as a handler sees."""
    return SimpleNamespace(settings=SimpleNamespace(mongodb_bulk=4), tracker=OffsetTracker(), writer=writer)


@pytest.fixture
def deliver(process, make_headers):
    """Frame `seq` as the loop hands it over: (frame, [(reason, detail) when it was buried])."""

    def make(seq=0):
        delivery = process.tracker.delivered(PARTITION, seq)
        headers, buried = make_headers(seq), []
        row = {name: getattr(headers, name) for name in headers.__dataclass_fields__} | IDENTITY
        finished = lambda: process.tracker.finished(delivery)  # noqa: E731
        return Frame(headers, b"jpeg", row, 3_000, finished, lambda *why: buried.append(why)), buried

    return make


def test_a_frame_is_stored_whole_under_its_id(process, deliver, make_headers):
    frame, _ = deliver(seq=5)
    StoreFrames(process).take([frame])
    (write,) = process.writer.writes
    assert write.image_id == make_headers(5).image_id
    assert write.fields == {
        "device": "cam-0000",
        "run": "run",
        "seq": 5,
        "image": Binary(b"jpeg"),
        "bytes": 4,
        "truth": "cross",
        "intended_ns": 1_000,
        "sent_ns": 2_000,
    }


def test_the_row_and_its_stamps_are_the_columns_of_the_csv(process, deliver):
    frame, _ = deliver()
    StoreFrames(process).take([frame])
    (write,) = process.writer.writes
    assert write.row["storage_received_ns"] == frame.received_ns
    assert write.stamp_path == write.ack_column == "stored_ns"
    # The writer adds these three.
    assert {*write.row, write.ack_column, "write_ns", "attempts"} == set(STORAGE_COLUMNS)


def test_there_is_room_for_two_bulk_writes_of_unfinished_frames(process, deliver):
    handler = StoreFrames(process)
    assert handler.room() == 8
    for seq in range(8):
        handler.take([deliver(seq)[0]])
    assert handler.room() == 0
    process.writer.writes[3].finished()
    assert handler.room() == 1


def test_a_frame_that_the_database_refuses_is_buried_and_not_finished(process, deliver):
    frame, buried = deliver()
    StoreFrames(process).take([frame])
    process.writer.writes[0].refused("document too large")
    assert buried == [("refused by MongoDB", "document too large")]
    assert process.tracker.unfinished() == 1


def test_the_process_is_made_from_the_environment_and_gives_its_exit_status(monkeypatch, process, writer):
    made = []

    class Process(SimpleNamespace):
        def __init__(self, settings, group, columns):
            super().__init__(settings=settings, tracker=OffsetTracker(), writer=writer)
            made.append((settings, group, columns))

        def run(self, handler):
            return 1 if handler.room() == 2 * self.settings.mongodb_bulk else 0

    for name, value in {
        "KAFKA_BOOTSTRAP": "a:1",
        "MONGODB_URI": "mongodb://db",
        "RUN_ID": "r",
        "HOSTNAME": "p",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(db_consumer, "ConsumerProcess", Process)
    monkeypatch.setattr(db_consumer, "set_up_logging", lambda: None)
    assert db_consumer.main() == 1
    ((settings, group, columns),) = made
    assert isinstance(settings, DbConsumerSettings)
    assert (settings.run_id, settings.consumer_name, group, columns) == ("r", "p", "db-consumer", STORAGE_COLUMNS)
