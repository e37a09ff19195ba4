"""Takes frames from Kafka and stores each in MongoDB, `_id` = the frame's id."""

import sys
from collections.abc import Sequence
from typing import Any

from bson import Binary

from services.contract.consumer import ConsumerProcess, Frame, set_up_logging
from services.contract.frame_writer import FrameWrite
from services.contract.latency_csv import STORAGE_COLUMNS
from services.contract.settings import DbConsumerSettings

GROUP = "db-consumer"


class StoreFrames:
    """Hands each frame to the writer; two bulk writes may be gathered, so that one fills while one is written."""

    def __init__(self, process: ConsumerProcess) -> None:
        self._process = process
        self._limit = 2 * process.settings.mongodb_bulk

    def room(self) -> int:
        return self._limit - self._process.tracker.unfinished()

    def take(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._put(frame)

    def _put(self, frame: Frame) -> None:
        head = frame.headers
        fields = {
            "device": head.device_id,
            "run": head.run_id,
            "seq": head.seq,
            "image": Binary(frame.jpeg),
            "bytes": len(frame.jpeg),
            "truth": head.truth,
            "intended_ns": head.intended_ns,
            "sent_ns": head.sent_ns,
        }
        self._process.writer.put(
            FrameWrite(
                image_id=head.image_id,
                fields=fields,
                stamp_path="stored_ns",
                row=frame.row | {"storage_received_ns": frame.received_ns},
                ack_column="stored_ns",
                finished=frame.finished,
                refused=lambda why: frame.bury("refused by MongoDB", why),
            )
        )

    def failure(self) -> BaseException | None:
        return None

    def report(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing of its own to let go of."""


def main() -> int:
    """Run until SIGTERM; the exit status is 1 when it could not go on and 0 otherwise."""
    set_up_logging()
    process = ConsumerProcess(DbConsumerSettings(), GROUP, STORAGE_COLUMNS)  # type: ignore[call-arg]
    return process.run(StoreFrames(process))


if __name__ == "__main__":
    sys.exit(main())
