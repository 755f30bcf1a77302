"""What frames on a pipe are: YUV4MPEG2 (y4m), by the stream's first line, or raw RGB, as the user says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.arrays import Float32
from ..errors import InputFileError, InvalidValueError
from ..pictures.files import MAX_PIXELS
from ..system.parsing import shortened, shown
from .colour import Colour, Layout, Planes, clipped_off, guessed_matrix, to_planes, to_rgb

MAGIC = b"YUV4MPEG2"

_SITINGS = {"420": (False, False), "420jpeg": (False, False), "420mpeg2": (True, False), "420paldv": (True, True)}
"""Whether chroma samples lie on luma samples, across and down, by the 8-bit colour space."""
_NAMES = {
    "mono": "gray",
    "411": "yuv411p",
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "422": "yuv422p",
    "444": "yuv444p",
}
"""FFmpeg's name of the pixel format, by the 8-bit colour space."""
_DEEP = re.compile(r"(420|422|444|mono)p?(9|10|12|14|16)")
_USUAL_SPACE = "420jpeg"

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
        beyond = clipped_off(frame.planes, self.layout, self.colour)
        if beyond is not None:
            rgb = rgb + beyond
        return PipeFrame(frame.number, to_planes(rgb, self.layout, self.colour, frame.planes), frame.line)


def raw_format(size: str, pixel_format: str) -> PipeFormat:
    """The format of raw RGB video: size as `WIDTHxHEIGHT`, pixel format one of `RAW`."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    if match is None:
        raise InvalidValueError(f"`size` must be WIDTHxHEIGHT, such as 1920x1080, not {shown(size)}")
    if pixel_format not in RAW:
        raise InvalidValueError(
            f"raw video on a pipe is one of {', '.join(RAW)}, not {pixel_format}: use y4m for others"
        )
    width, height = int(match[1]), int(match[2])
    _check_size(height, width, "`size`")
    bits = 8 * np.dtype(RAW[pixel_format][0]).itemsize
    return PipeFormat(height, width, Layout("rgb", bits), Colour(), packed=pixel_format)


def header_format(line: bytes, matrix: str | None = None) -> PipeFormat:
    """The format that the first line of a y4m stream describes.

    Args:
        line: with its newline.
        matrix: one of `colour.WEIGHTS`, since y4m does not say; guessed by the size by default.

    Raises:
        InputFileError: no y4m, or one with a colour space, size or header that cannot be used.
    """
    words = line.decode("latin-1").rstrip("\n").split(" ")
    if words[0].encode("latin-1") != MAGIC:
        raise InputFileError(
            "the input is not y4m (ffmpeg ... -f yuv4mpegpipe -); for raw RGB give `size` and `pix_fmt`"
        )
    tags, extensions = _parameters(words[1:])
    height, width = _number(tags, "H"), _number(tags, "W")
    _check_size(height, width, "the y4m header")
    space = tags.get("C", _USUAL_SPACE)
    layout = _layout(space)
    full = "COLORRANGE=FULL" in extensions
    if layout.kind == "grey" and "COLORRANGE=LIMITED" not in extensions:
        full = True
    colour = Colour(matrix or guessed_matrix(height, width), full, _SITINGS.get(space, (True, False)))
    interlaced = tags.get("I", "?") in ("t", "b", "m")
    return PipeFormat(height, width, layout, colour, line, _rate(tags.get("F", "0:0")), interlaced)


def _parameters(words: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """(values of a header's parameters by their letters, its extensions)."""
    tags: dict[str, str] = {}
    extensions: set[str] = set()
    for word in words:
        letter, value = word[:1], word[1:]
        if letter == "X":
            extensions.add(value)
        elif letter in tags:
            raise InputFileError(f"the y4m header gives {letter} more than once, and once was expected")
        elif letter:
            tags[letter] = value
    return tags, extensions


def _number(tags: dict[str, str], name: str) -> int:
    """A side of the frames, by its letter."""
    text = tags.get(name, "")
    if not re.fullmatch(r"\d{1,6}", text) or int(text) == 0:
        raise InputFileError(f"the y4m header must give {name} as a number from 1 to 999999, not {shown(text)}")
    return int(text)


def _check_size(height: int, width: int, where: str) -> None:
    """Raise where frames have no pixels, or more than pictures may have."""
    if height < 1 or width < 1:
        raise InvalidValueError(f"{where}: frames must have at least one pixel, not {width}x{height}")
    if height * width > MAX_PIXELS:
        raise InputFileError(
            f"{where}: {width}x{height} pixels are more than the limit of {MAX_PIXELS / 1e6:g} megapixels"
        )


def _rate(text: str) -> float:
    """Frames a second; 0 where the stream does not say."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise InputFileError(f"the y4m header must give F as a fraction such as 25:1, not {shown(text)}")
    frames, seconds = int(match[1]), int(match[2])
    return frames / seconds if seconds else 0


def _layout(space: str) -> Layout:
    """The layout of a y4m colour space."""
    layout = Layout.of(_ffmpegs_name(space))
    if layout is None:
        raise InputFileError(
            f"the y4m colour space C{shortened(space)} is not one of C420 (jpeg, mpeg2, paldv), C422, C444, C411, "
            "Cmono, C420p10 to C444p16: convert it first (ffmpeg -pix_fmt yuv420p)"
        )
    return layout


def _ffmpegs_name(space: str) -> str:
    """FFmpeg's name of a y4m colour space's pixel format; empty where it is none."""
    deep = _DEEP.fullmatch(space)
    if deep is not None:
        kind, bits = deep.groups()
        return f"gray{bits}le" if kind == "mono" else f"yuv{kind}p{bits}le"
    return _NAMES.get(space, "")
