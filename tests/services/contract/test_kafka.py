import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer

from services.contract.kafka import consumer_config, group_name, max_request_bytes, producer_config, topic_config
from services.contract.settings import DbConsumerSettings, KafkaSettings, ProducerSettings


def producer(**changes):
    return ProducerSettings(kafka_bootstrap="a:1,b:2", run_id="run", **changes)


def consumer(**changes):
    return DbConsumerSettings(kafka_bootstrap="a:1,b:2", run_id="run", mongodb_uri="mongodb://db", **changes)


def test_the_client_library_knows_every_setting():
    assert set(producer_config(producer())) <= set(KafkaProducer.DEFAULT_CONFIG)
    assert set(consumer_config(consumer(), "db")) <= set(KafkaConsumer.DEFAULT_CONFIG)


def test_the_settings_can_be_stored_with_the_run():
    for config in (producer_config(producer()), consumer_config(consumer(), "db")):
        assert json.loads(json.dumps(config)) == config
        assert config["bootstrap_servers"] == ["a:1", "b:2"]


@given(st.integers(1, 2**30))
def test_one_limit_drives_request_message_and_fetch(image_bytes):
    settings = {"max_image_bytes": image_bytes}
    limit = max_request_bytes(KafkaSettings(kafka_bootstrap="a:1", **settings))
    assert limit > image_bytes
    assert producer_config(producer(**settings))["max_request_size"] == limit
    fetch = consumer_config(consumer(**settings), "db")
    assert fetch["max_partition_fetch_bytes"] == limit <= fetch["fetch_max_bytes"]
    assert topic_config(KafkaSettings(kafka_bootstrap="a:1", **settings))["max.message.bytes"] == str(limit)


@pytest.mark.parametrize(("acks", "sent", "idempotent"), [("all", "all", True), ("1", 1, False), ("0", 0, False)])
def test_only_acks_of_all_replicas_can_be_idempotent(acks, sent, idempotent):
    config = producer_config(producer(acks=acks))
    assert (config["acks"], config["enable_idempotence"]) == (sent, idempotent)


def test_offsets_are_committed_by_the_consumer_itself_and_start_at_the_beginning():
    config = consumer_config(consumer(), "db")
    assert config["enable_auto_commit"] is False
    assert config["auto_offset_reset"] == "earliest"


def test_each_run_has_its_own_consumer_group():
    assert group_name("db", "run-1") != group_name("db", "run-2")
    assert consumer_config(consumer(), "db")["group_id"] == group_name("db", "run")
