"""ResNet50 as the server runs it: Keras' network with its preprocessing inside the graph, frozen, warmed up."""

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.contract.settings import InferenceServerSettings
from services.inference_server.batcher import Engine, Scores
from services.inference_server.decode import SIDE, Pixels
from services.inference_server.weights import load_model

if TYPE_CHECKING:
    import tensorflow as tf

NAME: Final = "resnet50"
_MEAN_BGR: Final = (103.939, 116.779, 123.68)  # of ImageNet; keras.applications.imagenet_utils, mode "caffe"


def prepare_environment(onednn: bool) -> None:
    """Set what TensorFlow reads from the environment once, when it is imported."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def load_keras_model(settings: InferenceServerSettings) -> Any:
    """Plain Keras ResNet50 with the server's weights: what every form of the engine must agree with."""
    return load_model(settings)[0]


def predict_plainly(model: Any, pixels: Pixels) -> Scores:
    """Softmax (n, 1000) of uint8 RGB (n, 224, 224, 3) by `model.predict` and Keras' own preprocessing."""
    from keras.applications.resnet50 import preprocess_input

    return np.asarray(model.predict(preprocess_input(pixels.astype(np.float32)), verbose=0))


def preprocess(pixels: "tf.Tensor") -> "tf.Tensor":
    """The same as `keras.applications.resnet50.preprocess_input`, as part of a graph that takes uint8 RGB."""
    import tensorflow as tf

    return tf.cast(pixels[..., ::-1], tf.float32) - tf.constant(_MEAN_BGR)


def build_engine(settings: InferenceServerSettings) -> tuple[Engine, dict[str, Any]]:
    """Load, freeze and warm up the network for every batch size up to the maximum, so that no request pays for it."""
    prepare_environment(onednn=True)
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if settings.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(settings.intra_op_threads)
    model, weights = load_model(settings)
    signature = [tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)]
    traced = tf.function(lambda pixels: model(preprocess(pixels), training=False), input_signature=signature)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())

    def engine(pixels: Pixels) -> Scores:
        return frozen(tf.constant(pixels))[0].numpy()

    for images in range(1, settings.batch_max + 1):
        engine(np.zeros((images, SIDE, SIDE, 3), np.uint8))
    facts = {
        "weights": weights.kind,
        "weights_source": weights.source,
        "weights_sha256": weights.sha256,
        "weights_caveat": weights.caveat,
        "engine": {"form": "frozen", "onednn": True, "intra_op_threads": settings.intra_op_threads},
    }
    return engine, facts
