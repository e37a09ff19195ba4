"""What a consumer does when partitions of its group come and go."""

import logging
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from prometheus_client import Gauge

from services.contract.delivery import OffsetTracker

log = logging.getLogger(__name__)
_assigned = Gauge("assigned_partitions", "Partitions of the frames topic assigned to this process")


class Rebalance(AsyncConsumerRebalanceListener):
    """Commits what is finished before partitions move; what is in flight is delivered again to their new owner."""

    def __init__(self, consumer: KafkaConsumer, tracker: OffsetTracker) -> None:
        self._consumer = consumer
        self._tracker = tracker
        self.partitions: set[Any] = set()
        self.unplaced: set[Any] = set()

    def place(self) -> None:
        """Seek newly assigned partitions to what the group has committed, or to their beginning.

        The client would do that by itself in the background, but on a busy host it sometimes never finishes
        (kafka-python 3.0.12), and then the partition is never fetched from.
        """
        for partition in sorted(self.unplaced):
            self._consumer.seek(partition, self._consumer.committed(partition) or 0)
            self.unplaced.discard(partition)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        offsets = {tp: meta for tp, meta in self._tracker.committable().items() if tp in revoked}
        try:
            if offsets:
                await self._consumer.commit_async(offsets)
        except KafkaError as error:
            log.warning("commit before a rebalance failed, frames will be delivered again: %s", error)
        self._release(revoked)

    async def on_partitions_lost(self, lost: Any) -> None:
        self._release(lost)

    def _release(self, partitions: Any) -> None:
        self._tracker.revoke(set(partitions))
        self.partitions -= set(partitions)
        self.unplaced -= set(partitions)
        _assigned.set(len(self.partitions))

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._tracker.assign(set(assigned))
        self.partitions |= set(assigned)
        self.unplaced |= set(assigned)
        _assigned.set(len(self.partitions))
