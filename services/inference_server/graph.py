"""ResNet50 as TensorFlow graphs with constant weights, made from the Keras model and optimised ahead of time."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.inference_server.decode import SIDE

if TYPE_CHECKING:
    import tensorflow as tf

INPUT: Final = "pixels"
OUTPUT: Final = "scores"
NAME: Final = "resnet50"
SHAPE: Final = (None, SIDE, SIDE, 3)

_Layer = tuple[np.ndarray, np.ndarray, int]  # kernel, bias, stride

_MEAN_BGR: Final = (103.939, 116.779, 123.68)  # of ImageNet; keras.applications.imagenet_utils, mode "caffe"
_STAGES: Final = ((2, 3), (3, 4), (4, 6), (5, 3))  # Keras' names conv2 to conv5 and their numbers of blocks
_PASSES: Final = ("pruning", "constfold", "arithmetic", "remap", "dependency", "constfold", "pruning")


def preprocess(pixels: "tf.Tensor") -> "tf.Tensor":
    """The same as `keras.applications.resnet50.preprocess_input`, as part of a graph that takes uint8 RGB."""
    import tensorflow as tf

    return tf.cast(pixels[..., ::-1], tf.float32) - tf.constant(_MEAN_BGR)


def freeze(model: Any) -> Any:
    """Keras' own graph as a `GraphDef` with its weights as constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec(SHAPE, tf.uint8)]
    traced = tf.function(lambda pixels: model(preprocess(pixels), training=False), input_signature=signature)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    frozen_def = frozen.graph.as_graph_def()

    def network(pixels: "tf.Tensor") -> "tf.Tensor":
        mapping = {frozen.inputs[0].name: pixels}
        return tf.import_graph_def(frozen_def, mapping, [frozen.outputs[0].name], name=NAME)[0]

    return _graph_def(network)


def fold(model: Any, dtype: str = "float32") -> Any:
    """The network as a `GraphDef` in which each BatchNorm has become part of the convolution before it.

    BatchNorm of a convolution, ``gamma * (x * kernel + bias - mean) / sqrt(variance + epsilon) + beta``, is a
    convolution with another kernel and bias. With `dtype` ``bfloat16`` the convolutions are computed in that type.
    """
    layers = {
        layer.name.removesuffix("_conv"): (*_folded(layer, model.get_layer(layer.name[:-4] + "bn")), layer.strides[0])
        for layer in model.layers
        if layer.name.endswith("_conv")
    }
    head = model.get_layer("predictions").get_weights()
    return _graph_def(lambda pixels: _network(layers, head, pixels, dtype))


def _graph_def(network: "Callable[[tf.Tensor], tf.Tensor]") -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        pixels = tf.compat.v1.placeholder(tf.uint8, SHAPE, name=INPUT)
        tf.identity(network(pixels), OUTPUT)
    return graph.as_graph_def()


def _network(layers: "dict[str, _Layer]", head: list[np.ndarray], pixels: "tf.Tensor", dtype: str) -> "tf.Tensor":
    import tensorflow as tf

    def conv(name: str, x: "tf.Tensor", padding: str = "VALID") -> "tf.Tensor":
        kernel, bias, stride = layers[name]
        x = tf.nn.conv2d(x, tf.cast(tf.constant(kernel), dtype), stride, padding)
        return tf.nn.bias_add(x, tf.cast(tf.constant(bias), dtype))

    x = tf.cast(tf.pad(preprocess(pixels), [[0, 0], [3, 3], [3, 3], [0, 0]]), dtype)
    x = tf.nn.relu(conv("conv1", x))
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for stage, blocks in _STAGES:
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            shortcut = conv(f"{name}_0", x) if block == 1 else x
            x = tf.nn.relu(conv(f"{name}_1", x))
            x = tf.nn.relu(conv(f"{name}_2", x, "SAME"))
            x = tf.nn.relu(conv(f"{name}_3", x) + shortcut)
    features = tf.cast(tf.reduce_mean(x, [1, 2]), tf.float32)
    return tf.nn.softmax(tf.matmul(features, tf.constant(head[0])) + tf.constant(head[1]))


def _folded(conv: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = (array.astype(np.float64) for array in conv.get_weights())
    gamma, beta, mean, variance = (array.astype(np.float64) for array in norm.get_weights())
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return (kernel * factor).astype(np.float32), ((bias - mean) * factor + beta).astype(np.float32)


def optimise(graph_def: Any) -> Any:
    """Let TensorFlow's graph optimiser fuse and fold ahead of time, for the kernels this process has chosen.

    Done when a session starts it would cost the server seconds and a gigabyte: it copies the constants many times.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import tf_optimizer

    for node in graph_def.node:
        node.device = "/device:CPU:0"  # what has no place yet is not fused
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        for name in (INPUT, OUTPUT):  # what the optimiser must not remove
            graph.add_to_collection("train_op", graph.get_tensor_by_name(f"{name}:0"))
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(_PASSES)
    optimised = tf_optimizer.OptimizeGraph(config, meta_graph)
    _name_onednn_kernels(optimised)
    return optimised


def _name_onednn_kernels(graph_def: Any) -> None:
    """Give fused convolutions in bfloat16 the name of their oneDNN kernel.

    The optimiser makes them where the processor has bfloat16, but under a name that TensorFlow refuses for this type
    when the graph is loaded: inside a session the same renaming (mkl_layout_pass.cc) follows unseen.
    """
    import tensorflow as tf

    for node in graph_def.node:
        if node.op == "_FusedConv2D" and node.attr["T"].type == tf.bfloat16.as_datatype_enum:
            node.op = "_MklNativeFusedConv2D"
            node.attr["_kernel"].s = b"MklNameChangeOp"
            node.attr["is_filter_const"].b = True  # its reordered weights are kept from pass to pass


def write_onnx(graph_def: Any, path: Path) -> None:
    """Export a graph to an ONNX file. Needs the extra ``onnx``."""
    import tf2onnx.convert

    tf2onnx.convert.from_graph_def(
        graph_def, input_names=[f"{INPUT}:0"], output_names=[f"{OUTPUT}:0"], opset=17, output_path=str(path)
    )
