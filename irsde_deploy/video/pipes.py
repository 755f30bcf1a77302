"""Uncompressed video on pipes: YUV4MPEG2 (y4m) and raw RGB, read and written frame by frame.

A y4m stream is one line, `YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg`, then for each frame a line that begins with
`FRAME` and the planes. The output gets the header and the frame lines of the input, letter for letter.
Format: man page yuv4mpeg(5) of mjpegtools, and FFmpeg's extensions for more than 8 bits and for XCOLORRANGE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputFileError
from .colour import Layout, Plane, Planes
from .pipe_formats import MAGIC, RAW, PipeFormat, PipeFrame, header_format

FRAME = b"FRAME"
MAX_LINE = 1024
"""Bytes of a header or a frame's line."""


def read_format(stream: BinaryIO, matrix: str | None = None) -> PipeFormat:
    """Read the header of a y4m stream.

    Args:
        stream: at its beginning.
        matrix: one of `colour.WEIGHTS`, since y4m does not say; guessed by the size by default.

    Raises:
        InputFileError: no y4m, or one with a colour space, size or header that cannot be used.
    """
    return header_format(_read_line(stream), matrix)


def read_pipe_frames(stream: BinaryIO, form: PipeFormat) -> Iterator[PipeFrame]:
    """Every whole frame of a stream whose header has been read.

    Raises:
        InputFileError: the stream ends within a frame, or something else stands where a frame should begin.
    """
    number = 0
    while True:
        line = b""
        if form.header:
            line = _read_line(stream, may_end=True)
            if not line:
                return
            if line.rstrip(b"\n").split(b" ")[0] != FRAME:
                raise InputFileError(f"after {number} frames the y4m stream has no FRAME where one should begin")
        planes = _read_planes(stream, form, number)
        if planes is None:
            return
        yield PipeFrame(number, planes, line)
        number += 1


def write_frame(stream: BinaryIO, form: PipeFormat, frame: PipeFrame) -> None:
    """Write a frame's line and planes."""
    if form.packed is not None:
        kind, order = RAW[form.packed]
        planes = frame.planes if order == "rgb" else frame.planes[::-1]
        _write_all(stream, np.stack(planes, axis=2).astype(kind, copy=False).tobytes())
        return
    _write_all(stream, frame.line)
    for plane in frame.planes:
        _write_all(stream, plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes())


def write_header(stream: BinaryIO, form: PipeFormat) -> None:
    """Write the stream's first line, if it has one."""
    _write_all(stream, form.header)


def _read_planes(stream: BinaryIO, form: PipeFormat, number: int) -> Planes | None:
    """The planes of a frame; None at the end of a raw stream."""
    kind, shapes = _stored(form)
    size = kind.itemsize * sum(math.prod(shape) for shape in shapes)
    data = _read_exactly(stream, size)
    if not data and form.packed:
        return None
    if len(data) < size:
        raise InputFileError(
            f"the stream ends within frame {number + 1}: {len(data)} of {size} bytes; what came before it was restored"
        )
    arrays = _arrays(data, kind, shapes)
    planes = tuple(arrays)
    if form.packed is not None:
        planes = _unpacked(arrays[0], RAW[form.packed][1])
    return tuple(_checked(plane, form.layout, number) for plane in planes)


def _stored(form: PipeFormat) -> tuple[np.dtype[Any], Sequence[tuple[int, ...]]]:
    """(type, shapes) of the arrays that a frame is stored as."""
    if form.packed is not None:
        return np.dtype(RAW[form.packed][0]), [(form.height, form.width, 3)]
    return form.layout.dtype.newbyteorder("<"), form.layout.shapes(form.height, form.width)


def _arrays(data: bytes, kind: np.dtype[Any], shapes: Sequence[tuple[int, ...]]) -> list[Plane]:
    """Arrays that follow each other in some bytes."""
    arrays: list[Plane] = []
    start = 0
    for shape in shapes:
        array = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
        arrays.append(array)
        start += array.nbytes
    return arrays


def _unpacked(pixels: Plane, order: str) -> Planes:
    """(H, W, 3) -> R, G, B."""
    return tuple(pixels[:, :, order.index(c)] for c in "rgb")


def _checked(plane: Plane, layout: Layout, number: int) -> Plane:
    """A plane whose values are within the depth that the stream declares."""
    if layout.bits not in (8, 16) and plane.max() > layout.white:
        raise InputFileError(
            f"frame {number + 1} has values above {layout.white}, which {layout.bits} bits cannot hold"
        )
    return np.ascontiguousarray(plane, dtype=layout.dtype)


def _read_line(stream: BinaryIO, may_end: bool = False) -> bytes:
    """Up to and with the next newline; empty at the end of the stream."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = stream.read(1)
        if not byte:
            if may_end and not line:
                return b""
            raise InputFileError("the stream ends within a y4m header" if line else "the input is empty")
        line += byte
        if len(line) > MAX_LINE:
            raise InputFileError(f"a line of the y4m stream is longer than {MAX_LINE} bytes")
        if not MAGIC.startswith(line[:9]) and not FRAME.startswith(line[:5]):
            return bytes(line)  # the caller says what it is not
    return bytes(line)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, or fewer where the stream ends."""
    parts, missing = [], size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """All bytes, to an unbuffered stream that may take a part at a time."""
    view = memoryview(data)
    while view:
        written = stream.write(view)
        view = view[written:]
