"""The forms in which the network can run, and how each is opened as an engine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from services.contract.settings import InferenceServerSettings
from services.inference_server import graph
from services.inference_server.batcher import Engine, Scores
from services.inference_server.cpu import Cpu
from services.inference_server.decode import Pixels


@dataclass(frozen=True)
class Form:
    """One way to run the network.

    `artefact` is the exported file it needs (none: it is made from the Keras model in the server itself), and
    `tolerance` how far its softmax may be from plain Keras'.
    """

    name: str
    engine: Literal["tensorflow", "onnxruntime"]
    artefact: str | None
    onednn: bool
    meaning: str
    tolerance: float = 1e-3


FORMS: Final = {
    form.name: form
    for form in (  # in the order in which they are measured: first what is expected fastest, and what might be faster
        Form("folded-onednn", "tensorflow", "folded.pb", True, "BatchNorm folded, constant weights, oneDNN kernels"),
        Form("bfloat16-onednn", "tensorflow", "bfloat16.pb", True, "folded, convolutions in bfloat16, oneDNN", 1e-1),
        Form("frozen-onednn", "tensorflow", "frozen.pb", True, "Keras' graph, constant weights, oneDNN kernels"),
        Form("folded-eigen", "tensorflow", "folded.pb", False, "BatchNorm folded, constant weights, Eigen kernels"),
        Form("function-onednn", "tensorflow", None, True, "tf.function of the Keras model, oneDNN kernels"),
        Form("xla", "tensorflow", None, False, "tf.function of the Keras model, compiled by XLA"),
        Form("onnx", "onnxruntime", "folded.onnx", False, "BatchNorm folded, exported to ONNX Runtime"),
    )
}


def eligible(engine: str, cpu: Cpu) -> list[Form]:
    """The forms of an engine that make sense on this processor, in the order in which they are measured."""
    forms = [form for form in FORMS.values() if form.engine == engine]
    return [form for form in forms if cpu.has_bfloat16 or not form.name.startswith("bfloat16")]


@dataclass(frozen=True)
class Plan:
    """A form with its thread settings: inside one operation, and operations side by side."""

    form: Form
    intra_op_threads: int
    inter_op_threads: int = 1

    def facts(self) -> dict[str, Any]:
        """What /info says of it."""
        return {
            "form": self.form.name,
            "meaning": self.form.meaning,
            "intra_op_threads": self.intra_op_threads,
            "inter_op_threads": self.inter_op_threads,
        }


def import_tensorflow(onednn: bool, keras: bool) -> None:
    """Import TensorFlow with or without oneDNN, which it reads from the environment once, when it is imported.

    Keras imports pandas and Matplotlib where they are installed, and TensorFlow imports Keras; without them the import
    takes half the time. Raises `RuntimeError` when TensorFlow is there already with the other setting.
    """
    wanted = str(int(onednn))
    if "tensorflow" in sys.modules and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != wanted:
        raise RuntimeError(f"TensorFlow was imported without TF_ENABLE_ONEDNN_OPTS={wanted}; start a new process")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = wanted
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with _hidden("pandas", "matplotlib", *(() if keras else ("keras",))):
        import tensorflow as tf

        if keras:
            import keras as _  # noqa: F401
    tf.get_logger().setLevel("ERROR")


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Make optional packages look as if they were not installed, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def open_engine(plan: Plan, folder: Path, settings: InferenceServerSettings) -> Engine:
    """An engine, not yet warmed up, from the exported files in `folder`."""
    if plan.form.engine == "onnxruntime":
        return _open_onnx(plan, folder)
    import_tensorflow(plan.form.onednn, keras=plan.form.artefact is None)
    return _open_function(plan, settings) if plan.form.artefact is None else _open_session(plan, folder)


def _open_session(plan: Plan, folder: Path) -> Engine:
    """A TensorFlow 1 session over the graph as exported: a tf.function would copy the constants twice (0.5 GB more)."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString((folder / str(plan.form.artefact)).read_bytes())
    with tf.Graph().as_default() as constants:
        tf.import_graph_def(graph_def, name="")
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=plan.intra_op_threads, inter_op_parallelism_threads=plan.inter_op_threads
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True  # the graph was optimised when exported
    config.experimental.disable_output_partition_graphs = True  # a copy of all constants that nobody asks for
    config.experimental.disable_thread_spinning = True  # a thread that spins takes the time that decoding could use
    session = tf.compat.v1.Session(graph=constants, config=config)
    return session.make_callable(f"{graph.OUTPUT}:0", [f"{graph.INPUT}:0"])


def _open_function(plan: Plan, settings: InferenceServerSettings) -> Engine:
    import tensorflow as tf

    from services.inference_server.weights import load_model

    tf.config.threading.set_intra_op_parallelism_threads(plan.intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(plan.inter_op_threads)
    model, _ = load_model(settings)
    traced = tf.function(
        lambda pixels: model(graph.preprocess(pixels), training=False),
        input_signature=[tf.TensorSpec(graph.SHAPE, tf.uint8)],
        jit_compile=plan.form.name == "xla",
    )

    def engine(pixels: Pixels) -> Scores:
        return traced(tf.constant(pixels)).numpy()

    return engine


def _open_onnx(plan: Plan, folder: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_threads
    options.inter_op_num_threads = plan.inter_op_threads
    path = folder / str(plan.form.artefact)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def engine(pixels: Pixels) -> Scores:
        return np.asarray(session.run([f"{graph.OUTPUT}:0"], {f"{graph.INPUT}:0": pixels})[0])

    return engine
