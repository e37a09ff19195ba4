import json
import sys
from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, GroupAuthorizationFailedError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from services.contract import broker
from services.contract.kafka import group_name, max_request_bytes
from services.contract.settings import KafkaSettings, ReplicationSettings

SETTINGS = ReplicationSettings(kafka_bootstrap="a:1", partitions=3, replication_factor=2, min_insync_replicas=2)
TOPICS = {"frames": 3, "frames.dead": 1, "frames.control": 1}


class Time:
    """Passes only when somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s

    def sleep(self, duration_s):
        self.now_s += duration_s


class Kafka:
    """A cluster in memory, and every kind of client of it."""

    def __init__(self, time):
        self.time = time
        self.connections = 0
        self.topics = {}  # name: NewTopic
        self.messages = []  # (topic, key, value)
        self.committed = {}  # group: {partition: offset}
        self.ends = {}  # partition: offset
        self.errors = []  # raised one by one, None for success
        self.elections = 0  # descriptions until the last partition of the frames topic has a leader

    def connect(self, **config):
        assert config["bootstrap_servers"] == ["a:1"]
        self.connections += 1
        self.polled = 0
        return self

    def close(self):
        self.connections -= 1

    def _fail(self):
        if self.errors and (error := self.errors.pop(0)):
            raise error

    def list_topics(self):
        return list(self.topics)

    def delete_topics(self, names):
        for name in names:
            del self.topics[name]
        self.messages = [message for message in self.messages if message[0] not in names]

    def create_topics(self, topics):
        self._fail()
        self.topics |= {topic.name: topic for topic in topics}

    def describe_topics(self, names):
        described = []
        for name in names:
            count = self.topics[name].num_partitions
            last = -1 if name == "frames" and self.elections > 0 else 1
            leaders = [1] * (count - 1) + [last]
            partitions = [{"partition_index": n, "leader_id": leader} for n, leader in enumerate(leaders)]
            described.append({"name": name, "partitions": partitions})
        self.elections -= 1
        return described

    def list_group_offsets(self, groups):
        self._fail()
        held = {group: self.committed.get(group, {}) for group in groups}
        return {
            group: {tp: OffsetAndMetadata(n, "", -1) for tp, n in offsets.items()} for group, offsets in held.items()
        }

    def send(self, topic, key, value):
        self.messages.append((topic, key, value))
        return SimpleNamespace(get=lambda timeout: self._fail())

    def assign(self, partitions):
        self.assigned = [partition.topic for partition in partitions]

    def seek_to_beginning(self, *partitions):
        self.polled = 0

    def poll(self, timeout_ms):
        self.time.sleep(timeout_ms / 1000)
        new = [
            SimpleNamespace(key=k, value=v) for topic, k, v in self.messages[self.polled :] if topic in self.assigned
        ]
        self.polled = len(self.messages)
        return {TopicPartition(self.assigned[0], 0): new} if new else {}

    def partitions_for_topic(self, topic):
        return {partition.partition for partition in self.ends if partition.topic == topic} or None

    def end_offsets(self, partitions):
        return {partition: self.ends[partition] for partition in partitions}


@pytest.fixture
def kafka(monkeypatch):
    """The cluster that the module talks to; whatever connected to it must have closed."""
    time = Time()
    cluster = Kafka(time)
    monkeypatch.setattr(broker, "time", time)
    for client in ("KafkaAdminClient", "KafkaProducer", "KafkaConsumer"):
        monkeypatch.setattr(broker, client, cluster.connect)
    yield cluster
    assert cluster.connections == 0


def test_topics_are_made_with_what_the_settings_say(kafka):
    broker.renew_topics(SETTINGS)
    assert {name: topic.num_partitions for name, topic in kafka.topics.items()} == TOPICS
    assert {topic.replication_factor for topic in kafka.topics.values()} == {2}
    assert {topic.topic_configs["min.insync.replicas"] for topic in kafka.topics.values()} == {"2"}
    limits = [kafka.topics[name].topic_configs["max.message.bytes"] for name in ("frames", "frames.dead")]
    assert limits == [str(max_request_bytes(SETTINGS))] * 2


def test_topics_of_an_earlier_run_are_emptied_and_others_are_left(kafka):
    broker.renew_topics(SETTINGS)
    broker.publish_start(SETTINGS, "old", 1)
    kafka.topics["others"] = None
    broker.renew_topics(SETTINGS.model_copy(update={"partitions": 5}))
    assert kafka.messages == []
    assert set(kafka.topics) == {*TOPICS, "others"}
    assert kafka.topics["frames"].num_partitions == 5


def test_a_deletion_that_has_not_spread_and_an_election_are_waited_for(kafka):
    kafka.errors = [TopicAlreadyExistsError(), None, TopicAlreadyExistsError()]
    kafka.elections = 3
    broker.renew_topics(SETTINGS)
    assert set(kafka.topics) == set(TOPICS)
    assert kafka.elections < 0


def test_a_deletion_that_does_not_end_names_the_topics(kafka):
    kafka.errors = [None, None, *[TopicAlreadyExistsError()] * 1000]
    with pytest.raises(TimeoutError, match=r"topics \['frames.dead'\] could not be created"):
        broker.renew_topics(SETTINGS)


def test_an_election_that_does_not_end_names_the_partition(kafka):
    kafka.elections = 1000
    with pytest.raises(TimeoutError, match=r"no leader for \['frames-2'\]"):
        broker.renew_topics(SETTINGS)


def test_producers_hear_the_start_of_their_own_run(kafka):
    broker.publish_start(SETTINGS, "earlier", 1)
    broker.publish_start(SETTINGS, "run", 10**18 + 7)
    broker.publish_start(SETTINGS, "later", 2)
    assert broker.wait_for_start(SETTINGS, "run", 1.0) == 10**18 + 7


def test_a_start_that_does_not_come_names_run_and_topic(kafka):
    broker.publish_start(SETTINGS, "other", 1)
    with pytest.raises(TimeoutError, match=r"run run on topic frames\.control within 5 s"):
        broker.wait_for_start(SETTINGS, "run", 5.0)
    assert kafka.time.now_s >= 5.0


def test_a_start_that_the_broker_refuses_is_an_error(kafka):
    kafka.errors = [GroupAuthorizationFailedError()]
    with pytest.raises(GroupAuthorizationFailedError):
        broker.publish_start(SETTINGS, "run", 1)


@pytest.fixture
def filled(kafka):
    """10 + 20 + 5 frames, of which one group has committed 10 + 15 and the other none."""
    for number, end in enumerate((10, 20, 5)):
        kafka.ends[TopicPartition("frames", number)] = end
    done = {0: 10, 1: 15, 2: -1}  # -1: the group knows the partition and has committed nothing
    offsets = {TopicPartition("frames", number): offset for number, offset in done.items()}
    kafka.committed[group_name("db", "run")] = {**offsets, TopicPartition("others", 0): 4}
    kafka.committed[group_name("db", "earlier")] = dict.fromkeys(offsets, 20)
    return kafka


def test_lag_is_what_the_groups_of_this_run_have_not_committed(filled):
    assert broker.lag(SETTINGS, "run", ("db", "inference")) == {"db": 10, "inference": 35}


def test_a_coordinator_that_still_loads_is_asked_again_and_a_refusal_is_final(filled):
    filled.errors = [CoordinatorLoadInProgressError()]
    assert broker.lag(SETTINGS, "run", ("db",)) == {"db": 10}
    filled.errors = [GroupAuthorizationFailedError()]
    with pytest.raises(GroupAuthorizationFailedError):
        broker.lag(SETTINGS, "run", ("db",))


def test_a_topic_that_nobody_made_has_no_ends(filled):
    assert broker.end_offsets(SETTINGS) == {"frames": {0: 10, 1: 20, 2: 5}, "frames.dead": {}}


def test_the_command_answers_in_json(filled, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["broker", *arguments])
        broker.main()
        return json.loads(capsys.readouterr().out)

    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("PARTITIONS", "3")
    assert run("lag", "run", "db", "inference") == {"db": 10, "inference": 35}
    assert run("end-offsets") == {"frames": {"0": 10, "1": 20, "2": 5}, "frames.dead": {}}
    assert run("renew-topics") is None
    assert filled.topics["frames"].num_partitions == 3
    assert run("start", "run", "123") is None
    assert broker.wait_for_start(KafkaSettings(), "run", 1.0) == 123
