import threading
import time

import pytest
from kafka.errors import KafkaError, MessageSizeTooLargeError
from prometheus_client import REGISTRY

from services.contract import dead_letters
from services.contract.dead_letters import DeadLetters
from services.contract.kafka import max_request_bytes
from services.contract.message import FrameHeaders
from services.contract.settings import KafkaSettings

SETTINGS = KafkaSettings(kafka_bootstrap="a:1,b:2", kafka_dead_topic="dead")


class Producer:
    """A Kafka producer in memory; an acknowledgement that is asked for is the next of `errors`, or a good one."""

    made: list["Producer"]
    errors: list[KafkaError]

    def __init__(self, **config):
        time.sleep(0.05)  # connecting takes a while, in which other threads run
        self.config = config
        self.sent = []
        self.closed = False
        Producer.made.append(self)

    def send(self, topic, key, value, headers):
        self.sent.append((topic, key, value, dict(headers)))
        return self

    def get(self, timeout):
        if Producer.errors:
            raise Producer.errors.pop(0)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def producers(monkeypatch):
    """The producers that were made, the connection being one to memory."""
    Producer.made, Producer.errors = [], []
    monkeypatch.setattr(dead_letters, "KafkaProducer", Producer)
    return Producer.made


def test_a_dead_letter_is_the_whole_message_and_why(producers, make_record, make_headers):
    record = make_record(7, partition=3)
    DeadLetters(SETTINGS, "db-consumer").send(record, "malformed headers", "header seq is missing")
    ((topic, key, value, headers),) = producers[0].sent
    assert (topic, key, value) == ("dead", record.key, record.value)
    assert FrameHeaders.decode(headers.items()) == make_headers(7)
    assert {name: text for name, text in headers.items() if name.startswith("dead_")} == {
        "dead_reason": b"malformed headers",
        "dead_detail": b"header seq is missing",
        "dead_sender": b"db-consumer",
        "dead_from": b"frames:3:7",
    }


def test_a_long_explanation_is_cut_and_the_message_is_not(producers, make_record):
    DeadLetters(SETTINGS, "db-consumer").send(make_record(value=b"x" * 100_000), "HTTP 413", "é" * 5_000)
    ((_, _, value, headers),) = producers[0].sent
    assert headers["dead_detail"].decode() == "é" * 1_000
    assert len(value) == 100_000


def test_the_connection_waits_for_all_replicas_and_has_room_for_the_reason(producers, make_record):
    DeadLetters(SETTINGS, "db-consumer").send(make_record(), "HTTP 400")
    config = producers[0].config
    assert (config["bootstrap_servers"], config["acks"]) == (["a:1", "b:2"], "all")
    assert config["max_request_size"] > max_request_bytes(SETTINGS)


def test_what_was_acknowledged_is_counted_by_reason(make_record):
    def counted():
        return REGISTRY.get_sample_value("dead_letters_total", {"reason": "HTTP 415"}) or 0.0

    letters, before = DeadLetters(SETTINGS, "inference-consumer"), counted()
    for offset, reason in enumerate(["HTTP 415", "malformed headers", "HTTP 415"]):
        letters.send(make_record(offset), reason)
    assert letters.counts == {"HTTP 415": 2, "malformed headers": 1}
    assert counted() - before == 2


def test_a_letter_that_the_broker_refuses_is_an_error_and_not_counted(make_record):
    letters = DeadLetters(SETTINGS, "db-consumer")
    Producer.errors = [MessageSizeTooLargeError()]
    with pytest.raises(MessageSizeTooLargeError):
        letters.send(make_record(), "HTTP 413")
    assert letters.counts == {}
    letters.send(make_record(), "HTTP 413")
    assert letters.counts == {"HTTP 413": 1}


def test_threads_share_one_connection(producers, make_record):
    letters, together = DeadLetters(SETTINGS, "inference-consumer"), threading.Barrier(8)

    def send(offset):
        together.wait()
        letters.send(make_record(offset), "HTTP 400")

    threads = [threading.Thread(target=send, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    letters.close()
    assert [producer.closed for producer in producers] == [True]
    assert len(producers[0].sent) == 8
    assert letters.counts == {"HTTP 400": 8}


def test_without_dead_letters_there_is_no_connection(producers):
    DeadLetters(SETTINGS, "db-consumer").close()
    assert producers == []
