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
        same = onnx.ModelProto()
        same.CopyFrom(model)
        return same
    quantiser = _quantiser(model, layers, ranges)
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    _spare_others(model, quantised, {layer.name for layer in layers})
    del quantised.graph.value_info[:]
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
    lowered = lower(model, kept_nodes(model, "mixed") | {layer.name for layer in layers})
    nodes = {node.name: node for node in lowered.graph.node}
    before = {node.name: list(node.input) for node in model.graph.node}
    moved, of_moved = [], dict[str, float]()
    for layer in layers:
        renamed = dict(zip(before[layer.name], nodes[layer.name].input, strict=True))
        moved.append(replace(layer, inputs=tuple(renamed[name] for name in layer.inputs)))
        of_moved |= {renamed[name]: _range_of(name, ranges) for name in layer.inputs}
    return quantise(lowered, moved, of_moved)


def as_computed(model: onnx.ModelProto, rest: str) -> onnx.ModelProto:
    """Return the graph to run on a CPU to see what this one computes: ONNX Runtime rounds nothing to FP16 there.

    Args:
        model: from `mixed`.
        rest: what `mixed` was given.
    """
    return model if rest == "fp32" else emulate_half(model)


def _quantiser(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, float]) -> Any:
    onnxruntime_for("cpu")
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    tops = {name: np.float32(_range_of(name, ranges)) for layer in layers for name in layer.inputs}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    inferred.metadata_props.append(onnx.StringStringEntryProto(key=_INFERRED, value="onnxruntime.quant"))
    operators = [*CONVOLUTIONS, "Add"]
    return QDQQuantizer(
        inferred,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {name: (-top, top) for name, top in tops.items()}),
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
    top = ranges.get(name)
    if top is None or not 0 < top < np.inf:
        raise InvalidValueError(f"the range table has {'no' if top is None else 'an impossible'} range for {name}")
    return top


def _spare_others(model: onnx.ModelProto, quantised: onnx.ModelProto, layers: set[str]) -> None:
    """Give the nodes that are not among these layers their float inputs back."""
    before = {node.name: node for node in model.graph.node}
    there = {tensor.name for tensor in quantised.graph.initializer} | {entry.name for entry in model.graph.input}
    there |= {name for node in quantised.graph.node for name in node.output}
    for node in quantised.graph.node:
        if node.name in before and node.name not in layers:
            for position, name in enumerate(before[node.name].input):
                if name in there:
                    node.input[position] = name
