"""Takes frames from Kafka, has each labelled over HTTP and writes the label to MongoDB."""

import logging
import math
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import Gauge

from services.contract.consumer import ConsumerProcess, Frame, set_up_logging
from services.contract.frame_writer import FrameWrite
from services.contract.latency_csv import INFERENCE_COLUMNS
from services.contract.settings import InferenceConsumerSettings
from services.inference_consumer.client import Answer, InferenceClient, RejectedError
from services.inference_consumer.in_flight import AdaptiveLimit, FixedLimit, Limit

GROUP = "inference-consumer"

log = logging.getLogger(__name__)
_in_flight = Gauge("images_in_flight", "Images that the inference server has now")
_limit = Gauge("images_in_flight_limit", "Images that it may have now")


class LabelFrames:
    """Keeps several images in flight, in one request those that came together.

    What has been answered goes to the writer, off the critical path.
    """

    def __init__(self, process: ConsumerProcess, settings: InferenceConsumerSettings) -> None:
        self._process = process
        self._client = InferenceClient(
            settings.inference_url,
            process.clock,
            timeout_s=settings.request_timeout_s,
            retry_for_s=settings.retry_for_s,
        )
        self._images_per_request = settings.images_per_request
        fixed = settings.images_in_flight
        self._limit: Limit = FixedLimit(fixed) if fixed else AdaptiveLimit(settings.max_images_in_flight)
        self._pool = ThreadPoolExecutor(fixed or settings.max_images_in_flight, thread_name_prefix="request")
        self._lock = threading.Lock()
        self._in_flight = 0
        self._most_in_flight = 0
        self._requests: Counter[int] = Counter()  # by their number of images
        self._failure: BaseException | None = None

    def room(self) -> int:
        _limit.set(self._limit.value)
        with self._lock:
            return self._limit.value - self._in_flight

    def take(self, frames: Sequence[Frame]) -> None:
        with self._lock:
            self._in_flight += len(frames)
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            _in_flight.set(self._in_flight)
        requests = math.ceil(len(frames) / self._images_per_request)
        for number in range(requests):  # of as equal sizes as can be
            together = frames[number::requests]
            self._requests[len(together)] += 1
            self._pool.submit(self._label, together)

    def _label(self, frames: Sequence[Frame]) -> None:
        try:
            for frame, answer in zip(frames, self._ask(frames), strict=True):
                if isinstance(answer, RejectedError):
                    frame.bury(answer.reason, answer.detail)
                else:
                    self._process.writer.put(_write_of(frame, answer))
        except BaseException as error:
            log.exception("labelling failed for good")
            self._failure = error

    def _ask(self, frames: Sequence[Frame]) -> list[Answer | RejectedError]:
        """An answer for each of them, of which the limit learns."""
        try:
            answers = self._client.predict([frame.jpeg for frame in frames])
        finally:
            with self._lock:
                in_flight = self._in_flight
                self._in_flight -= len(frames)
                _in_flight.set(self._in_flight)
        labelled = [answer for answer in answers if isinstance(answer, Answer)]
        if any(answer.attempts > 1 for answer in labelled):
            self._limit.busy()
        else:
            for timing in (answer.body["timing_ns"] for answer in labelled):
                self._limit.answered(timing["queue"], timing["inference"], in_flight)
        return answers

    def failure(self) -> BaseException | None:
        return self._failure

    def report(self) -> dict[str, Any]:
        return {
            "retries": self._client.retries,
            "images_in_flight_limit": self._limit.value,
            "most_images_in_flight": self._most_in_flight,
            "requests_by_images": dict(sorted(self._requests.items())),
        }

    def close(self) -> None:
        self._pool.shutdown()


def _write_of(frame: Frame, answer: Answer) -> FrameWrite:
    body, timing = answer.body, answer.body["timing_ns"]
    label = {"label": body["label"], "class_id": body["class_id"], "score": body["score"], "model": body["model"]}
    stamps = {"requested_ns": answer.requested_ns, "answered_ns": answer.answered_ns}
    durations = {f"server_{name}_ns": timing[name] for name in ("queue", "decode", "inference")}
    details = {**label, "received_ns": frame.received_ns, **stamps, **durations, "attempts": answer.attempts}
    row = {key: value for key, value in details.items() if key != "model"}
    return FrameWrite(
        image_id=frame.headers.image_id,
        fields={"run": frame.headers.run_id} | {f"inference.{key}": value for key, value in details.items()},
        stamp_path="inference.labelled_ns",
        row=frame.row | row,
        ack_column="labelled_ns",
        finished=frame.finished,
        refused=lambda why: frame.bury("refused by MongoDB", why),
    )


def main() -> int:
    """Run until SIGTERM; the exit status is 1 when it could not go on and 0 otherwise."""
    set_up_logging()
    settings = InferenceConsumerSettings()  # type: ignore[call-arg]
    process = ConsumerProcess(settings, GROUP, INFERENCE_COLUMNS)
    return process.run(LabelFrames(process, settings))


if __name__ == "__main__":
    sys.exit(main())
