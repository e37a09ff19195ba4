"""The same engine for every server but the naive one, so that only the serving differs."""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np

from services.contract.settings import InferenceServerSettings
from services.inference_server.batcher import Engine
from services.inference_server.decode import Pixels, to_array
from services.inference_server.forms import FORMS, Plan, open_engine
from services.inference_server.measure import warm_up


def open_same() -> Engine:
    """The engine with the plan and from the folder that the benchmark has put into the environment, warmed up."""
    settings = InferenceServerSettings()
    plan = Plan(FORMS[os.environ["BENCH_FORM"]], int(os.environ["BENCH_INTRA"]), int(os.environ["BENCH_INTER"]))
    engine = open_engine(plan, Path(os.environ["BENCH_FOLDER"]), settings)
    warm_up(engine, settings.batch_max)
    return engine


def from_base64(text: str) -> Pixels:
    """Decode a JPEG in base64."""
    return to_array(base64.b64decode(text))


def answers(engine: Engine, images: list[Pixels]) -> list[dict[str, Any]]:
    """Top-1 of each image."""
    scores = engine(np.stack(images))
    return [{"class_id": int(row.argmax()), "score": float(row.max())} for row in scores]
