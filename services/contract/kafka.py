"""Kafka client settings, set explicitly in one place because their defaults decide what is measured."""

from typing import Any, Final

from services.contract.settings import ConsumerSettings, KafkaSettings, ProducerSettings

_HEADROOM_BYTES: Final = 64 * 1024
"""Room for key, headers and record framing around the largest image."""


def max_request_bytes(settings: KafkaSettings) -> int:
    """The one limit that the client's requests, the topic's messages and the fetches share."""
    return settings.max_image_bytes + _HEADROOM_BYTES


def producer_config(settings: ProducerSettings) -> dict[str, Any]:
    """Keyword arguments of `kafka.KafkaProducer` for a camera process."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap.split(","),
        "client_id": f"producer-{settings.producer_index}",
        "acks": settings.acks if settings.acks == "all" else int(settings.acks),
        "enable_idempotence": settings.acks == "all",
        "linger_ms": settings.linger_ms,
        "compression_type": None,  # JPEG does not compress
        "max_request_size": max_request_bytes(settings),
        "batch_size": 256 * 1024,
        "max_block_ms": 1000,
        "delivery_timeout_ms": int(settings.delivery_timeout_s * 1000),
        "request_timeout_ms": 10_000,
    }


def consumer_config(settings: ConsumerSettings, group: str) -> dict[str, Any]:
    """Keyword arguments of `kafka.KafkaConsumer` for a member of `group` in this run."""
    limit = max_request_bytes(settings)
    return {
        "bootstrap_servers": settings.kafka_bootstrap.split(","),
        "client_id": settings.consumer_name,
        "group_id": group_name(group, settings.run_id),
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": 100,
        "max_partition_fetch_bytes": limit,
        "fetch_max_bytes": max(limit, 8 * 1024 * 1024),
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 1_000,
        "max_poll_interval_ms": 300_000,
    }


def group_name(group: str, run_id: str) -> str:
    """The consumer group of `group` in one run; a new run starts a new group, so no old offsets can leak in."""
    return f"{group}.{run_id}"


def topic_config(settings: KafkaSettings) -> dict[str, str]:
    """Configuration of the frames topic that goes with the clients' limits."""
    return {"max.message.bytes": str(max_request_bytes(settings)), "retention.ms": "86400000"}
