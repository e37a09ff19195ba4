"""The weights of ResNet50: ImageNet's, a file's, or seeded random ones, and the hash that names them."""

import hashlib
import math
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from services.contract.settings import InferenceServerSettings

_KERAS_FILE: Final = Path.home() / ".keras/models/resnet50_weights_tf_dim_ordering_tf_kernels.h5"
_KERAS_HOST: Final = "storage.googleapis.com"
_PROBE_S: Final = 2.0

_RANGES: Final = {
    "bias": (-0.05, 0.05),
    "gamma": (0.9, 1.1),
    "beta": (-0.05, 0.05),
    "moving_mean": (-0.05, 0.05),
    "moving_variance": (0.9, 1.1),
}
"""None is 0 or 1 throughout, which an optimiser would take out of the graph: it must cost what real weights cost."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WeightsInfo:
    """What is known of the weights: `kind` is ``imagenet``, ``file`` or ``random``; `caveat` is empty unless random."""

    kind: str
    source: str
    sha256: str
    caveat: str


def resolve_kind(wanted: str) -> str:
    """Turn the setting WEIGHTS into ``imagenet``, ``file`` or ``random``.

    ``auto`` is ``imagenet`` when Keras has the file already or can reach its host. Raises `ValueError` when `wanted`
    is none of the words and no file either.
    """
    if wanted == "auto":
        return "imagenet" if _KERAS_FILE.exists() or _host_answers() else "random"
    if wanted in ("imagenet", "random"):
        return wanted
    if Path(wanted).is_file():
        return "file"
    raise ValueError(f"WEIGHTS={wanted}: no such file; give imagenet, random, auto, a .weights.h5 or a .keras file")


def resolve(settings: "InferenceServerSettings") -> "InferenceServerSettings":
    """The same settings with WEIGHTS as ``imagenet``, ``random`` or a file that exists."""
    kind = resolve_kind(settings.weights)
    return settings if kind == "file" else settings.model_copy(update={"weights": kind})


def _host_answers() -> bool:
    """Ask in a thread, because a name server that drops packets would hold us for far longer than a connection."""
    answered = threading.Event()

    def ask() -> None:
        try:
            socket.create_connection((_KERAS_HOST, 443), timeout=_PROBE_S).close()
            answered.set()
        except OSError:
            pass

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(_PROBE_S)
    return answered.is_set()


def load_model(settings: "InferenceServerSettings") -> tuple[Any, WeightsInfo]:
    """Build Keras' ResNet50 with the weights that the settings ask for, and say which they are.

    The model takes float32 of shape (n, 224, 224, 3), preprocessed, and gives softmax of shape (n, 1000). Raises
    `ValueError` when WEIGHTS names no file, or whatever Keras raises when it can't load what was asked for by name.
    """
    import keras

    resnet50 = keras.applications.ResNet50
    kind = resolve_kind(settings.weights)
    caveat = ""
    if kind == "imagenet":
        source = "keras.applications.ResNet50(weights='imagenet')"
        model = resnet50(weights="imagenet")
    else:
        model = resnet50(weights=None)
        if kind == "file":
            source = Path(settings.weights).name
            model.load_weights(settings.weights)
        else:
            source = f"seed {settings.weights_seed}"
            caveat = f"The weights are random ({source}): labels and scores mean nothing, only the times do."
            named_shapes = ((weight.path, tuple(weight.shape)) for weight in model.weights)
            model.set_weights(random_weights(named_shapes, settings.weights_seed))
    return model, WeightsInfo(kind, source, hash_weights(model), caveat)


def random_weights(named_shapes: Iterable[tuple[str, tuple[int, ...]]], seed: int) -> list[Array]:
    """Seeded weights, one array per (path, shape), that give different images different classes.

    He-normal kernels (He et al. 2015, std = sqrt(2 / fan_in)) alone make a deep ReLU network map every image to the
    same class, since all feature vectors end up nearly parallel. Here the second half of each filter is the negated
    first half, so that every filter sums to exactly zero and answers to differences only. No sum of floats decides a
    value, hence the same bits (and the same hash) on every machine. The last BatchNorm of each residual block has gamma
    near 0.5 to keep the signal from doubling in every block.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    return [_random_array(path, shape, generator) for path, shape in named_shapes]


def _random_array(path: str, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    layer, _, role = path.rpartition("/")
    if role == "kernel":
        fan_in = math.prod(shape[:-1])
        half = generator.standard_normal((fan_in // 2, shape[-1]), dtype=np.float32)
        middle = np.zeros((fan_in % 2, shape[-1]), np.float32)
        scale = 0.5 if layer == "predictions" else math.sqrt(2 / fan_in)
        if layer == "conv1_conv":
            scale /= 64  # its input are pixel values of -124 to 151, not unit variance
        return (np.concatenate([half, middle, -half]) * np.float32(scale)).reshape(shape)
    low, high = _RANGES[role]
    gain = 0.5 if role == "gamma" and layer.endswith("_3_bn") else 1.0
    uniform = generator.random(shape, dtype=np.float32)
    return (uniform * np.float32(high - low) + np.float32(low)) * np.float32(gain)


def hash_weights(model: Any) -> str:
    """SHA-256 over all weights in the model's order, as little-endian float32: the same whatever file held them."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()
