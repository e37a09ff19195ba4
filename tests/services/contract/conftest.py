"""The shared consumer loop against a scripted broker: each poll is a step, and the last is followed by SIGTERM."""

import asyncio
import json
import os
import signal
from types import SimpleNamespace

import pytest

from services.contract import consumer, dead_letters
from services.contract.consumer import ConsumerProcess
from services.contract.histogram import SUFFIX
from services.contract.latency_csv import STORAGE_COLUMNS
from services.contract.settings import DbConsumerSettings


class Broker:
    """A `KafkaConsumer` whose polls run `steps`: a step's value is what the poll returns."""

    def __init__(self):
        self.steps = []
        self.held = {}  # what the group has committed, by partition
        self.partitions_of = {"frames": {0, 1}}
        self.calls = []
        self.commits, self.refusals = [], []
        self.seeks = {}
        self.assigned, self.stopped = set(), set()
        self.idle_polls = []  # partitions paused at each
        self.most_records = []
        self.closed_with = None

    def connect(self, **config):
        return self

    def partitions_for_topic(self, topic):
        return self.partitions_of.get(topic)

    def subscribe(self, topics, listener):
        self.subscribed, self.listener = topics, listener
        self.calls.append("subscribe")

    def topics(self):
        self.calls.append("topics")
        return set(self.partitions_of)

    def assign(self, *partitions):
        self.assigned |= set(partitions)
        asyncio.run(self.listener.on_partitions_assigned(partitions))
        return {}

    def revoke(self, *partitions):
        self.assigned -= set(partitions)
        asyncio.run(self.listener.on_partitions_revoked(partitions))
        return {}

    def lose(self, *partitions):
        self.assigned -= set(partitions)
        asyncio.run(self.listener.on_partitions_lost(partitions))
        return {}

    def poll(self, timeout_ms, max_records=None):
        self.calls.append("poll")
        if max_records is None:
            self.idle_polls.append(set(self.stopped))
            return {}
        self.most_records.append(max_records)
        batches = self.steps.pop(0)() if self.steps else {}
        if not self.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches

    def commit(self, offsets):
        self.commits.append({partition.partition: meta.offset for partition, meta in offsets.items()})
        if self.refusals:
            raise self.refusals.pop(0)

    async def commit_async(self, offsets):
        self.commit(offsets)

    def committed(self, partition):
        return self.held.get(partition)

    def seek(self, partition, offset):
        self.seeks[partition.partition] = offset

    def assignment(self):
        return set(self.assigned)

    def paused(self):
        return set(self.stopped)

    def pause(self, *partitions):
        self.stopped |= set(partitions)

    def resume(self, *partitions):
        self.stopped -= set(partitions)

    def close(self, autocommit):
        self.closed_with = autocommit


class Handler:
    """Takes frames and finishes at once those whose offset is in `finish`."""

    def __init__(self):
        self.finish = range(1000)
        self.frames = []
        self.rooms = []
        self.error = None
        self.closed = False

    def room(self):
        return self.rooms.pop(0) if self.rooms else 100

    def take(self, frames):
        self.frames.extend(frames)
        for frame in frames:
            if frame.row["offset"] in self.finish:
                frame.finished()

    def failure(self):
        return self.error

    def report(self):
        return {"handled": len(self.frames)}

    def close(self):
        self.closed = True


class Letters:
    """A producer to the dead-letter topic; `errors` are raised one by one instead of acknowledgements."""

    def __init__(self):
        self.sent, self.errors = [], []

    def send(self, topic, key, value, headers):
        self.sent.append((topic, value, dict(headers)["dead_reason"]))
        return self

    def get(self, timeout):
        if self.errors:
            raise self.errors.pop(0)

    def close(self):
        """Nothing to close."""


class Probes:
    """The status server without a socket."""

    port = 0

    def serve(self, settings, ready, healthy):
        self.ready, self.healthy = ready, healthy
        return self

    def close(self):
        """Nothing to close."""


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def probes():
    return Probes()


@pytest.fixture
def letters(monkeypatch):
    made = Letters()
    monkeypatch.setattr(dead_letters, "KafkaProducer", lambda **config: made)
    return made


@pytest.fixture
def run(broker, handler, probes, letters, monkeypatch, tmp_path):
    """Run a consumer until the broker's steps are over: (exit status, report)."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def start(**changes):
        monkeypatch.setattr(consumer, "KafkaConsumer", broker.connect)
        monkeypatch.setattr(consumer, "StatusServer", probes.serve)
        client = SimpleNamespace(close=lambda: closed.append(True))
        collection = SimpleNamespace(database=SimpleNamespace(client=client))
        closed: list[bool] = []
        monkeypatch.setattr(consumer, "open_collection", lambda settings: collection)
        small = {"kafka_bootstrap": "a:1", "mongodb_uri": "mongodb://db", "run_id": "run", "consumer_name": "pod-1"}
        settings = {**small, "output_directory": tmp_path, "commit_every_s": 3600.0, "drain_timeout_s": 0.01}
        process = ConsumerProcess(DbConsumerSettings(**(settings | changes)), "db", STORAGE_COLUMNS)
        status = process.run(handler)
        assert closed, "the connections to MongoDB are let go of before the process ends"
        (path,) = (path for path in tmp_path.glob("*.json") if not path.name.endswith(SUFFIX))
        return status, json.loads(path.read_text())

    yield start
    for number, action in before.items():
        signal.signal(number, action)
