"""What FP16 costs, measured on a CPU: an FP16 graph as an FP32 graph that rounds where the FP16 one does.

ONNX Runtime's CPU provider computes most FP16 nodes in FP32 and drops the casts between them, so that a graph's FP16
rounding cannot be seen there (tests/precision/test_lowering.py shows it). Here every FP16 tensor becomes an FP32 one
that is rounded to FP16 and back: products and sums inside a node are FP32, each node's result has FP16's digits, range
and subnormals. That is what tensor cores with FP32 accumulation give; kernels that accumulate in FP16 lose more.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graphs.editing import attributes, copied, replace_nodes, set_integer
from .nodes import element_types

SINGLE, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def emulate_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with FP32 nodes alone and explicit rounding to FP16 after each node that was FP16."""
    types = element_types(model)
    emulated = copied(model)
    graph = emulated.graph
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" and attributes(node)["to"] == HALF:
            set_integer(node, "to", SINGLE)  # its result is rounded as any other
        nodes.append(node)
        for position, name in enumerate(node.output):
            if types.get(name) == HALF:
                node.output[position] = f"{name}/unrounded"
                nodes += _rounded(f"{name}/unrounded", name)
    replace_nodes(graph, nodes)
    return emulated


def _rounded(source: str, target: str) -> list[onnx.NodeProto]:
    """The nodes that round a tensor to FP16 and back."""
    return [
        helper.make_node("Cast", [source], [f"{target}/half"], name=f"{target}/to_half", to=HALF),
        helper.make_node("Cast", [f"{target}/half"], [target], name=f"{target}/to_single", to=SINGLE),
    ]
