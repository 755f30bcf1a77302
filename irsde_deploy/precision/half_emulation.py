"""What FP16 costs, measured on a CPU: an FP16 graph as an FP32 graph that rounds where the FP16 one does.

ONNX Runtime's CPU provider computes most FP16 nodes in FP32 and drops the casts between them, so that a graph's FP16
rounding cannot be seen there (tests/precision/test_lowering.py shows it). Here every FP16 tensor becomes an FP32 one
that is rounded to FP16 and back: products and sums inside a node are FP32, each node's result has FP16's digits, range
and subnormals. That is what tensor cores with FP32 accumulation give; kernels that accumulate in FP16 lose more.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

SINGLE, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def emulate_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with FP32 nodes alone and explicit rounding to FP16 after each node that was FP16."""
    emulated = onnx.ModelProto()
    emulated.CopyFrom(model)
    graph = emulated.graph
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = {entry.name for entry in inferred.value_info if entry.type.tensor_type.elem_type == HALF}
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        _compute_in_single(node)
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in half:
                node.output[position] = f"{name}/unrounded"
                nodes += _round(f"{name}/unrounded", name)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(copied)
    return emulated


def _compute_in_single(node: onnx.NodeProto) -> None:
    """A Cast to FP16 becomes one to FP32; its result is rounded as any other."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
            attribute.i = SINGLE


def _round(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{target}/half"], name=f"{target}/to_half", to=HALF),
        helper.make_node("Cast", [f"{target}/half"], [target], name=f"{target}/to_single", to=SINGLE),
    ]
