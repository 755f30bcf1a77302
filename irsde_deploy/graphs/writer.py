"""ONNX nodes written one after another, as arithmetic reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from .editing import copied


class GraphWriter:
    """Nodes in the order of their making, and the constants that they read, each stored once.

    Args:
        scope: how the names of nodes, tensors and constants begin.

    Attributes:
        nodes: written so far. constants: name -> tensor.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, and return that output's name: `output`, or one that the writer makes."""
        name = f"{self._scope}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name, **attributes))
        return output or name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """The name of a constant, which is added where there is none of the same type, shape and values yet."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            name = self._names[key] = f"{self._scope}/constant_{len(self._names)}"
            self.constants[name] = numpy_helper.from_array(array, name)
        return self._names[key]

    def integers(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(values, np.int64)

    def embed(self, graph: onnx.GraphProto, inputs: dict[str, str], scope: str) -> dict[str, str]:
        """Add another graph's nodes, which go on reading its initialisers by their names.

        Args:
            graph: without subgraphs.
            inputs: name of each of its inputs -> what it reads here.
            scope: put before the names of nodes and of what they make.

        Returns:
            Name of each of its outputs -> its name here.
        """
        renamed = dict(inputs)
        for node in graph.node:
            copy = copied(node)
            if node.name:  # ONNX leaves nodes without one alone, and takes no two of the same
                copy.name = f"{scope}{node.name}"
            for position, name in enumerate(node.input):
                copy.input[position] = renamed.get(name, name)
            for position, name in enumerate(node.output):
                if name:  # an output that nobody wants has none
                    copy.output[position] = renamed[name] = f"{scope}{name}"
            self.nodes.append(copy)
        return {entry.name: renamed[entry.name] for entry in graph.output}
