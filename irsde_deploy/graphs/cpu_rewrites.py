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

from ..errors import EngineError, reason, requires_extra

if TYPE_CHECKING:
    import onnx

_LIGHT = 1024
"""Elements of a constant that shape inference may want to see; larger ones are weights."""


def for_cpu(path: Path, rewrites: Sequence[Rewrite]) -> Path | bytes:
    """An ONNX file as CPUs like it, serialized; the path itself where no rewrite finds anything.

    Graphs whose constants are other than float32 and int64 or outside the file, and those with graphs inside (If,
    Loop), are left alone, as are those that onnx's checker does not know: the engine says what is wrong with them.

    Args:
        path: of the file.
        rewrites: of `REWRITES`, in this order.

    Raises:
        EngineError: not an ONNX file. MissingPackageError: the package onnx is not installed.
    """
    with requires_extra("cpu", "running an .onnx engine on the CPU"):
        import onnx
    serialized = path.read_bytes()
    try:
        model = onnx.load_from_string(serialized)
    except Exception as error:  # protobuf raises kinds of its own
        raise not_onnx(path, reason(error)) from None
    if not model.graph.node:
        raise not_onnx(path, "it has no graph")
    try:
        onnx.checker.check_model(serialized)
    except Exception:  # of several kinds
        return path
    del serialized
    plain = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
    if any(tensor.data_type not in plain or tensor.external_data for tensor in model.graph.initializer):
        return path
    inner = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    if any(entry.type in inner for node in model.graph.node for entry in node.attribute):
        return path
    if not [rewrite for rewrite in rewrites if _applied(rewrite, model.graph)]:
        return path
    return bytes(model.SerializeToString())


def _applied(rewrite: Rewrite, graph: onnx.GraphProto) -> bool:
    """Rewrite a graph; whether anything was found to rewrite."""
    editor = GraphEditor(graph)
    rewrite(editor)
    return editor.changed


def not_onnx(path: Path, why: str) -> EngineError:
    """The error for a file that is not an ONNX model."""
    return EngineError(f"{path}: not an ONNX model ({why}): make it with 'irsde-deploy export'")


class GraphEditor:
    """Who makes and who reads which tensor of an ONNX graph, and the few changes that rewrites need."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in set(node.input):
                self.readers.setdefault(name, []).append(node)
        self.outputs = {entry.name for entry in graph.output}
        self.changed = False

    def made_by(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is such an operator and nothing but one node reads the tensor."""
        node = self.producer.get(name)
        alone = len(self.readers.get(name, [])) == 1 and name not in self.outputs
        return node if node is not None and node.op_type == operator and alone else None

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """A constant; None for what is computed."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.weights[name]) if name in self.weights else None

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant, if it is not there yet, and return its name."""
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.graph.initializer.append(self.weights[name])
        return name

    def replace(self, substitutes: dict[str, list[onnx.NodeProto]]) -> None:
        """Put nodes in the place of those that make the named tensors, and drop what nothing reads any more."""
        if not substitutes:
            return
        self.changed = True
        nodes = [new for old in self.graph.node for new in substitutes.get(old.output[0], [old])]
        needed, kept = set(self.outputs), []
        for node in reversed(nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        del self.graph.node[:], self.graph.value_info[:]  # shapes may be others now
        self.graph.node.extend(reversed(kept))
        for index in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[index].name not in needed:
                del self.graph.initializer[index]

    def shapes(self) -> dict[str, list[int]]:
        """Shape of every tensor that can be inferred; 0 for what is free."""
        import onnx

        light = onnx.GraphProto(node=self.graph.node, name="shapes", input=self.graph.input, output=self.graph.output)
        for tensor in self.graph.initializer:
            if np.prod(tensor.dims) <= _LIGHT:
                light.initializer.append(tensor)
            else:
                light.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(light)).graph
        entries = [*inferred.input, *inferred.value_info, *inferred.output]
        return {entry.name: [d.dim_value for d in entry.type.tensor_type.shape.dim] for entry in entries} | {
            tensor.name: list(tensor.dims) for tensor in self.graph.initializer
        }


Rewrite = Callable[[GraphEditor], None]


def split_weights(editor: GraphEditor) -> None:
    """Conv, then Split over the channels: as many convolutions with a part of the weights each.

    Splitting costs a pass over memory, which in OpenVINO takes longer than the convolution. Bit for bit the same.
    """
    substitutes = {}
    for node in editor.graph.node:
        if node.op_type == "Split" and _attributes(node).get("axis") == 1:
            sizes = editor.value(node.input[1]) if len(node.input) > 1 else None
            parts = None if sizes is None else list(_parts(editor, node.input[0], sizes.tolist(), list(node.output)))
            if parts:
                substitutes[node.output[0]] = parts
    editor.replace(substitutes)


def _parts(editor: GraphEditor, name: str, sizes: list[int], outputs: list[str]) -> Iterator[onnx.NodeProto]:
    """The nodes that compute a convolution's output in parts; none if it is not one that can be taken apart."""
    conv = editor.made_by(name, "Conv")
    names = [] if conv is None else list(conv.input[1:])
    constants = [value for value in map(editor.value, names) if value is not None]
    if conv is None or len(constants) < len(names):
        return
    groups = _attributes(conv).get("group", 1)
    inputs = [conv.input[0]] * len(outputs)
    if groups > 1:
        if groups != sum(sizes) or constants[0].shape[1] != 1:  # not one channel a group
            return
        inputs = [f"{conv.input[0]}/{k}" for k in range(len(outputs))]
        above = list(_parts(editor, conv.input[0], sizes, inputs))
        if not above:
            return
        yield from above
    for k, (start, size) in enumerate(zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False)):
        part = type(conv)()
        part.CopyFrom(conv)
        part.name, part.input[0], part.output[0] = f"{conv.name}/{k}", inputs[k], outputs[k]
        for index, value in enumerate(constants, start=1):
            name = f"{conv.input[index]}/{start}:{start + size}"
            part.input[index] = editor.constant(name, value[start : start + size])
        if groups > 1:
            next(entry for entry in part.attribute if entry.name == "group").i = size
        yield part


def convolve_means(editor: GraphEditor) -> None:
    """The mean over the channels of each pixel as a 1x1 convolution, which engines do several times as fast."""
    from onnx import helper

    shapes = editor.shapes()
    substitutes = {}
    for node in editor.graph.node:
        if node.op_type != "ReduceMean" or _reduced(editor, node) != [1] or not _attributes(node).get("keepdims", 1):
            continue
        shape = shapes.get(node.input[0], [])
        if len(shape) == 4 and shape[1]:
            mean = editor.constant(
                f"mean of {shape[1]} channels", np.full((1, shape[1], 1, 1), 1 / shape[1], np.float32)
            )
            convolution = helper.make_node("Conv", [node.input[0], mean], node.output, node.name, kernel_shape=[1, 1])
            substitutes[node.output[0]] = [convolution]
    editor.replace(substitutes)


def _reduced(editor: GraphEditor, node: onnx.NodeProto) -> list[int]:
    """The axes of a reduction: an input since opset 18, an attribute before."""
    axes = editor.value(node.input[1]) if len(node.input) > 1 else None
    return [int(axis) for axis in (_attributes(node).get("axes", []) if axes is None else axes)]


def multiply_projections(editor: GraphEditor) -> None:
    """A 1x1 convolution that is reshaped for attention: a matrix product on the flattened input.

    The product comes out in the order that attention reads; a convolution's result would be reordered first, all of its
    many channels instead of the few that go in.
    """
    from onnx import helper

    substitutes: dict[str, list[onnx.NodeProto]] = {}
    flattened: set[str] = set()
    for node in editor.graph.node:
        weight = editor.value(node.input[1]) if node.op_type == "Conv" and len(node.input) == 2 else None
        if weight is None or not _is_product(node, weight) or not _only_reshaped(editor, node.output[0]):
            continue
        flat, matrix = f"{node.input[0]}/flat", editor.constant(f"{node.input[1]}/matrix", weight[:, :, 0, 0])
        nodes = [helper.make_node("MatMul", [matrix, flat], node.output, node.name)]
        if flat not in flattened:
            shape = editor.constant("batch, channels, pixels", np.array([0, 0, -1]))
            nodes.insert(0, helper.make_node("Reshape", [node.input[0], shape], [flat], f"{node.name}/flat"))
            flattened.add(flat)
        substitutes[node.output[0]] = nodes
    editor.replace(substitutes)


def _is_product(conv: onnx.NodeProto, weight: npt.NDArray[Any]) -> bool:
    """Whether a convolution is a matrix product of every pixel's channels."""
    settings = _attributes(conv)
    plain = settings.get("strides", [1, 1]) == [1, 1] and settings.get("pads", [0] * 4) == [0] * 4
    return plain and settings.get("group", 1) == 1 and weight.shape[2:] == (1, 1)


def _only_reshaped(editor: GraphEditor, name: str) -> bool:
    """Whether nobody minds if a tensor (B, C, H, W) becomes (B, C, H W): reshapes that copy neither H nor W."""
    readers = editor.readers.get(name, [])
    shapes = [editor.value(reader.input[1]) for reader in readers if reader.op_type == "Reshape"]
    copying = any(shape is not None and 0 in shape[2:] for shape in shapes)
    return len(shapes) == len(readers) > 0 and name not in editor.outputs and not copying


_UPSAMPLED = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)
"""Which of a kernel's three taps meet in each of the four taps on the picture before it was doubled."""


def convolve_before_upsampling(editor: GraphEditor) -> None:
    """Doubling by nearest neighbours, then a 3x3 convolution: one transposed convolution, at 4/9 of the operations.

    Of the nine taps on the doubled picture those that fall on one pixel of the smaller one are added beforehand.
    """
    from onnx import helper

    substitutes = {}
    for node in editor.graph.node:
        weight = editor.value(node.input[1]) if node.op_type == "Conv" else None
        resize = None if weight is None else editor.made_by(node.input[0], "Resize")
        if weight is None or resize is None or not _doubles(editor, resize) or not _keeps_size(node, weight):
            continue
        kernel = np.einsum("ay,bx,oiyx->ioab", _UPSAMPLED, _UPSAMPLED, weight.astype(np.float64)).astype(np.float32)
        inputs = [resize.input[0], editor.constant(f"{node.input[1]}/upsampled", kernel), *node.input[2:]]
        transposed = helper.make_node("ConvTranspose", inputs, node.output, node.name, strides=[2, 2], pads=[1] * 4)
        substitutes[node.output[0]] = [transposed]
    editor.replace(substitutes)


def _doubles(editor: GraphEditor, resize: onnx.NodeProto) -> bool:
    """Whether a Resize repeats each pixel twice in both directions."""
    scales = editor.value(resize.input[2]) if len(resize.input) == 3 else None
    settings = _attributes(resize)
    exact = settings.get("mode", b"nearest") == b"nearest" and settings.get("nearest_mode") == b"floor"
    exact &= settings.get("coordinate_transformation_mode") == b"asymmetric"
    return exact and scales is not None and scales.tolist() == [1, 1, 2, 2]


def _keeps_size(conv: onnx.NodeProto, weight: npt.NDArray[Any]) -> bool:
    """Whether a convolution is a plain 3x3 one with a padding of 1."""
    settings = _attributes(conv)
    plain = settings.get("strides", [1, 1]) == [1, 1] and settings.get("dilations", [1, 1]) == [1, 1]
    return plain and settings.get("group", 1) == 1 and weight.shape[2:] == (3, 3) and settings.get("pads") == [1] * 4


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Name -> value; texts are bytes."""
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "onnxruntime": (split_weights, multiply_projections, convolve_before_upsampling, convolve_means),
    "openvino": (split_weights, multiply_projections, convolve_before_upsampling),
}
"""Engine -> what pays there, in the order of application."""
