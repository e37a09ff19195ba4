"""An engine that is no network: it names the brightness of an image, at once or when a test lets it."""

import io
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from flask import Flask
from PIL import Image

from services.contract.settings import InferenceServerSettings
from services.inference_server.app import create_app
from services.inference_server.batcher import Scores
from services.inference_server.decode import Pixels
from services.inference_server.state import ServerState


class FakeEngine:
    """Gives class = mean brightness, score 1; keeps the sizes of its batches; waits while `gate` is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.error: Exception | None = None

    def __call__(self, pixels: Pixels) -> Scores:
        self.entered.release()
        assert self.gate.wait(30)
        if self.error:
            raise self.error
        self.batches.append(len(pixels))
        scores = np.zeros((len(pixels), 1000), np.float32)
        scores[np.arange(len(pixels)), brightness(pixels)] = 1
        return scores


def brightness(pixels: Pixels) -> np.ndarray:
    """Mean of each image, rounded: shape (n,)."""
    return np.round(pixels.mean(axis=(1, 2, 3))).astype(int)


@pytest.fixture(scope="session")
def make_engine() -> type[FakeEngine]:
    return FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings() -> InferenceServerSettings:
    return InferenceServerSettings(
        batch_max=4, queue_max=8, max_image_bytes=100_000, max_request_bytes=1_000_000, max_image_pixels=1_000_000
    )


@pytest.fixture
def state(settings: InferenceServerSettings, engine: FakeEngine) -> Iterator[ServerState]:
    """A warm server around `engine`."""
    state = ServerState(settings, info={"model": "fake"})
    state.batcher.start(lambda: engine, state.warm.set)
    assert state.warm.wait(10)
    yield state
    engine.gate.set()
    state.batcher.close()


@pytest.fixture
def app(state: ServerState) -> Flask:
    return create_app(state)


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """A file of one grey level: ``make_image(grey, size=(w, h), kind="JPEG")``."""

    def make(grey: int = 128, size: tuple[int, int] = (64, 48), kind: str = "JPEG", mode: str = "RGB") -> bytes:
        buffer = io.BytesIO()
        Image.new("L", size, grey).convert(mode).save(buffer, kind)
        return buffer.getvalue()

    return make
