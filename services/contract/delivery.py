"""Which delivered frames are finished, and so which offsets may be committed."""

import threading
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed to this process; ``epoch`` tells assignments of the same partition apart."""

    partition: TopicPartition
    offset: int
    epoch: int


class OffsetTracker:
    """Commits nothing beyond the first unfinished frame of each partition.

    Frames finish out of order. An offset is committable only when every frame delivered before it is finished, so a
    crash at any moment leads to frames delivered again, never to frames skipped. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._epoch = 0
        self._unfinished: dict[TopicPartition, dict[int, bool]] = {}  # offset -> finished, in order of delivery
        self._epochs: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def assign(self, partitions: set[TopicPartition]) -> None:
        """Take on `partitions` afresh: what was delivered of them before is forgotten."""
        with self._lock:
            self._epoch += 1
            for partition in partitions:
                self._epochs[partition] = self._epoch
                self._unfinished[partition] = {}
                self._positions.pop(partition, None)
                self._committed.pop(partition, None)

    def revoke(self, partitions: set[TopicPartition]) -> None:
        """Give up `partitions`: frames of theirs that finish later change nothing, their new owner handles them."""
        with self._lock:
            for partition in partitions:
                for state in (self._epochs, self._unfinished, self._positions, self._committed):
                    state.pop(partition, None)
            self._lock.notify_all()

    def delivered(self, partition: TopicPartition, offset: int) -> Delivery:
        """Note a message that poll returned."""
        with self._lock:
            self._unfinished.setdefault(partition, {})[offset] = False
            return Delivery(partition, offset, self._epochs.setdefault(partition, self._epoch))

    def finished(self, delivery: Delivery) -> None:
        """Note that all of a frame's effects are durable."""
        with self._lock:
            if self._epochs.get(delivery.partition) != delivery.epoch:
                return
            waiting = self._unfinished[delivery.partition]
            waiting[delivery.offset] = True
            for offset in list(waiting):
                if not waiting[offset]:
                    break
                del waiting[offset]
                self._positions[delivery.partition] = offset + 1
            self._lock.notify_all()

    def unfinished(self) -> int:
        """Frames delivered and not finished."""
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return sum(not done for waiting in self._unfinished.values() for done in waiting.values())

    def wait_finished(self, timeout_s: float) -> bool:
        """Wait until nothing is unfinished; False when `timeout_s` ran out first."""
        with self._lock:
            return self._lock.wait_for(lambda: self._count() == 0, timeout_s)

    def committable(self) -> dict[TopicPartition, Any]:
        """Offsets that have become committable since the last `committed`, as kafka-python takes them."""
        with self._lock:
            return {
                partition: OffsetAndMetadata(position, "", -1)
                for partition, position in self._positions.items()
                if self._committed.get(partition) != position
            }

    def committed(self, offsets: dict[TopicPartition, Any]) -> None:
        """Note a successful commit."""
        with self._lock:
            for partition, meta in offsets.items():
                if partition in self._positions:
                    self._committed[partition] = meta.offset
