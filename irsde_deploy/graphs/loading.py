"""ONNX files read into memory whole, weights that stand beside them included; everything else goes by the message."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import EngineError, IrsdeError, reason, requires_extra
from ..system.files import require_readable
from ..system.parsing import shortened, shown

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 2**31 - 1
"""Bytes of a graph: ONNX files are messages of protobuf, which has no longer ones."""

_NO_TEXT = "a name or text in it is not UTF-8"
_FOUR_BITS = (21, 22, 23)
"""UINT4, INT4 and FLOAT4E2M1 of ONNX, two values a byte."""


class Loaded(NamedTuple):
    """A graph in memory, whole.

    Attributes:
        model: with all weights in it.
        weights_beside: whether some of them stand beside the file.
    """

    model: onnx.ModelProto
    weights_beside: bool


def load_graph(path: Path) -> Loaded:
    """The graph in an ONNX file, with all of its weights in it.

    Weights that stand beside the file are read from its own folder, wherever the process is, and from no other place.

    Raises:
        InputFileError: no such file.
        EngineError: not an ONNX file, texts that are no UTF-8, weights that are not there, or more than 2 GB.
        MissingPackageError: the package onnx is not installed.
    """
    require_readable(path)
    with requires_extra("cpu", "reading an .onnx file"):
        import onnx
    size = path.stat().st_size
    if size > MOST_BYTES:  # before anything is read
        raise not_onnx(path, f"it has {size} bytes, where {MOST_BYTES} are the most")
    try:
        model = onnx.load_from_string(path.read_bytes())
        if not model.graph.node:
            raise ValueError("it has no graph")
        outside = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            _require_there(outside, path.parent, size)
            onnx.load_external_data_for_model(model, str(path.parent))  # which follows no way out of that folder
        for tensor in outside:
            tensor.ClearField("data_location")  # the message is then the one of a file that always was whole
    except IrsdeError:
        raise
    except UnicodeDecodeError:
        raise not_onnx(path, _NO_TEXT) from None
    except Exception as error:  # of protobuf, of the package onnx and of the system; RecursionError, MemoryError
        raise not_onnx(path, shortened(reason(error), 200)) from None
    return Loaded(model, bool(outside))


def not_onnx(path: Path, why: str) -> EngineError:
    """The error for a file that is not an ONNX model."""
    return EngineError(f"{path}: not an ONNX model ({why}): make it with 'irsde-deploy export'")


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """The tensors in a message, however deep; ValueError where any text in it is no UTF-8."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        _require_texts([message.name])
        for entry in message.external_data:
            _require_texts([entry.key, entry.value])
        yield message  # without a look at its values: they are a copy of the weights
        return
    for field, value in message.ListFields():
        entries = value if field.is_repeated else [value]
        if field.message_type is not None:
            for entry in entries:
                yield from _tensors(entry)
        elif field.type == field.TYPE_STRING:
            _require_texts(entries)


def _require_texts(values: Iterable[Any]) -> None:
    """Raise ValueError where a field of text is none: protobuf gives bytes then, or raises UnicodeDecodeError."""
    if not all(isinstance(value, str) for value in values):
        raise ValueError(_NO_TEXT)


def _require_there(tensors: list[onnx.TensorProto], folder: Path, size: int) -> None:
    """Raise ValueError unless the weights beside a graph are as long as they must be, before any of them is read."""
    total = size
    for tensor in tensors:
        place = {entry.key: entry.value for entry in tensor.external_data}
        expected = _bytes_of(tensor)
        offset, length = int(place.get("offset", 0)), int(place.get("length", expected))
        if offset < 0 or length != expected:
            raise ValueError(f"the weights {shown(tensor.name)} must have {expected} bytes, not {length} from {offset}")
        file = folder / place.get("location", "")
        if not file.is_file():
            raise ValueError(f"its weights are in {shown(place.get('location'))}, which is not beside it")
        if offset + length > file.stat().st_size:
            raise ValueError(f"the weights {shown(tensor.name)} go beyond the end of {shown(place['location'])}")
        if "length" not in place:
            tensor.external_data.add(key="length", value=str(expected))  # else all that follows would be read, too
        total += expected
    if total > MOST_BYTES:
        raise ValueError(f"it has {total} bytes with its weights, where {MOST_BYTES} are the most")


def _bytes_of(tensor: onnx.TensorProto) -> int:
    """The bytes of a tensor's values."""
    from onnx import helper

    if any(side < 0 for side in tensor.dims):
        raise ValueError(f"the weights {shown(tensor.name)} have a side below 0")
    bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if tensor.data_type in _FOUR_BITS:
        bits = 4
    return -(-int(math.prod(tensor.dims)) * bits // 8)
