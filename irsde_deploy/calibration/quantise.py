"""INT8 in the graph: explicit QuantizeLinear and DequantizeLinear nodes, where TensorRT wants them.

ONNX Runtime's quantiser (`onnxruntime.quantization`) places them. INT8 is symmetric (zero point 0; a range becomes
127). Activations are quantised per tensor, with ranges that are given; weights per output channel, and stored as INT8
with a DequantizeLinear; biases stay float32, as TensorRT takes them. Only the layers that are asked for read quantised
values: another reader of the same tensor (a skip connection, a norm) keeps the float one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from ..errors import InvalidValueError
from ..graphs.editing import copied
from ..precision.casts import lower
from ..precision.half_emulation import emulate_half
from ..precision.nodes import kept_nodes
from ..runtimes.engines.onnx_session import onnxruntime_for
from .layers import CONVOLUTIONS, Layer

_INFERRED = "onnx.infer"
"""The metadata property by which ONNX Runtime's quantiser knows that shapes are inferred already."""


def quantise(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, float]) -> onnx.ModelProto:
    """Return a copy of the graph with these layers in INT8 and the rest as it was.

    Args:
        model: the FP32 graph, of opset 13 or later.
        layers: from `quantisable`; without any, the copy is the graph itself.
        ranges: name of an activation -> the magnitude that becomes 127.

    Raises:
        InvalidValueError: a range is missing, or is not a finite number above 0.
    """
    if not layers:
        return copied(model)
    quantiser = _quantiser(model, layers, ranges)
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    _spare_others(model, quantised, {layer.name for layer in layers})
    del quantised.graph.value_info[:]
    # As in the model: without `_INFERRED`, and without domains of operators that the quantiser knows and has not used.
    for attribute in ("metadata_props", "opset_import"):
        del getattr(quantised, attribute)[:]
        getattr(quantised, attribute).extend(getattr(model, attribute))
    return quantised


def mixed(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, float], rest: str) -> onnx.ModelProto:
    """Return a copy of the graph with these layers in INT8 and the rest in FP32 or in mixed precision.

    With `rest` = `fp16` the other layers are lowered just as the precision `mixed` lowers them. INT8 layers still read
    and write float32 then, with casts around them: opset 18 quantises nothing else.

    Args:
        model: the FP32 graph, of opset 13 or later.
        layers: from `quantisable`.
        ranges: name of an activation -> the magnitude that becomes 127.
        rest: `fp32` or `fp16`.

    Raises:
        InvalidValueError: a range is missing, or is not a finite number above 0.
    """
    if rest == "fp32":
        return quantise(model, layers, ranges)
    lowered = lower(model, kept_nodes(model, "mixed").union(layer.name for layer in layers))
    before, after = _inputs(model.graph), _inputs(lowered.graph)
    moved = []
    of_moved: dict[str, float] = {}
    for layer in layers:
        renamed = dict(zip(before[layer.name], after[layer.name], strict=True))  # what is cast has another name now
        moved.append(replace(layer, inputs=tuple(renamed[name] for name in layer.inputs)))
        for name in layer.inputs:
            of_moved[renamed[name]] = _range_of(name, ranges)
    return quantise(lowered, moved, of_moved)


def _inputs(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Node -> what it reads."""
    return {node.name: list(node.input) for node in graph.node}


def as_computed(model: onnx.ModelProto, rest: str) -> onnx.ModelProto:
    """Return the graph to run on a CPU to see what this one computes: ONNX Runtime rounds nothing to FP16 there.

    Args:
        model: from `mixed`.
        rest: what `mixed` was given.
    """
    return model if rest == "fp32" else emulate_half(model)


def _quantiser(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, float]) -> Any:
    """ONNX Runtime's quantiser, set to quantise these layers and nothing else."""
    onnxruntime_for("cpu")
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    symmetric = {}
    for layer in layers:
        for name in layer.inputs:
            top = np.float32(_range_of(name, ranges))
            symmetric[name] = (-top, top)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    inferred.metadata_props.append(onnx.StringStringEntryProto(key=_INFERRED, value="onnxruntime.quant"))
    operators = [*CONVOLUTIONS, "Add"]
    return QDQQuantizer(
        inferred,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, symmetric),
        nodes_to_quantize=[layer.name for layer in layers],
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
            "OpTypesToExcludeOutputQuantization": operators,
        },
    )


def _range_of(name: str, ranges: Mapping[str, float]) -> float:
    """Return the range of an activation, once it is known to be one."""
    if name not in ranges:
        raise InvalidValueError(f"the range table has no range for {name}")
    if not 0 < ranges[name] < np.inf:
        raise InvalidValueError(f"the range table has an impossible range for {name}")
    return ranges[name]


def _spare_others(model: onnx.ModelProto, quantised: onnx.ModelProto, layers: set[str]) -> None:
    """Give the nodes that are not among these layers their float inputs back."""
    before = _inputs(model.graph)
    there = _tensors(quantised.graph)
    for node in quantised.graph.node:
        if node.name in layers or node.name not in before:
            continue
        for position, name in enumerate(before[node.name]):
            if name in there:
                node.input[position] = name


def _tensors(graph: onnx.GraphProto) -> set[str]:
    """Names of everything that a node of the graph can read."""
    names = {tensor.name for tensor in graph.initializer}
    names.update(entry.name for entry in graph.input)
    for node in graph.node:
        names.update(node.output)
    return names
