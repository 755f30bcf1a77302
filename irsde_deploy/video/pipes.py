"""Uncompressed video on pipes: YUV4MPEG2 (y4m) and raw RGB, read and written frame by frame.

A y4m stream is one line, `YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg`, then for each frame a line that begins with
`FRAME` and the planes. The output gets the header and the frame lines of the input, letter for letter.
Format: man page yuv4mpeg(5) of mjpegtools, and FFmpeg's extensions for more than 8 bits and for XCOLORRANGE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from ..core.arrays import Float32
from ..errors import InputFileError, InvalidValueError
from ..pictures.files import MAX_PIXELS
from .colour import Colour, Layout, Plane, Planes, guessed_matrix, to_planes, to_rgb

MAGIC = b"YUV4MPEG2"
FRAME = b"FRAME"
MAX_LINE = 1024
"""Bytes of a header or a frame's line."""

_SITINGS = {"420": (False, False), "420jpeg": (False, False), "420mpeg2": (True, False), "420paldv": (True, True)}
"""Whether chroma samples lie on luma samples, across and down, by the 8-bit colour space."""
_NAMES = {"mono": "gray", "420jpeg": "yuv420p", "420mpeg2": "yuv420p", "420paldv": "yuv420p"}
_DEEP = re.compile(r"(420|422|444|mono)p?(9|10|12|14|16)")
_PLAIN = ("420", "422", "444", "411")

RAW = {"rgb24": ("u1", "rgb"), "bgr24": ("u1", "bgr"), "rgb48le": ("<u2", "rgb"), "bgr48le": ("<u2", "bgr")}
"""Raw pixel formats: NumPy type, order of the channels."""


@dataclass(frozen=True)
class PipeFrame:
    """One frame, as it came.

    Attributes:
        number: counted from 0.
        planes: see `colour.Planes`.
        line: what stood before it.
    """

    number: int
    planes: Planes
    line: bytes = b""


@dataclass(frozen=True)
class PipeFormat:
    """What the frames of a stream are.

    Attributes:
        height, width: of a frame.
        layout, colour: of its planes.
        header: the stream's first line; empty for raw video.
        rate: frames a second; 0 where the stream does not say.
        interlaced: whether the stream says so.
        packed: raw pixel format, one of `RAW`; None for planes.
    """

    height: int
    width: int
    layout: Layout
    colour: Colour
    header: bytes = b""
    rate: float = 0
    interlaced: bool = False
    packed: str | None = None

    def to_rgb(self, frame: PipeFrame) -> Float32:
        """A frame -> (H, W, 3) float32."""
        return to_rgb(frame.planes, self.layout, self.colour)

    def restored(self, frame: PipeFrame, rgb: Float32) -> PipeFrame:
        """The frame with other colours."""
        return PipeFrame(frame.number, to_planes(rgb, self.layout, self.colour, frame.planes), frame.line)


def raw_format(size: str, pixel_format: str) -> PipeFormat:
    """The format of raw RGB video: size as `WIDTHxHEIGHT`, pixel format one of `RAW`."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    if match is None:
        raise InvalidValueError(f"--size must be WIDTHxHEIGHT, such as 1920x1080, not {size!r}")
    if pixel_format not in RAW:
        raise InvalidValueError(
            f"raw video on a pipe is one of {', '.join(RAW)}, not {pixel_format}: use y4m for others"
        )
    width, height = int(match[1]), int(match[2])
    _check_size(height, width, "--size")
    bits = 8 * np.dtype(RAW[pixel_format][0]).itemsize
    return PipeFormat(height, width, Layout("rgb", bits), Colour(), packed=pixel_format)


def read_format(stream: BinaryIO, matrix: str | None = None) -> PipeFormat:
    """Read the header of a y4m stream.

    Args:
        stream: at its beginning.
        matrix: one of `colour.WEIGHTS`, since y4m does not say; guessed by the size by default.

    Raises:
        InputFileError: no y4m, or one with a colour space, size or header that cannot be used.
    """
    line = _read_line(stream)
    words = line.decode("latin-1").rstrip("\n").split(" ")
    if words[0].encode("latin-1") != MAGIC:
        raise InputFileError(
            "the input is not y4m (ffmpeg ... -f yuv4mpegpipe -); for raw RGB give --size and --pix-fmt"
        )
    given = [word for word in words[1:] if word and word[0] != "X"]
    tags = {word[0]: word[1:] for word in given}
    if len(tags) < len(given):
        twice = next(word[0] for k, word in enumerate(given) if word[0] in {other[0] for other in given[:k]})
        raise InputFileError(f"the y4m header gives {twice} more than once, and once was expected")
    extensions = {word[1:] for word in words[1:] if word[:1] == "X"}
    height, width = _number(tags, "H"), _number(tags, "W")
    _check_size(height, width, "the y4m header")
    space = tags.get("C", "420jpeg")
    layout = _layout(space)
    full = "COLORRANGE=FULL" in extensions or (layout.kind == "grey" and "COLORRANGE=LIMITED" not in extensions)
    colour = Colour(matrix or guessed_matrix(height, width), full, _SITINGS.get(space, (True, False)))
    interlaced = tags.get("I", "?") in ("t", "b", "m")
    return PipeFormat(height, width, layout, colour, line, _rate(tags.get("F", "0:0")), interlaced)


def read_frames(stream: BinaryIO, form: PipeFormat) -> Iterator[PipeFrame]:
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
    kind = np.dtype(RAW[form.packed][0]) if form.packed else form.layout.dtype.newbyteorder("<")
    shapes = [(form.height, form.width, 3)] if form.packed else form.layout.shapes(form.height, form.width)
    sizes = [int(np.prod(shape)) * kind.itemsize for shape in shapes]
    data = _read_exactly(stream, sum(sizes))
    if not data and form.packed:
        return None
    if len(data) < sum(sizes):
        raise InputFileError(
            f"the stream ends within frame {number + 1}: {len(data)} of {sum(sizes)} bytes; "
            "what came before it was restored"
        )
    arrays: list[Plane] = []
    for shape in shapes:
        arrays.append(np.frombuffer(data, kind, int(np.prod(shape)), sum(a.nbytes for a in arrays)).reshape(shape))
    planes = _unpacked(arrays[0], RAW[form.packed][1]) if form.packed else tuple(arrays)
    return tuple(_checked(plane, form.layout, number) for plane in planes)


def _unpacked(pixels: Plane, order: str) -> Planes:
    """(H, W, 3) -> R, G, B."""
    return tuple(pixels[:, :, order.index(c)] for c in "rgb")


def _checked(plane: Plane, layout: Layout, number: int) -> Plane:
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
            raise InputFileError("the input is empty" if not line else "the stream ends within a y4m header")
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


def _number(tags: dict[str, str], name: str) -> int:
    text = tags.get(name, "")
    if not re.fullmatch(r"\d{1,6}", text) or int(text) == 0:
        raise InputFileError(f"the y4m header must give {name} as a number from 1 to 999999, not {text!r}")
    return int(text)


def _check_size(height: int, width: int, where: str) -> None:
    if height < 1 or width < 1:
        raise InvalidValueError(f"{where}: frames must have at least one pixel, not {width}x{height}")
    if height * width > MAX_PIXELS:
        raise InputFileError(
            f"{where}: {width}x{height} pixels are more than the limit of {MAX_PIXELS / 1e6:g} megapixels"
        )


def _rate(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise InputFileError(f"the y4m header must give F as a fraction such as 25:1, not {text!r}")
    return int(match[1]) / int(match[2]) if int(match[2]) else 0


def _layout(space: str) -> Layout:
    """The layout of a y4m colour space."""
    deep = _DEEP.fullmatch(space)
    if deep is not None:
        name = f"gray{deep[2]}le" if deep[1] == "mono" else f"yuv{deep[1]}p{deep[2]}le"
    else:
        name = _NAMES.get(space, f"yuv{space}p" if space in _PLAIN else "")
    layout = Layout.of(name)
    if layout is None:
        raise InputFileError(
            f"the y4m colour space C{space} is not one of C420 (jpeg, mpeg2, paldv), C422, C444, C411, Cmono, "
            "C420p10 to C444p16: convert it first (ffmpeg -pix_fmt yuv420p)"
        )
    return layout
