"""Precision in the graph: which nodes of an FP32 ONNX graph compute in FP16, and the graph with casts between the two.

Inputs and outputs stay float32, so every runtime treats the graph as before; TensorRT (strongly typed) and ONNX Runtime
follow the types that the graph states. A node is lowered unless it is kept. Never lowered: nodes with weights beyond
65504, and, since nothing is gained by it, those that do not depend on the picture's values. These are the time
embedding with all its scale and shift vectors (t up to 1000 times a frequency has no digits left in FP16) and numbers
made of shapes (H*W overflows FP16).

`mixed` keeps what breaks in FP16, found by structure rather than by name:

    norm        channel LayerNorm: squares overflow beyond 256, and its eps 1e-5 vanishes
    attention   softmax over H*W positions is subnormal beyond 128x128; so are its scale and contexts
    pooling     channel attention: the mean over all positions and the 1x1 convolution on it
    ends        everything up to and with the first convolution, and the last one: the picture's own precision
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import InvalidValueError

GROUP_KINDS = ("norm", "attention", "pooling", "ends", "plain")
KEPT_KINDS = {"fp16": frozenset[str](), "mixed": frozenset({"norm", "attention", "pooling", "ends"})}
"""Precision -> the kinds of groups that stay in FP32."""

PICTURES = ("x", "mu")
HALF_MAX = float(np.finfo(np.float16).max)
_SINGLE_ONLY_INPUTS = {"Resize": (1, 2)}
"""Operators with inputs that are float32 whatever the data: positions of those."""


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
    _require_single(model)
    graph = model.graph
    lowerable = set(_lowerable(model))
    scopes: dict[str, set[str]] = defaultdict(set)
    for node in graph.node:
        scopes[_scope(node)].add(node.op_type)
    ends, pooled = _ends(graph, lowerable), _pooled(graph)
    members: dict[tuple[str, str], list[str]] = {}
    for node in graph.node:
        if node.name in lowerable:
            scope = _scope(node)
            kind = _kind(node, scopes[scope], ends, pooled)
            members.setdefault((scope or "/", kind), []).append(node.name)
    return [Group(scope, kind, tuple(names)) for (scope, kind), names in members.items()]


def kept_nodes(model: onnx.ModelProto, precision: str) -> frozenset[str]:
    """Names of the nodes that `fp16` or `mixed` leaves in FP32 (of those that could be lowered)."""
    kinds = KEPT_KINDS[precision]
    return frozenset(name for group in groups(model) if group.kind in kinds for name in group.nodes)


def lower(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """The same graph with every lowerable node but those in `keep` in FP16; inputs and outputs stay float32."""
    _require_single(model)
    half = {name for name in _lowerable(model) if name not in keep}
    return _Lowering(model, half).run()


class _Lowering:
    """One pass over a graph in its order; casts and halved weights are shared between the nodes that need them."""

    def __init__(self, model: onnx.ModelProto, half: set[str]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.half = half
        self.types = _element_types(model)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.precision = dict.fromkeys(self.weights.keys() | {entry.name for entry in model.graph.input}, False)
        self.outputs = {entry.name for entry in model.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[tuple[str, bool], str] = {}

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        for node in list(graph.node):
            self._lower_node(node, node.name in self.half)
        del graph.node[:]
        del graph.value_info[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        weights = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        return self.model

    def _lower_node(self, node: onnx.NodeProto, half: bool) -> None:
        fixed = _SINGLE_ONLY_INPUTS.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if self.types.get(name) == TensorProto.FLOAT and position not in fixed and node.op_type != "Shape":
                node.input[position] = self._in_precision(name, half)
        if half and node.op_type == "Cast":
            next(entry for entry in node.attribute if entry.name == "to").i = TensorProto.FLOAT16
        self.nodes.append(node)
        for position, name in enumerate(node.output):
            if self.types.get(name) == TensorProto.FLOAT:
                self.precision[name] = half
                if half and name in self.outputs:
                    self.precision[name] = False
                    node.output[position] = self.made[name, True] = self._new_name(name, half=True)
                    self.nodes.append(_cast(node.output[position], name, half=False))

    def _in_precision(self, name: str, half: bool) -> str:
        """The name under which a float tensor is there in FP16 or FP32; makes the cast where it is not."""
        if self.precision[name] == half:
            return name
        if (name, half) not in self.made:
            other = self.made[name, half] = self._new_name(name, half)
            if name in self.weights:
                values = numpy_helper.to_array(self.weights[name]).astype(np.float16)
                self.model.graph.initializer.append(numpy_helper.from_array(values, other))
            else:
                self.nodes.append(_cast(name, other, half))
        return self.made[name, half]

    def _new_name(self, name: str, half: bool) -> str:
        """A name that no tensor has."""
        new = f"{name}_{'fp16' if half else 'fp32'}"
        while new in self.types:
            new += "_"
        return new


def _cast(source: str, target: str, half: bool) -> onnx.NodeProto:
    to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=to)


def _kind(node: onnx.NodeProto, operators: set[str], ends: set[str], pooled: set[str]) -> str:
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
    before, after = set(), set()
    seen = {name: node for node in graph.node for name in node.output}
    beyond: set[str] = set()  # tensors with a convolution behind them
    for node in graph.node:
        if node.name in lowerable:
            if not beyond.intersection(node.input):
                before.add(node.name)
            if node.op_type == "Conv" or beyond.intersection(node.input):
                beyond.update(node.output)
    waiting = [seen[entry.name] for entry in graph.output]
    while waiting:
        node = waiting.pop()
        after.add(node.name)
        if node.op_type != "Conv":
            waiting += [seen[name] for name in node.input if name in seen and seen[name].name in lowerable]
    return before | after


def _pooled(graph: onnx.GraphProto) -> set[str]:
    """Global average pooling, and the convolutions of what it gives."""
    names, tensors = set(), set()
    for node in graph.node:
        if node.op_type == "GlobalAveragePool" or (node.op_type == "Conv" and node.input[0] in tensors):
            names.add(node.name)
            tensors.update(node.output)
    return names


def _lowerable(model: onnx.ModelProto) -> Iterator[str]:
    """Nodes with float outputs that depend on the picture's values, not its shape alone, and with weights for FP16."""
    types, large = _element_types(model), _too_large(model)
    picture = set(PICTURES)
    for node in model.graph.node:
        if node.op_type != "Shape" and picture.intersection(node.input):
            picture.update(node.output)
            if node.name not in large and any(types.get(name) == TensorProto.FLOAT for name in node.output):
                yield node.name


def _too_large(model: onnx.ModelProto) -> set[str]:
    """Nodes with weights beyond what FP16 can hold."""
    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.abs(numpy_helper.to_array(tensor)).max(initial=0) > HALF_MAX
    }
    return {node.name for node in model.graph.node if large.intersection(node.input)}


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for entry in itertools.chain(graph.input, graph.output, graph.value_info):
        types[entry.name] = entry.type.tensor_type.elem_type
    return types


def _require_single(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise InvalidValueError(
            "the graph's nodes have no names of their own: export it again with 'irsde-deploy export'"
        )
    if any(node.op_type in ("QuantizeLinear", "Constant", "If", "Loop", "Scan") for node in model.graph.node) or any(
        tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer
    ):
        raise InvalidValueError(
            "the graph is not FP32 throughout and without branches: lower one that 'export --precision fp32' wrote"
        )
