"""Messages that can't be handled go to a topic of their own, whole and with the reason."""

import logging
import threading
from typing import Any

from kafka import KafkaProducer
from prometheus_client import Counter

from services.contract.kafka import max_request_bytes
from services.contract.settings import KafkaSettings

log = logging.getLogger(__name__)
_dead = Counter("dead_letters_total", "Messages sent to the dead-letter topic", ["reason"])


class DeadLetters:
    """Sends messages to the dead-letter topic and counts them by reason. Safe to use from several threads."""

    def __init__(self, settings: KafkaSettings, sender: str) -> None:
        self._settings = settings
        self._sender = sender
        self._lock = threading.Lock()
        self._producer: Any = None
        self.counts: dict[str, int] = {}

    def send(self, record: Any, reason: str, detail: str = "") -> None:
        """Copy `record` to the dead-letter topic and wait for the acknowledgement.

        ``reason`` is one of few words (it labels a metric), ``detail`` says the rest. Raises `KafkaError` when the
        broker does not take it: the caller must then not commit the record.
        """
        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap.split(","),
                    acks="all",
                    max_request_size=max_request_bytes(self._settings) + 4096,
                )
        headers = [
            *record.headers,
            ("dead_reason", reason.encode()),
            ("dead_detail", detail[:1000].encode()),
            ("dead_sender", self._sender.encode()),
            ("dead_from", f"{record.topic}:{record.partition}:{record.offset}".encode()),
        ]
        self._producer.send(self._settings.kafka_dead_topic, key=record.key, value=record.value, headers=headers).get(
            timeout=60
        )
        _dead.labels(reason).inc()
        with self._lock:
            self.counts[reason] = self.counts.get(reason, 0) + 1
        log.warning("dead letter %s:%s: %s %s", record.partition, record.offset, reason, detail)

    def close(self) -> None:
        """Close the connection, if one was ever made."""
        if self._producer is not None:
            self._producer.close()
