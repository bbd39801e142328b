"""Models as ONNX graphs, from raw pixels to labels and probabilities.

The graph has all that `Model.predict_proba` does: the views of `test_shifts`, standardisation, clip, network and softmax.
Importing this module needs the package ``onnx``; `mnist100.export` is the face of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import mnist100
from mnist100._checks import Array
from mnist100.batch_norm import BatchNormReLU
from mnist100.functional.normalisation import EPS
from mnist100.halves import Halves, PairLogits
from mnist100.layers import Conv2d, ConvBlock, Dropout, Flatten, Layer, Linear, LinearBlock
from mnist100.models import CLASSES, DIGITS, IMAGE, Model
from mnist100.parameters import Tensor

OPSET = 17
IR_VERSION = 8
"""What goes with that opset; ONNX Runtime reads both from 1.12 (2022) on."""

_SIDE = IMAGE[0]  # of a digit


def to_graph(model: Model) -> ModelProto:
    """Return the graph of a model that has a normalisation.

    Raises
    ------
    TypeError
        If the network has a layer that no graph is known of.
    """
    graph = _Graph()
    pixels = graph.node("Cast", "images", to=TensorProto.FLOAT)
    images = _views(graph, pixels, model.test_shifts)
    scores = _standardised(graph, images, model)
    for layer in model.net.layers:
        scores = _layer(graph, scores, layer)
    probabilities = graph.node("Softmax", scores, axis=1)
    if model.test_shifts:
        views = (2 * model.test_shifts + 1) ** 2
        by_view = graph.reshape(probabilities, views, -1, model.classes)
        probabilities = graph.node("ReduceMean", by_view, axes=[0], keepdims=0)
    graph.node("Identity", probabilities, output="probabilities")
    graph.node("ArgMax", probabilities, output="labels", axis=1, keepdims=0)
    found = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"mnist100 {model.architecture}",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", *model.image_shape])],
            [
                helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
                helper.make_tensor_value_info(
                    "probabilities", TensorProto.FLOAT, ["n", model.classes]
                ),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mnist100",
        producer_version=mnist100.__version__,
    )
    facts = {**model.metadata, "architecture": model.architecture}
    helper.set_model_props(found, {"metadata": json.dumps(facts)})
    return found


class _Graph:
    """Nodes and constants, as they come."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Array, name: str = "") -> str:
        """Add an array; return its name."""
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """Add a change of shape, in which -1 is what remains."""
        return self.node("Reshape", x, self.constant(np.array(shape, np.int64)))


def _views(graph: _Graph, pixels: str, reach: int) -> str:
    """(n, 28, 56) -> (v·n, 1, 28, 56): digits moved by up to `reach` pixels each way, all samples of a view together."""
    if not reach:
        return graph.reshape(pixels, -1, 1, *IMAGE)
    digits = graph.node("Transpose", graph.reshape(pixels, -1, _SIDE, 2, _SIDE), perm=[0, 2, 1, 3])
    around = np.array([0, 0, reach, reach] * 2, np.int64)
    padded = graph.node("Pad", digits, graph.constant(around))
    axes = graph.constant(np.array([2, 3], np.int64))
    steps = range(2 * reach + 1)
    moved = [
        graph.node(
            "Slice",
            padded,
            graph.constant(np.array([top, left], np.int64)),
            graph.constant(np.array([top + _SIDE, left + _SIDE], np.int64)),
            axes,
        )
        for top in steps
        for left in steps
    ]
    every = graph.node("Concat", *moved, axis=0)
    return graph.reshape(graph.node("Transpose", every, perm=[0, 2, 1, 3]), -1, 1, *IMAGE)


def _standardised(graph: _Graph, images: str, model: Model) -> str:
    """Pixels as the network takes them."""
    norm = model.normalisation
    assert norm is not None
    scaled = graph.node("Div", images, graph.constant(np.array(255, np.float32)))
    centred = graph.node("Sub", scaled, graph.constant(norm.mean, "mean"))
    x = graph.node("Div", centred, graph.constant(norm.std, "std"))
    if not norm.clip:
        return x
    bounds = (graph.constant(np.array(bound, np.float32)) for bound in (-norm.clip, norm.clip))
    return graph.node("Clip", x, *bounds)


def _layer(graph: _Graph, x: str, layer: Layer) -> str:
    for kind, add in _LAYERS.items():
        if isinstance(layer, kind):
            return add(graph, x, layer)
    known = ", ".join(kind.__name__ for kind in _LAYERS)
    raise TypeError(f"model: got a layer {type(layer).__name__}, wants {known}")


def _weights(graph: _Graph, layer: Layer) -> list[str]:
    """The layer's parameters and buffers, under their own names."""
    tensors: list[Tensor] = [*layer.parameters, *layer.buffers]
    return [graph.constant(tensor.value, tensor.name) for tensor in tensors]


def _pool(graph: _Graph, x: str) -> str:
    return graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def _conv_block(graph: _Graph, x: str, layer: ConvBlock) -> str:
    y = graph.node("Conv", x, *_weights(graph, layer), pads=[*layer.border] * 2)
    return _pool(graph, graph.node("Relu", y))


def _conv2d(graph: _Graph, x: str, layer: Conv2d) -> str:
    around = [*layer.padding] * 2
    y = graph.node("Conv", x, *_weights(graph, layer), pads=around, strides=[*layer.stride])
    return graph.node("Relu", y) if layer.relu else y


def _batch_norm(graph: _Graph, x: str, layer: BatchNormReLU) -> str:
    y = graph.node("BatchNormalization", x, *_weights(graph, layer), epsilon=EPS)
    y = graph.node("Relu", y)
    return _pool(graph, y) if layer.pool else y


def _linear(graph: _Graph, x: str, layer: Linear) -> str:
    return graph.node("Gemm", x, *_weights(graph, layer), transB=1)


def _linear_block(graph: _Graph, x: str, layer: LinearBlock) -> str:
    return graph.node("Relu", graph.node("Gemm", x, *_weights(graph, layer), transB=1))


def _halves(graph: _Graph, x: str, _: Halves) -> str:
    parted = graph.reshape(x, -1, 1, _SIDE, 2, _SIDE)
    apart = graph.node("Transpose", parted, perm=[0, 3, 1, 2, 4])
    return graph.reshape(apart, -1, 1, _SIDE, _SIDE)


def _pair_logits(graph: _Graph, x: str, _: PairLogits) -> str:
    """(2·n, 10) -> (n, 100): the outer sums of left and right."""
    pairs = graph.reshape(x, -1, 2, DIGITS)
    sides = graph.constant(np.array([0], np.int64)), graph.constant(np.array([1], np.int64))
    left, right = (graph.node("Gather", pairs, side, axis=1) for side in sides)
    tens = graph.node("Transpose", left, perm=[0, 2, 1])
    return graph.reshape(graph.node("Add", tens, right), -1, CLASSES)


_LAYERS: dict[type[Layer], Callable[[_Graph, str, Any], str]] = {
    ConvBlock: _conv_block,
    Conv2d: _conv2d,
    BatchNormReLU: _batch_norm,
    Flatten: lambda graph, x, _: graph.node("Flatten", x, axis=1),
    LinearBlock: _linear_block,
    Linear: _linear,
    Dropout: lambda graph, x, _: x,
    Halves: _halves,
    PairLogits: _pair_logits,
}
