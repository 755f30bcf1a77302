"""Which nodes of an FP32 graph may compute in INT8, found by structure rather than by name.

Convolutions may, except for the first and the last one, those of channel attention and those of the time embedding.
Everything else (norms, softmax, gates, sums) stays in floating point. Residual sums can be included: TensorRT fuses a
convolution with the sum after it if both inputs of the sum are quantised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from ..errors import InvalidValueError
from ..precision.nodes import groups

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators whose nodes can be layers."""


@dataclass(frozen=True)
class Layer:
    """A node that can be quantised.

    Attributes:
        name: the node's name in the graph.
        inputs: names of the activations that it reads, each of which needs a range.
    """

    name: str
    inputs: tuple[str, ...]


def quantisable(model: onnx.ModelProto, residuals: bool = False) -> list[Layer]:
    """Return the layers that may be quantised, in the graph's order.

    Args:
        model: an FP32 graph whose nodes have names of their own.
        residuals: whether residual sums are among them.

    Raises:
        InvalidValueError: the graph is not FP32 throughout, or no layer may be quantised.
    """
    plain: set[str] = set()
    of_picture: set[str] = set()
    for group in groups(model):
        of_picture.update(group.nodes)
        if group.kind == "plain":
            plain.update(group.nodes)
    layers = list(_convolutions(model.graph, plain))
    if not layers:
        raise InvalidValueError("the graph has no convolution between its first and its last one: INT8 gains nothing")
    if residuals:
        layers += _sums(model.graph, plain, of_picture)
        order = {node.name: position for position, node in enumerate(model.graph.node)}
        layers.sort(key=lambda layer: order[layer.name])
    return layers


def _convolutions(graph: onnx.GraphProto, plain: set[str]) -> Iterator[Layer]:
    """Yield convolutions whose weights are constants; with others there would be nothing to store as INT8."""
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in CONVOLUTIONS and node.name in plain and weights.issuperset(node.input[1:]):
            yield Layer(node.name, (node.input[0],))


def _sums(graph: onnx.GraphProto, plain: set[str], of_picture: set[str]) -> Iterator[Layer]:
    """Yield sums of two tensors that both depend on the picture's values, which shifts by the time embedding do not."""
    picture: set[str] = set()  # tensors that depend on it
    for node in graph.node:
        if node.name in of_picture:
            picture.update(node.output)
    for node in graph.node:
        if node.op_type == "Add" and node.name in plain and picture.issuperset(node.input):
            yield Layer(node.name, tuple(node.input))
