"""How many images one consumer keeps in flight: enough to fill the server's batches, and no more."""

import threading
from typing import Protocol


class Limit(Protocol):
    """A number of images that may be in flight, told of every outcome."""

    @property
    def value(self) -> int:
        """Images that may be in flight now, at least 1."""

    def answered(self, queue_ns: int, inference_ns: int, in_flight: int) -> None:
        """Learn from an answer: time in the server's queue, time of its forward pass, images then in flight."""

    def busy(self) -> None:
        """Learn from a refusal for lack of room (503)."""


class FixedLimit:
    """The number that the experiment asked for."""

    def __init__(self, value: int) -> None:
        self.value = value

    def answered(self, queue_ns: int, inference_ns: int, in_flight: int) -> None:
        """A fixed number learns nothing."""

    def busy(self) -> None:
        """A fixed number learns nothing."""


class AdaptiveLimit:
    """Additive increase, additive decrease on the server's own queue time; multiplicative decrease on 503.

    While one batch runs, the next one gathers: with exactly enough images to fill batches, an image waits about
    one forward pass in the queue. Less than `LOW` passes means that batches could be fuller (or the engine is idle
    at times); more than `HIGH` means that images queue behind a full batch, where they gain nothing over waiting
    in Kafka. The steps are 1/limit per answer, so that the limit moves by about one per round trip, as in TCP Vegas
    (Brakmo & Peterson 1995). The limit grows only when it was the limit that held images back.
    """

    LOW = 0.8
    HIGH = 1.3

    def __init__(self, highest: int, start: int = 2) -> None:
        self._highest = highest
        self._exact = float(min(start, highest))
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        """Images that may be in flight now."""
        return max(1, int(self._exact))

    def answered(self, queue_ns: int, inference_ns: int, in_flight: int) -> None:
        """Move the limit by at most 1/limit."""
        with self._lock:
            passes_waited = queue_ns / max(inference_ns, 1)
            if passes_waited < self.LOW and in_flight >= self.value:
                self._exact = min(float(self._highest), self._exact + 1 / self._exact)
            elif passes_waited > self.HIGH:
                self._exact = max(1.0, self._exact - 1 / self._exact)

    def busy(self) -> None:
        """Halve the limit."""
        with self._lock:
            self._exact = max(1.0, self._exact / 2)
