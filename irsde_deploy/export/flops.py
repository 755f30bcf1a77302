"""How many floating-point operations one evaluation takes: convolutions and matrix products of an ONNX graph."""

from __future__ import annotations

import itertools
import math

import onnx

from ..errors import EngineError


def count_flops(model: onnx.ModelProto, batch: int, height: int, width: int) -> int:
    """Multiplications and additions of Conv, Gemm and MatMul for x and mu of (batch, C, height, width).

    Everything else (norms, activations, softmax) is left out, as is usual: it is memory traffic, not arithmetic.

    Raises:
        EngineError: a node whose sizes cannot be inferred.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for entry in sized.graph.input:
        free = {0: batch, 2: height, 3: width}
        for index, dimension in enumerate(entry.type.tensor_type.shape.dim):
            if index in free:
                dimension.dim_value = free[index]
    del sized.graph.value_info[:]
    for entry in sized.graph.output:
        entry.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for entry in itertools.chain(graph.input, graph.output, graph.value_info):
        sizes[entry.name] = [dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
    return sum(_products(node, sizes) for node in graph.node)


def _products(node: onnx.NodeProto, sizes: dict[str, list[int]]) -> int:
    """2 x multiplications of one node; 0 for those that are not counted."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    out, first, second = (sizes.get(name, []) for name in (node.output[0], node.input[0], node.input[1]))
    if node.op_type == "Conv":
        inner = math.prod(second[1:])  # channels of a group x kernel
    elif node.op_type == "MatMul":
        inner = first[-1] if first else 0
    else:
        transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
        inner = second[1 if transposed else 0]
    total = 2 * math.prod(out) * inner
    if total == 0:
        raise EngineError(f"the sizes of node {node.name!r} cannot be inferred")
    return total
