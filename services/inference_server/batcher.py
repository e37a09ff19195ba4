"""Dynamic micro-batching: one thread owns the engine and runs whatever is waiting, up to a maximum, without padding.

An idle engine takes the first image at once. While it is busy images gather, and the next pass takes them together,
with those of clients who were answered a moment ago if they are known to come back at once (`turnaround`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.contract.clock import Clock
from services.inference_server.decode import SIDE, Pixels
from services.inference_server.errors import ApiError
from services.inference_server.metrics import Metrics
from services.inference_server.turnaround import Turnaround

Scores = npt.NDArray[np.float32]
Engine = Callable[[Pixels], Scores]
"""Takes uint8 of shape (n, 224, 224, 3), RGB; gives float32 of shape (n, classes), each row a softmax. It keeps no
reference to the pixels: the next pass has other ones in the same array."""


def _never_gone() -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Terms:
    """When an answer stops being wanted: after `deadline_ns` (since the epoch), or once `gone` says the client left."""

    deadline_ns: int | None = None
    gone: Callable[[], bool] = _never_gone


@dataclass(frozen=True)
class Outcome:
    """One image's softmax of shape (classes,), its wait and the duration of the pass it was in, and that pass' size."""

    scores: Scores
    queue_ns: int
    inference_ns: int
    batch_images: int


@dataclass(frozen=True)
class _Item:
    pixels: Pixels
    terms: Terms
    queued_ns: int = field(default_factory=time.monotonic_ns)
    future: "Future[Outcome]" = field(default_factory=Future)


def _engine_failed(why: object) -> ApiError:
    return ApiError(503, "engine_failed", f"the engine failed and this process is about to end: {why}", 5.0)


class Batcher:
    """A bounded queue in front of one engine thread.

    A caller reserves places (`reserve`) before it spends time on decoding, then fills them (`submit`) or gives them
    back (`release`). A place is free again when the engine takes its image, so at most `queue_max` images are being
    decoded or wait.
    """

    def __init__(
        self,
        batch_max: int,
        queue_max: int,
        metrics: Metrics,
        wait_s: float = 0.0,
        turnaround: Turnaround | None = None,
    ) -> None:
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._wait_s = wait_s
        self._turnaround = turnaround or Turnaround(0.0)
        self._metrics = metrics
        self._clock = Clock()
        self._changed = threading.Condition()
        self._pixels: Pixels = np.empty((batch_max, SIDE, SIDE, 3), np.uint8)
        self._waiting: deque[_Item] = deque()
        self._reserved = 0  # places taken, whether their image waits already or is still being decoded
        self._running = 0
        self._image_s = 0.0
        self._closing = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(
        self,
        make_engine: Callable[[], Engine],
        on_ready: Callable[[], None] = _nothing,
        on_end: Callable[[], None] = _nothing,
    ) -> None:
        """Start the engine thread: it makes the engine, calls `on_ready`, works until `close` or a failure."""
        work = (make_engine, on_ready, on_end)
        self._thread = threading.Thread(target=self._work, args=work, name="engine", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """What ended the engine thread, if anything did."""
        return self._failure

    @property
    def idle(self) -> bool:
        """Whether nothing is reserved, waiting or running."""
        with self._changed:
            return self._reserved == 0 and self._running == 0

    @property
    def places_taken(self) -> int:
        """Images that wait or are being decoded for the queue, at most `queue_max`."""
        return self._reserved

    @property
    def image_s(self) -> float:
        """Measured seconds of engine time per image, a moving average; 0 before the first pass."""
        return self._image_s

    def seconds_until_free(self, images: int = 1) -> float:
        """How long the engine needs, at its measured rate, until `images` more places are free."""
        with self._changed:
            excess = max(self._reserved + images - self._queue_max, 0) + self._running
            return excess * self._image_s

    def reserve(self, images: int) -> None:
        """Take places in the queue; raise `ApiError` 503 with Retry-After when there are not enough."""
        with self._changed:
            if self._failure is not None:
                raise _engine_failed("it has stopped")
            full = self._reserved + images > self._queue_max
            if not full:
                self._reserved += images
                self._turnaround.arrived(images, time.monotonic())
        if full:
            wait_s = self.seconds_until_free(images)
            raise ApiError(503, "queue_full", f"{self._queue_max} images wait already; try again later", wait_s)

    def release(self, images: int) -> None:
        """Give back places that will not be filled."""
        with self._changed:
            self._reserved -= images
            self._changed.notify()

    def submit(self, images: Sequence[Pixels], terms: Terms) -> "list[Future[Outcome]]":
        """Fill as many reserved places, all at once: a pass that has room takes all of them.

        Each future gives an `Outcome`, or raises `ApiError` when its image was dropped.
        """
        items = [_Item(pixels, terms) for pixels in images]
        with self._changed:
            if self._failure is not None:
                self._reserved -= len(items)
                raise _engine_failed("it has stopped")
            self._waiting.extend(items)
            self._changed.notify()
        return [item.future for item in items]

    def close(self) -> None:
        """Let the engine finish what waits, then end its thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(
        self, make_engine: Callable[[], Engine], on_ready: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        try:
            engine = make_engine()
            on_ready()
            while batch := self._take():
                self._run(engine, batch)
        except BaseException as error:
            self._fail(error)
        finally:
            on_end()

    def _take(self) -> list[_Item]:
        """The next images to run, oldest first; empty when closing and nothing waits."""
        with self._changed:
            was_idle = not self._waiting
            while True:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not was_idle and self._wait_s:  # a fuller batch may cost less per image, and nobody waits for less
                    self._changed.wait_for(self._full, self._wait_s)
                self._wait_for_those_coming_back()
                batch: list[_Item] = []
                while self._waiting and len(batch) < self._batch_max:
                    item = self._waiting.popleft()
                    self._reserved -= 1
                    if not self._drop(item):
                        batch.append(item)
                self._running = len(batch)
                if batch or (self._closing and not self._waiting):
                    return batch

    def _full(self) -> bool:
        return len(self._waiting) >= self._batch_max or self._closing

    def _wait_for_those_coming_back(self) -> None:
        """Until they are here and decoded, or the time for it is up."""
        while not self._full():
            decoding = self._reserved - len(self._waiting)
            if not (left_s := self._turnaround.left_s(decoding, time.monotonic())):
                break
            self._changed.wait(left_s)

    def _drop(self, item: _Item) -> bool:
        """Refuse `item` if nobody wants its answer any more, before it costs a forward pass."""
        deadline_ns = item.terms.deadline_ns
        if deadline_ns is not None and self._clock.now_ns() > deadline_ns:
            error = ApiError(504, "deadline_passed", "the deadline passed while the image waited")
        elif item.terms.gone():
            error = ApiError(503, "client_gone", "the client closed the connection")
        else:
            return False
        self._metrics.dropped.labels(error.reason).inc()
        item.future.set_exception(error)
        return True

    def _run(self, engine: Engine, batch: list[_Item]) -> None:
        started_ns = time.monotonic_ns()
        try:
            scores = engine(self._fill(batch))
        except BaseException as error:
            for item in batch:
                item.future.set_exception(_engine_failed(error))
            raise
        inference_ns = time.monotonic_ns() - started_ns
        image_s = inference_ns / 1e9 / len(batch)
        with self._changed:
            self._image_s = 0.8 * self._image_s + 0.2 * image_s if self._image_s else image_s
            self._running = 0
            self._turnaround.pass_ended(len(batch), inference_ns / 1e9, self._reserved, time.monotonic())
        self._metrics.batch_images.observe(len(batch))
        self._metrics.forward_s.observe(inference_ns / 1e9)
        for item, row in zip(batch, scores, strict=True):
            queue_ns = started_ns - item.queued_ns
            self._metrics.queue_s.observe(queue_ns / 1e9)
            item.future.set_result(Outcome(row, queue_ns, inference_ns, len(batch)))

    def _fill(self, batch: list[_Item]) -> Pixels:
        """The pixels of `batch` in one array, which is used again for the next.

        Copied as memory: np.stack gives up the interpreter's lock, and gets it back only after the handlers that have
        just been answered (2-7 ms of every pass were that).
        """
        pixels = self._pixels[: len(batch)]
        for index, item in enumerate(batch):
            pixels[index].data.cast("B")[:] = item.pixels.data.cast("B")
        return pixels

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            orphans = list(self._waiting)
            self._waiting.clear()
            self._reserved -= len(orphans)
            self._running = 0
        for item in orphans:
            item.future.set_exception(_engine_failed(error))
