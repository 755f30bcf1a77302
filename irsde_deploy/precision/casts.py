"""An FP32 graph lowered: the nodes that are not kept compute in FP16, with casts where the two meet."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graphs.editing import copied, drop_unread_constants, replace_nodes, set_integer
from .nodes import element_types, lowerable_nodes

_SINGLE_ONLY_INPUTS = {"Resize": (1, 2)}
"""Operators with inputs that are float32 whatever the data: positions of those."""


def lower(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """The same graph with every lowerable node but those in `keep` in FP16; inputs and outputs stay float32.

    Raises:
        InvalidValueError: a graph that is not FP32 throughout, or whose nodes have no names of their own.
    """
    half = lowerable_nodes(model).difference(keep)
    return _Lowering(model, half).run()


class _Lowering:
    """One pass over a graph in its order; casts and halved weights are shared between the nodes that need them.

    Tensors keep their names in the precision that they are made in; `made` has the name under which one is there in the
    other, if anything has needed that.
    """

    def __init__(self, model: onnx.ModelProto, half: set[str]) -> None:
        self.model = copied(model)
        self.half = half
        self.types = element_types(model)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.in_half = dict.fromkeys(self.weights, False)  # tensor -> whether it is made in FP16
        self.in_half.update((entry.name, False) for entry in model.graph.input)
        self.outputs = {entry.name for entry in model.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[tuple[str, bool], str] = {}

    def run(self) -> onnx.ModelProto:
        """Lower all nodes, once."""
        graph = self.model.graph
        for node in list(graph.node):
            half = node.name in self.half
            self._lower_inputs(node, half)
            if half and node.op_type == "Cast":
                set_integer(node, "to", TensorProto.FLOAT16)
            self.nodes.append(node)
            self._lower_outputs(node, half)
        replace_nodes(graph, self.nodes)
        drop_unread_constants(graph)
        return self.model

    def _lower_inputs(self, node: onnx.NodeProto, half: bool) -> None:
        """Let a node read its float inputs in its own precision."""
        if node.op_type == "Shape":  # reads no values, so any will do
            return
        fixed = _SINGLE_ONLY_INPUTS.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if position not in fixed and self._is_float(name):
                node.input[position] = self._in_precision(name, half)

    def _lower_outputs(self, node: onnx.NodeProto, half: bool) -> None:
        """Note in which precision a node makes its outputs; those of the graph are cast back to FP32."""
        for position, name in enumerate(node.output):
            if not self._is_float(name):
                continue
            self.in_half[name] = half
            if half and name in self.outputs:
                self.in_half[name] = False
                lowered = self._new_name(name, half=True)
                node.output[position] = self.made[name, True] = lowered
                self.nodes.append(_cast(lowered, name, half=False))

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.FLOAT

    def _in_precision(self, name: str, half: bool) -> str:
        """The name under which a float tensor is there in FP16 or FP32; makes the cast where it is not."""
        if self.in_half[name] == half:
            return name
        if (name, half) in self.made:
            return self.made[name, half]
        other = self.made[name, half] = self._new_name(name, half)
        if name in self.weights:
            values = numpy_helper.to_array(self.weights[name]).astype(np.float16)
            self.model.graph.initializer.append(numpy_helper.from_array(values, other))
        else:
            self.nodes.append(_cast(name, other, half))
        return other

    def _new_name(self, name: str, half: bool) -> str:
        """A name that no tensor has."""
        new = f"{name}_{'fp16' if half else 'fp32'}"
        while new in self.types:
            new += "_"
        return new


def _cast(source: str, target: str, half: bool) -> onnx.NodeProto:
    to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=to)
