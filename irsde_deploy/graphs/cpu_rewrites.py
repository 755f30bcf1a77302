"""The form of an exported graph that CPUs compute fastest: the same function by other nodes.

The exported graph stays as it is for everybody else; engines on the CPU rewrite it when they open it. What each rewrite
brings is measured by benchmarks/rewrites.py; the numbers are the same but for the order of a few float32 additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import reason
from .editing import GraphEditor, attributes, copied, set_integer
from .loading import load_graph, not_onnx

if TYPE_CHECKING:
    import onnx

Rewrite = Callable[[GraphEditor], None]


def for_cpu(path: Path, rewrites: Sequence[Rewrite], strict: bool = False) -> Path | bytes:
    """An ONNX file as CPUs like it, serialized and whole; the path itself where it is that already.

    Graphs whose constants are other than float32 and int64, those with graphs inside (If, Loop), and those that onnx's
    checker does not know or that do not hold together are left as they are: the engine says what is wrong with them.

    Args:
        path: of the file.
        rewrites: of `REWRITES`, in this order.
        strict: whether nodes that onnx's checker knows, and finds wrong, are refused here: OpenVINO crashes on some.

    Raises:
        EngineError: not an ONNX file. MissingPackageError: the package onnx is not installed.
    """
    model, weights_beside = load_graph(path)
    unchanged: Path | bytes = path
    if weights_beside:  # engines get the whole graph, and look for nothing beside a file
        unchanged = bytes(model.SerializeToString())
    complaint = _complaint(model)
    if strict and complaint and not any(word in complaint for word in _BEYOND_THE_CHECKER):
        raise not_onnx(path, complaint)
    if complaint or not _plain(model.graph):
        return unchanged
    try:
        changed = _rewrite(model.graph, rewrites)
    except Exception:  # nodes, attributes and constants that do not go together, at which onnx's checker does not look
        return unchanged
    if not changed:
        return unchanged
    return bytes(model.SerializeToString())


def _rewrite(graph: onnx.GraphProto, rewrites: Sequence[Rewrite]) -> bool:
    """Change a graph in place; whether anything was found to change."""
    changed = False
    for rewrite in rewrites:
        editor = GraphEditor(graph)  # anew: it knows the graph as the rewrite before has left it
        rewrite(editor)
        changed = changed or editor.changed
    return changed


_BEYOND_THE_CHECKER = ("IR version", "No Op registered", "opset")
"""Words of complaints about what is newer than onnx's checker, or somebody's own: an engine may know it."""


def _complaint(model: onnx.ModelProto) -> str:
    """What onnx's checker has against a model; empty: nothing."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:  # of several kinds
        return reason(error)
    return ""


def _plain(graph: onnx.GraphProto) -> bool:
    """Whether rewrites know all that a graph holds: constants of two types, no subgraphs."""
    from onnx import AttributeProto, TensorProto

    for tensor in graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT64):
            return False
    for node in graph.node:
        if any(entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for entry in node.attribute):
            return False
    return True


def split_weights(editor: GraphEditor) -> None:
    """Conv, then Split over the channels: as many convolutions with a part of the weights each.

    Splitting costs a pass over memory, which in OpenVINO takes longer than the convolution. Bit for bit the same.
    """
    substitutes = {}
    for node in editor.graph.node:
        if node.op_type != "Split" or attributes(node).get("axis") != 1 or len(node.input) < 2:
            continue
        sizes = editor.value(node.input[1])
        if sizes is None:
            continue
        if parts := _parts(editor, node.input[0], sizes.tolist(), list(node.output)):
            substitutes[node.output[0]] = parts
    editor.replace(substitutes)


def _parts(editor: GraphEditor, name: str, sizes: list[int], outputs: list[str]) -> list[onnx.NodeProto]:
    """The nodes that compute a convolution's output in parts; none if it is not one that can be taken apart.

    Args:
        name: of the output. sizes: channels of each part. outputs: name of each part.
    """
    conv = editor.made_by(name, "Conv")
    if conv is None:
        return []
    weights: list[npt.NDArray[Any]] = []
    for given in conv.input[1:]:
        value = editor.value(given)
        if value is None:
            return []
        weights.append(value)
    groups = attributes(conv).get("group", 1)
    if groups == 1:
        return list(_cut(editor, conv, weights, sizes, [conv.input[0]] * len(sizes), outputs))
    if groups != sum(sizes) or weights[0].shape[1] != 1:
        return []
    # With one channel a group, each part reads its own channels alone: what makes them has to come apart, too.
    inputs = [f"{conv.input[0]}/{k}" for k in range(len(sizes))]
    above = _parts(editor, conv.input[0], sizes, inputs)
    if not above:
        return []
    return [*above, *_cut(editor, conv, weights, sizes, inputs, outputs)]


def _cut(
    editor: GraphEditor,
    conv: onnx.NodeProto,
    weights: list[npt.NDArray[Any]],
    sizes: list[int],
    inputs: list[str],
    outputs: list[str],
) -> Iterator[onnx.NodeProto]:
    """A convolution as several, each with its share of the output channels, its input and its output."""
    one_each = attributes(conv).get("group", 1) > 1
    start = 0
    for k, size in enumerate(sizes):
        stop = start + size
        part = copied(conv)
        part.name, part.input[0], part.output[0] = f"{conv.name}/{k}", inputs[k], outputs[k]
        for index, value in enumerate(weights, start=1):
            part.input[index] = editor.constant(f"{conv.input[index]}/{start}:{stop}", value[start:stop])
        if one_each:  # one channel a group, as before
            set_integer(part, "group", size)
        yield part
        start = stop


def convolve_means(editor: GraphEditor) -> None:
    """The mean over the channels of each pixel as a 1x1 convolution, which engines do several times as fast."""
    from onnx import helper

    shapes = editor.shapes()
    substitutes = {}
    for node in editor.graph.node:
        if not _averages_channels(editor, node):
            continue
        shape = shapes.get(node.input[0], [])
        if len(shape) != 4 or shape[1] == 0:
            continue
        channels = shape[1]
        weight = np.full((1, channels, 1, 1), 1 / channels, np.float32)
        mean = editor.constant(f"mean of {channels} channels", weight)
        convolution = helper.make_node("Conv", [node.input[0], mean], node.output, node.name, kernel_shape=[1, 1])
        substitutes[node.output[0]] = [convolution]
    editor.replace(substitutes)


def _averages_channels(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Whether a node is the mean over axis 1 alone, which stays as an axis of one channel."""
    if node.op_type != "ReduceMean":
        return False
    settings = attributes(node)
    axes = settings.get("axes")
    if len(node.input) > 1:  # since opset 18
        axes = editor.value(node.input[1])
    return axes is not None and list(axes) == [1] and settings.get("keepdims", 1) == 1


def multiply_projections(editor: GraphEditor) -> None:
    """A 1x1 convolution that is reshaped for attention: a matrix product on the flattened input.

    The product comes out in the order that attention reads; a convolution's result would be reordered first, all of its
    many channels instead of the few that go in.
    """
    from onnx import helper

    substitutes: dict[str, list[onnx.NodeProto]] = {}
    flattened: set[str] = set()
    for node in editor.graph.node:
        weight = editor.kernel(node)
        if weight is None or not _is_product(node, weight) or not _only_reshaped(editor, node.output[0]):
            continue
        nodes = []
        matrix = editor.constant(f"{node.input[1]}/matrix", weight[:, :, 0, 0])
        flat = f"{node.input[0]}/flat"
        if flat not in flattened:  # queries, keys and values are of one input
            flattened.add(flat)
            shape = editor.constant("batch, channels, pixels", np.array([0, 0, -1]))
            nodes.append(helper.make_node("Reshape", [node.input[0], shape], [flat], f"{node.name}/flat"))
        nodes.append(helper.make_node("MatMul", [matrix, flat], node.output, node.name))
        substitutes[node.output[0]] = nodes
    editor.replace(substitutes)


def _is_product(conv: onnx.NodeProto, weight: npt.NDArray[Any]) -> bool:
    """Whether a convolution is a matrix product of every pixel's channels, and nothing is added to it."""
    if len(conv.input) > 2 or weight.shape[2:] != (1, 1):
        return False
    return _is_dense(conv) and attributes(conv).get("pads", [0] * 4) == [0] * 4


def _is_dense(conv: onnx.NodeProto) -> bool:
    """Whether a convolution moves by one pixel and every channel of its output sees all channels of its input."""
    settings = attributes(conv)
    return bool(settings.get("strides", [1, 1]) == [1, 1] and settings.get("group", 1) == 1)


def _only_reshaped(editor: GraphEditor, name: str) -> bool:
    """Whether a tensor (B, C, H, W) can as well be (B, C, H W), since nothing but reshapes reads it.

    A reshape that takes H or W over by its place (a 0 in the shape) would not find it any more.
    """
    readers = editor.readers.get(name, [])
    if not readers or name in editor.outputs:
        return False
    for reader in readers:
        if reader.op_type != "Reshape":
            return False
        shape = editor.value(reader.input[1])
        if shape is not None and 0 in shape[2:]:
            return False
    return True


_UPSAMPLED = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)
"""Which of a kernel's three taps meet in each of the four taps on the picture before it was doubled."""


def convolve_before_upsampling(editor: GraphEditor) -> None:
    """Doubling by nearest neighbours, then a 3x3 convolution: one transposed convolution, at 4/9 of the operations.

    Of the nine taps on the doubled picture those that fall on one pixel of the smaller one are added beforehand.
    """
    from onnx import helper

    substitutes = {}
    for node in editor.graph.node:
        weight = editor.kernel(node)
        if weight is None or not _keeps_size(node, weight):
            continue
        resize = editor.made_by(node.input[0], "Resize")
        if resize is None or not _doubles(editor, resize):
            continue
        kernel = np.einsum("ay,bx,oiyx->ioab", _UPSAMPLED, _UPSAMPLED, weight.astype(np.float64)).astype(np.float32)
        inputs = [resize.input[0], editor.constant(f"{node.input[1]}/upsampled", kernel), *node.input[2:]]
        transposed = helper.make_node("ConvTranspose", inputs, node.output, node.name, strides=[2, 2], pads=[1] * 4)
        substitutes[node.output[0]] = [transposed]
    editor.replace(substitutes)


def _keeps_size(conv: onnx.NodeProto, weight: npt.NDArray[Any]) -> bool:
    """Whether a convolution is a plain 3x3 one with a padding of 1."""
    settings = attributes(conv)
    if weight.shape[2:] != (3, 3) or settings.get("pads", [0] * 4) != [1] * 4:
        return False
    return _is_dense(conv) and settings.get("dilations", [1, 1]) == [1, 1]


def _doubles(editor: GraphEditor, resize: onnx.NodeProto) -> bool:
    """Whether a Resize repeats each pixel twice in both directions."""
    settings = attributes(resize)
    if settings.get("mode", b"nearest") != b"nearest" or settings.get("nearest_mode") != b"floor":
        return False
    if settings.get("coordinate_transformation_mode") != b"asymmetric" or len(resize.input) != 3:
        return False
    scales = editor.value(resize.input[2])
    return scales is not None and list(scales) == [1, 1, 2, 2]


REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "onnxruntime": (split_weights, multiply_projections, convolve_before_upsampling, convolve_means),
    "openvino": (split_weights, multiply_projections, convolve_before_upsampling),
}
"""Engine -> what pays there, in the order of application."""
