"""Whether an engine says the same as plain Keras, on frames made for the purpose."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from services.inference_server.batcher import Engine, Scores
from services.inference_server.decode import SIDE, Pixels

FRAMES: Final = 8


def make_frames() -> Pixels:
    """Seeded pictures, uint8 of shape (8, 224, 224, 3): smooth colour fields with rectangles, and some noise."""
    generator = np.random.default_rng(20)
    ramp = np.linspace(0, 1, SIDE)
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    for frame in frames:
        corners = generator.uniform(0, 255, (2, 2, 3))
        rows = corners[0] + ramp[:, None, None] * (corners[1] - corners[0])  # (SIDE, 2, 3)
        picture = rows[:, :1] + ramp[None, :, None] * (rows[:, 1:] - rows[:, :1])
        for _ in range(6):
            top, left = generator.integers(0, SIDE - 20, 2)
            height, width = generator.integers(20, 120, 2)
            picture[top : top + height, left : left + width] = generator.uniform(0, 255, 3)
        frame[:] = np.clip(picture + generator.normal(0, 8, picture.shape), 0, 255)
    return frames


def predict_plainly(model: Any, pixels: Pixels) -> Scores:
    """Softmax (n, 1000) of uint8 RGB (n, 224, 224, 3) by the plain Keras model and Keras' own preprocessing."""
    from keras.applications.resnet50 import preprocess_input

    return np.asarray(model(preprocess_input(pixels.astype(np.float32)), training=False))


@dataclass(frozen=True)
class Agreement:
    """How an engine compares with plain Keras on all frames."""

    frames: int
    same_top1: int
    softmax_difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """The same top-1 class on every frame, and no softmax value further away than the tolerance."""
        return self.same_top1 == self.frames and self.softmax_difference <= self.tolerance

    def facts(self) -> dict[str, Any]:
        """What /info says of it."""
        return {**asdict(self), "agrees": self.agrees}


def compare(engine: Engine, reference: Scores, tolerance: float) -> Agreement:
    """Run the frames through `engine` and compare with `reference`, plain Keras' softmax of the same frames."""
    scores = engine(make_frames()[: len(reference)])
    return Agreement(
        frames=len(reference),
        same_top1=int((scores.argmax(axis=1) == reference.argmax(axis=1)).sum()),
        softmax_difference=float(np.abs(scores - reference).max()),
        tolerance=tolerance,
    )
