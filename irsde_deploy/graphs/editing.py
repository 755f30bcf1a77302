"""Editing ONNX graphs: what rewriting for the CPU, lowering and quantising have in common.

Graphs are the messages of the package onnx, which is imported when something is called. Why not onnx-ir:
docs/dependencies.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

Message = TypeVar("Message", bound=Any)
"""A model or node of the package onnx, whose messages mypy does not know."""

_LIGHT = 1024
"""Elements of a constant that shape inference may want to see; larger ones are weights."""


def copied(message: Message) -> Message:
    """A copy of a model or node, which can be changed without changing this one."""
    copy: Message = type(message)()
    copy.CopyFrom(message)
    return copy


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Name -> value of a node's attributes; texts are bytes."""
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def set_integer(node: onnx.NodeProto, name: str, value: int) -> None:
    """Change an attribute that a node has."""
    for entry in node.attribute:
        if entry.name == name:
            entry.i = value


def described(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """The tensors whose types and shapes a graph states: its inputs, its outputs and those between that it knows."""
    yield from graph.input
    yield from graph.output
    yield from graph.value_info


def sides(entry: onnx.ValueInfoProto) -> list[int]:
    """The shape of a tensor; 0 for a side that is free."""
    return [dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make these the nodes of a graph, in this order, and forget what it states of tensors between them."""
    nodes = list(nodes)
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(nodes)


def drop_unread_constants(graph: onnx.GraphProto) -> None:
    """Remove the constants that nothing reads."""
    read = {entry.name for entry in graph.output}
    for node in graph.node:
        read.update(node.input)
    for index in reversed(range(len(graph.initializer))):  # in place: a list of those that stay would copy weights
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


class GraphEditor:
    """Who makes and who reads which tensor of a graph, and the few changes that rewrites need.

    Attributes:
        graph: as it is now. changed: whether `replace` has changed it.
        weights: name -> constant. producer: name of a tensor -> the node that makes it.
        readers: name of a tensor -> the nodes that read it. outputs: names of the graph's outputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.changed = False
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {entry.name for entry in graph.output}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in set(node.input):
                self.readers.setdefault(name, []).append(node)

    def made_by(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is such an operator and nothing but one node reads the tensor."""
        node = self.producer.get(name)
        if node is None or node.op_type != operator:
            return None
        if name in self.outputs or len(self.readers.get(name, [])) != 1:
            return None
        return node

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a constant; None for what is computed."""
        from onnx import numpy_helper

        if name not in self.weights:
            return None
        return numpy_helper.to_array(self.weights[name])

    def kernel(self, node: onnx.NodeProto) -> npt.NDArray[Any] | None:
        """The weights of a convolution, (out, in, rows, columns), where they are a constant; None for other nodes."""
        if node.op_type != "Conv":
            return None
        return self.value(node.input[1])

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant, if it is not there yet, and return its name."""
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.graph.initializer.append(self.weights[name])
        return name

    def replace(self, substitutes: Mapping[str, list[onnx.NodeProto]]) -> None:
        """Put nodes in the place of those that make the named tensors, and drop what nothing reads any more."""
        if not substitutes:
            return
        self.changed = True
        nodes: list[onnx.NodeProto] = []
        for old in self.graph.node:
            nodes += substitutes.get(old.output[0], [old])
        replace_nodes(self.graph, _read_nodes(nodes, self.outputs))
        drop_unread_constants(self.graph)

    def shapes(self) -> dict[str, list[int]]:
        """Shape of every tensor that can be inferred; 0 for a side that is free."""
        import onnx

        light = onnx.GraphProto(node=self.graph.node, name="shapes", input=self.graph.input, output=self.graph.output)
        for tensor in self.graph.initializer:
            if np.prod(tensor.dims) <= _LIGHT:
                light.initializer.append(tensor)
            else:  # as an input, of which shape inference copies no values
                light.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(light)).graph
        shapes = {entry.name: sides(entry) for entry in described(inferred)}
        for tensor in self.graph.initializer:
            shapes[tensor.name] = list(tensor.dims)
        return shapes


def _read_nodes(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Those of the nodes that the outputs depend on, in their order."""
    needed = set(outputs)
    read = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            read.append(node)
            needed.update(node.input)
    return read[::-1]
