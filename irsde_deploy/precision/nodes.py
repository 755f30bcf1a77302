"""Which nodes of an FP32 ONNX graph compute in FP16.

Inputs and outputs stay float32, so every runtime treats the graph as before; TensorRT (strongly typed) and ONNX Runtime
follow the types that the graph states (`casts`). A node is lowered unless it is kept. Never lowered: nodes with weights
beyond 65504, and, since nothing is gained by it, those that do not depend on the picture's values. These are the time
embedding with all its scale and shift vectors (t up to 1000 times a frequency has no digits left in FP16) and numbers
made of shapes (H*W overflows FP16).

`mixed` keeps what breaks in FP16, found by structure rather than by name:

    norm        channel LayerNorm: squares overflow beyond 256, and its eps 1e-5 vanishes
    attention   softmax over H*W positions is subnormal beyond 128x128; so are its scale and contexts
    pooling     channel attention: the mean over all positions and the 1x1 convolution on it
    ends        everything up to and with the first convolution, and the last one: the picture's own precision
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..errors import InvalidValueError
from ..graphs.editing import described

GROUP_KINDS = ("norm", "attention", "pooling", "ends", "plain")
KEPT_KINDS = {"fp16": frozenset[str](), "mixed": frozenset({"norm", "attention", "pooling", "ends"})}
"""Precision -> the kinds of groups that stay in FP32."""

PICTURES = ("x", "mu")
"""Inputs of a graph that are pictures."""

HALF_MAX = float(np.finfo(np.float16).max)
"""The largest value that FP16 has, 65504."""


@dataclass(frozen=True)
class Group:
    """Nodes that are lowered or kept together: those of one module, in the kinds listed above or `plain`."""

    name: str
    kind: str
    nodes: tuple[str, ...]


def groups(model: onnx.ModelProto) -> list[Group]:
    """All nodes that could be lowered, by module, in the graph's order.

    Raises:
        InvalidValueError: a graph that is not FP32 throughout, or whose nodes have no names of their own.
    """
    lowerable = lowerable_nodes(model)
    graph = model.graph
    operators: dict[str, set[str]] = defaultdict(set)  # of each module, lowerable or not
    for node in graph.node:
        operators[_scope(node)].add(node.op_type)
    ends, pooled = _ends(graph, lowerable), _pooled(graph)
    members: dict[tuple[str, str], list[str]] = {}
    for node in graph.node:
        if node.name in lowerable:
            scope = _scope(node)
            kind = _kind(node, operators[scope], ends, pooled)
            members.setdefault((scope or "/", kind), []).append(node.name)
    return [Group(scope, kind, tuple(names)) for (scope, kind), names in members.items()]


def kept_nodes(model: onnx.ModelProto, precision: str) -> frozenset[str]:
    """Names of the nodes that `fp16` or `mixed` leaves in FP32 (of those that could be lowered)."""
    kept: set[str] = set()
    for group in groups(model):
        if group.kind in KEPT_KINDS[precision]:
            kept.update(group.nodes)
    return frozenset(kept)


def lowerable_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that could compute in FP16.

    They have float outputs that depend on the picture's values, not its shape alone, and no weights that FP16 cannot
    hold.

    Raises:
        InvalidValueError: a graph that is not FP32 throughout, or whose nodes have no names of their own.
    """
    _require_names(model.graph)
    _require_single(model.graph)
    types, large = element_types(model), _too_large(model.graph)
    lowerable = set()
    picture = set(PICTURES)  # and all tensors that depend on their values
    for node in model.graph.node:
        if node.op_type == "Shape" or picture.isdisjoint(node.input):
            continue
        picture.update(node.output)
        if large.isdisjoint(node.input) and any(types.get(name) == TensorProto.FLOAT for name in node.output):
            lowerable.add(node.name)
    return lowerable


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> its type, as far as it can be inferred."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for entry in described(graph):
        types[entry.name] = entry.type.tensor_type.elem_type
    return types


def _kind(node: onnx.NodeProto, operators: set[str], ends: set[str], pooled: set[str]) -> str:
    """One of `GROUP_KINDS`, by where a node is and which operators its module has."""
    if node.name in ends:
        return "ends"
    if node.name in pooled:
        return "pooling"
    if "ReduceMean" in operators:
        return "norm"
    if "Softmax" in operators and node.op_type != "Conv":
        return "attention"
    return "plain"


def _scope(node: onnx.NodeProto) -> str:
    """Path of the module that a node was traced in."""
    return str(node.name.rpartition("/")[0])


def _ends(graph: onnx.GraphProto, lowerable: set[str]) -> set[str]:
    """Nodes before and with the first convolution, and the last convolution with what follows it."""
    return _up_to_first_convolution(graph, lowerable) | _from_last_convolution(graph, lowerable)


def _up_to_first_convolution(graph: onnx.GraphProto, lowerable: set[str]) -> set[str]:
    found = set()
    beyond: set[str] = set()  # tensors with a convolution behind them
    for node in graph.node:
        if node.name not in lowerable:
            continue
        before = beyond.isdisjoint(node.input)
        if before:
            found.add(node.name)
        if not before or node.op_type == "Conv":
            beyond.update(node.output)
    return found


def _from_last_convolution(graph: onnx.GraphProto, lowerable: set[str]) -> set[str]:
    maker = {}
    for node in graph.node:
        maker.update(dict.fromkeys(node.output, node))
    found = set()
    waiting = [maker[entry.name] for entry in graph.output]
    while waiting:
        node = waiting.pop()
        found.add(node.name)
        if node.op_type == "Conv":
            continue
        for name in node.input:
            if name in maker and maker[name].name in lowerable:
                waiting.append(maker[name])
    return found


def _pooled(graph: onnx.GraphProto) -> set[str]:
    """Global average pooling, and the convolutions of what it gives."""
    names, tensors = set(), set()
    for node in graph.node:
        if node.op_type == "GlobalAveragePool" or (node.op_type == "Conv" and node.input[0] in tensors):
            names.add(node.name)
            tensors.update(node.output)
    return names


def _too_large(graph: onnx.GraphProto) -> set[str]:
    """Weights beyond what FP16 can hold."""
    large = set()
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0) > HALF_MAX:
                large.add(tensor.name)
    return large


def _require_names(graph: onnx.GraphProto) -> None:
    names = {node.name for node in graph.node}
    if "" in names or len(names) < len(graph.node):
        raise InvalidValueError(
            "the graph's nodes have no names of their own: export it again with 'irsde-deploy export'"
        )


def _require_single(graph: onnx.GraphProto) -> None:
    """Raise unless a graph is what export writes: float32 throughout, its constants apart, nothing in branches."""
    operators = {node.op_type for node in graph.node}
    types = {tensor.data_type for tensor in graph.initializer}
    if operators & {"QuantizeLinear", "Constant", "If", "Loop", "Scan"} or TensorProto.FLOAT16 in types:
        raise InvalidValueError(
            "the graph is not FP32 throughout and without branches: lower one that was exported with `precision` fp32"
        )
