"""What a run needs of the broker besides frames: topics made anew, the start signal, the consumers' lag.

As a command (``python -m services.contract.broker ACTION``) it does the same from inside a cluster and answers in JSON.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from services.contract.kafka import group_name, topic_config
from services.contract.settings import KafkaSettings, ReplicationSettings


@contextmanager
def _admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap.split(","), client_id="latencylab-admin")
    try:
        yield client
    finally:
        client.close()


def renew_topics(settings: ReplicationSettings, timeout_s: float = 30.0) -> None:
    """Delete the run topics if they exist and create them empty, then wait until every partition has a leader.

    Raises `TimeoutError` when a deletion or an election takes longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    copies = {"replication_factor": settings.replication_factor}
    durability = {"min.insync.replicas": str(settings.min_insync_replicas)}
    wanted = {
        settings.kafka_topic: (settings.partitions, {**topic_config(settings), **durability}),
        settings.kafka_dead_topic: (1, {**topic_config(settings), **durability}),
        settings.kafka_control_topic: (1, durability),
    }
    with _admin(settings) as admin:
        if present := sorted(wanted.keys() & set(admin.list_topics())):
            admin.delete_topics(present)
        missing = set(wanted)
        while missing:
            for name in sorted(missing):
                partitions, config = wanted[name]
                try:
                    admin.create_topics([NewTopic(name, partitions, topic_configs=config, **copies)])
                    missing.discard(name)
                except (TopicAlreadyExistsError, UnknownTopicOrPartitionError):
                    time.sleep(0.1)  # the deletion has not spread yet
            _check_deadline(deadline, f"topics {sorted(missing)} could not be created anew")
        while leaderless := _partitions_without_leader(admin, list(wanted)):
            time.sleep(0.1)
            _check_deadline(deadline, f"no leader for {leaderless}")


def _check_deadline(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"Kafka: {problem} in time; look at the broker's log")


def _partitions_without_leader(admin: KafkaAdminClient, topics: list[str]) -> list[str]:
    described = {topic["name"]: topic for topic in admin.describe_topics(topics)}
    unled = [name for name in topics if not described.get(name, {}).get("partitions")]
    for name, topic in described.items():
        unled += [f"{name}-{p['partition_index']}" for p in topic["partitions"] if p["leader_id"] < 0]
    return unled


def publish_start(settings: KafkaSettings, run_id: str, start_at_ns: int) -> None:
    """Tell the waiting producers of `run_id` when their schedule starts (ns since the epoch)."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap.split(","), acks="all")
    try:
        body = json.dumps({"start_at_ns": start_at_ns}).encode()
        producer.send(settings.kafka_control_topic, key=run_id.encode(), value=body).get(timeout=30)
    finally:
        producer.close()


def wait_for_start(settings: KafkaSettings, run_id: str, timeout_s: float) -> int:
    """Block until the start of `run_id` has been published; return it in ns since the epoch.

    Raises `TimeoutError` after `timeout_s`.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=None,
    )
    try:
        partition = TopicPartition(settings.kafka_control_topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    if record.key == run_id.encode():
                        return int(json.loads(record.value)["start_at_ns"])
    finally:
        consumer.close()
    raise TimeoutError(f"no start for run {run_id} on topic {settings.kafka_control_topic} within {timeout_s:.0f} s")


def end_offsets(settings: KafkaSettings) -> dict[str, dict[int, int]]:
    """End offset of each partition of the frames and the dead topic: {topic: {partition: offset}}."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap.split(","), group_id=None)
    try:
        ends: dict[str, dict[int, int]] = {}
        for topic in (settings.kafka_topic, settings.kafka_dead_topic):
            numbers = sorted(consumer.partitions_for_topic(topic) or ())
            offsets = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
            ends[topic] = {tp.partition: offset for tp, offset in offsets.items()}
        return ends
    finally:
        consumer.close()


def _is_retriable(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


@retry(retry=retry_if_exception(_is_retriable), stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True)
def lag(settings: KafkaSettings, run_id: str, groups: tuple[str, ...]) -> dict[str, int]:
    """Frames that each consumer group of the run has not committed yet: {group: frames}."""
    ends = end_offsets(settings)[settings.kafka_topic]
    left: dict[str, int] = {}
    with _admin(settings) as admin:
        for group in groups:
            name = group_name(group, run_id)
            answer = admin.list_group_offsets({name: None})[name]
            committed = {tp.partition: meta.offset for tp, meta in answer.items() if tp.topic == settings.kafka_topic}
            left[group] = sum(end - max(committed.get(number, 0), 0) for number, end in ends.items())
    return left


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.contract.broker", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("renew-topics", help="create the run's topics empty")
    start = actions.add_parser("start", help="publish a start time")
    start.add_argument("run_id")
    start.add_argument("start_at_ns", type=int)
    lagging = actions.add_parser("lag", help="frames not yet committed, per consumer group")
    lagging.add_argument("run_id")
    lagging.add_argument("groups", nargs="+")
    actions.add_parser("end-offsets", help="end offsets of the frames and the dead topic")
    args = parser.parse_args()
    answer: Any = None
    if args.action == "renew-topics":
        renew_topics(ReplicationSettings())
    elif args.action == "start":
        publish_start(KafkaSettings(), args.run_id, args.start_at_ns)
    elif args.action == "lag":
        answer = lag(KafkaSettings(), args.run_id, tuple(args.groups))
    else:
        answer = end_offsets(KafkaSettings())
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
