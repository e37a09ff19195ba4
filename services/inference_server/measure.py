"""The child process of a calibration: opens one plan, checks it against plain Keras, times it, prints JSON.

A process per plan, because TensorFlow reads its settings once per process, and since only so is the memory its own.
"""

import contextlib
import ctypes
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.contract.settings import InferenceServerSettings
from services.inference_server import agreement, artefacts
from services.inference_server.batcher import Engine
from services.inference_server.decode import SIDE
from services.inference_server.forms import FORMS, Plan, open_engine

BATCH_IMAGES: Final = 8
"""What is timed beside a single image. The same whatever BATCH_MAX is, or points of a sweep over it could run different
forms."""

_TIMED_S: Final = 1.5
_LEAST_PASSES: Final = 3


@dataclass(frozen=True)
class Measurement:
    """What a plan costs on this machine: seconds per image alone and in a batch of 8, start-up, peak memory."""

    form: str
    intra_op_threads: int
    inter_op_threads: int
    alone_s: float
    batched_s: float
    start_s: float
    peak_bytes: int
    same_top1: int
    softmax_difference: float
    agrees: bool

    @property
    def image_s(self) -> float:
        """What plans are compared by: the mean of both, since load decides how full batches are."""
        return (self.alone_s + self.batched_s) / 2

    def facts(self) -> dict[str, Any]:
        """What /info says of it."""
        return asdict(self)


def warm_up(engine: Engine, batch_max: int) -> None:
    """Run every batch size once, so that no request pays for a first time; then give back what only that took."""
    for images in range(1, batch_max + 1):
        engine(np.zeros((images, SIDE, SIDE, 3), np.uint8))
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps it otherwise; other libraries don't know the call
        ctypes.CDLL(None).malloc_trim(0)


def read_peak_bytes() -> int:
    """Most resident memory of this process so far (VmHWM: unlike getrusage it starts anew with each program)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(plan: Plan, folder: Path, settings: InferenceServerSettings) -> Measurement:
    """Open, check, warm up and time `plan` in this process."""
    started = time.monotonic()
    engine = open_engine(plan, folder, settings)
    warm_up(engine, BATCH_IMAGES)
    start_s = time.monotonic() - started
    agrees = agreement.compare(engine, artefacts.read_reference(folder), plan.form.tolerance)
    return Measurement(
        form=plan.form.name,
        intra_op_threads=plan.intra_op_threads,
        inter_op_threads=plan.inter_op_threads,
        alone_s=_time_image(engine, 1),
        batched_s=_time_image(engine, BATCH_IMAGES),
        start_s=start_s,
        peak_bytes=read_peak_bytes(),
        same_top1=agrees.same_top1,
        softmax_difference=agrees.softmax_difference,
        agrees=agrees.agrees,
    )


def _time_image(engine: Engine, images: int) -> float:
    """Seconds per image in batches of `images`: the best pass, which other processes disturbed least."""
    pixels = np.tile(agreement.make_frames(), (-(-images // agreement.FRAMES), 1, 1, 1))[:images]
    passes: list[float] = []
    deadline = time.monotonic() + _TIMED_S
    while len(passes) < _LEAST_PASSES or time.monotonic() < deadline:
        started = time.perf_counter()
        engine(pixels)
        passes.append(time.perf_counter() - started)
    return min(passes) / images


def main(arguments: list[str]) -> None:
    """The child: SETTINGS_JSON FOLDER FORM INTRA INTER."""
    settings = InferenceServerSettings.model_validate_json(arguments[0])
    plan = Plan(FORMS[arguments[2]], int(arguments[3]), int(arguments[4]))
    print(json.dumps(measure(plan, Path(arguments[1]), settings).facts()))


if __name__ == "__main__":
    main(sys.argv[1:])
