"""The files exported from the Keras model: graphs with constant weights, plain Keras' answers, what the weights are.

They are made by a child process (``python -m services.inference_server.artefacts``), so that the server itself needs
neither Keras nor the memory that the export takes, and starts in half the time when they are there already.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.contract.settings import InferenceServerSettings
from services.inference_server import agreement, forms, graph, weights
from services.inference_server.batcher import Scores

_ROOT: Final = Path(__file__).parents[2]
_WEIGHTS: Final = "weights.json"
_REFERENCE: Final = "reference.npy"

_children: "list[subprocess.Popen[str]]" = []


def folder_of(settings: InferenceServerSettings, cache: Path) -> Path:
    """The folder of these weights, as made by these versions and this code. The weights must be resolved already."""
    identity = {"random": f"random-{settings.weights_seed}", "imagenet": "imagenet"}.get(settings.weights)
    digest = hashlib.sha256()
    digest.update(identity.encode() if identity else Path(settings.weights).read_bytes())
    for module in (graph, weights, agreement):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(version("keras").encode())
    return cache / f"model-{digest.hexdigest()[:16]}"


def export_missing(settings: InferenceServerSettings, folder: Path, artefacts: Iterable[str | None]) -> None:
    """Make what forms with these artefacts need and is not there yet, in one child process.

    Raises `RuntimeError` with the child's last words when it fails.
    """
    wanted = dict.fromkeys((_WEIGHTS, _REFERENCE, *filter(None, artefacts)))
    names = [name for name in wanted if not (folder / name).exists()]
    if not names:
        return
    child = start_child("artefacts", [settings.model_dump_json(), str(folder), *names])
    _, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"the export of the model failed: {errors.strip()[-2000:]}")


def start_child(module: str, arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a module of this package with this interpreter; it finds the package wherever we were started."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    child = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.{module}", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _children.append(child)
    return child


def stop_children() -> None:
    """Kill the children that still run: this process ends, and nobody waits for them any more."""
    for child in _children:
        if child.poll() is None:
            child.kill()


def read_weights(folder: Path) -> weights.WeightsInfo:
    """What the exported weights are."""
    return weights.WeightsInfo(**json.loads((folder / _WEIGHTS).read_text()))


def read_reference(folder: Path) -> Scores:
    """Plain Keras' softmax of `agreement.make_frames`."""
    return np.load(folder / _REFERENCE)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and rename it, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    write(beside)
    beside.replace(path)


def _make(name: str, model: Any, info: weights.WeightsInfo, path: Path) -> None:
    if name == _WEIGHTS:
        path.write_text(json.dumps(asdict(info)))
    elif name == _REFERENCE:
        np.save(path, agreement.predict_plainly(model, agreement.make_frames()))
    elif name == "folded.onnx":
        graph.write_onnx(graph.fold(model), path)
    else:
        plain = graph.freeze(model) if name == "frozen.pb" else graph.fold(model, _dtype(name))
        path.write_bytes(graph.optimise(plain).SerializeToString())


def _dtype(name: str) -> str:
    return "bfloat16" if name == "bfloat16.pb" else "float32"


def main(arguments: list[str]) -> None:
    """The child: SETTINGS_JSON FOLDER NAME…"""
    settings = InferenceServerSettings.model_validate_json(arguments[0])
    folder, names = Path(arguments[1]), arguments[2:]
    forms.import_tensorflow(onednn=True, keras=True)
    model, info = weights.load_model(settings)
    for name in names:
        write_whole(folder / name, partial(_make, name, model, info))


if __name__ == "__main__":
    main(sys.argv[1:])
