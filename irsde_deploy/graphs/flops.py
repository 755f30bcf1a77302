"""How many floating-point operations one evaluation of an ONNX graph takes, in all and node by node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx

from ..core.margin import evaluated
from ..errors import EngineError
from ..system.parsing import shown
from .editing import attributes, copied, described, sides


def count_flops(model: onnx.ModelProto, batch: int, height: int, width: int) -> int:
    """Multiplications and additions of convolutions, Gemm and MatMul for x and mu of (batch, C, height, width).

    Everything else (norms, activations, softmax) is left out, as is usual: it is memory traffic, not arithmetic.

    Raises:
        EngineError: a node whose sizes cannot be inferred.
    """
    sizes = _sizes(model, batch, height, width)
    return sum(_products(node, sizes) for node in model.graph.node)


def counter(model: onnx.ModelProto, multiple: int, margin: int = 0) -> Callable[[int, int, int], int]:
    """(batch, height, width) -> `count_flops` for pictures of that size, with a margin and padded to multiples."""

    def count(batch: int, height: int, width: int) -> int:
        return count_flops(model, batch, *evaluated(height, width, margin, multiple))

    return count


def operations(model: onnx.ModelProto, batch: int, height: int, width: int) -> dict[str, int]:
    """Node -> operations that it takes: those of `count_flops`, and one for each value that any other node makes.

    Raises:
        EngineError: a node of `count_flops` whose sizes cannot be inferred.
    """
    sizes = _sizes(model, batch, height, width)
    taken = {}
    for node in model.graph.node:
        taken[node.name] = _products(node, sizes)
        if taken[node.name] == 0:
            taken[node.name] = sum(math.prod(sizes.get(name, [0])) for name in node.output)
    return taken


def _sizes(model: onnx.ModelProto, batch: int, height: int, width: int) -> dict[str, list[int]]:
    """Tensor -> its shape, as far as it can be inferred; 0 for a side that cannot."""
    sized = copied(model)
    free = {0: batch, 2: height, 3: width}
    for entry in sized.graph.input:
        for index, dimension in enumerate(entry.type.tensor_type.shape.dim):
            if index in free:
                dimension.dim_value = free[index]
    # What the graph states of shapes would contradict those of one size.
    del sized.graph.value_info[:]
    for entry in sized.graph.output:
        entry.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for entry in described(graph):
        sizes[entry.name] = sides(entry)
    return sizes


def _products(node: onnx.NodeProto, sizes: Mapping[str, list[int]]) -> int:
    """2 x multiplications of one node; 0 for those that are not counted."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    out, first, second = (sizes.get(name, []) for name in (node.output[0], *node.input[:2]))
    for shape in (out, first, second):
        if not shape or min(shape) <= 0:
            raise EngineError(f"the sizes of node {shown(node.name)} cannot be inferred")
    if node.op_type == "ConvTranspose":  # every value that is read goes to a kernel of all channels of its group
        return 2 * math.prod(first) * math.prod(second[1:])
    return 2 * math.prod(out) * _summands(node, first, second)


def _summands(node: onnx.NodeProto, first: list[int], second: list[int]) -> int:
    """How many products one value of a Conv, Gemm or MatMul is the sum of, by the shapes of what it reads."""
    if node.op_type == "Conv":
        return math.prod(second[1:])  # channels of a group x kernel
    if node.op_type == "Gemm" and not attributes(node).get("transB", 0):
        return second[0]
    if node.op_type == "Gemm":
        return second[1]
    return first[-1]
