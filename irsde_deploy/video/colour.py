"""Frames of video to RGB and back: Y'CbCr of any matrix, range, subsampling and depth, grey, and planar RGB.

With the weights Kr, Kb of a matrix (ITU-R BT.601, BT.709, BT.2020 non-constant luminance), Kg = 1 - Kr - Kb:

    Y' = Kr R + Kg G + Kb B,   Cb = (B - Y') / (2 - 2 Kb),   Cr = (R - Y') / (2 - 2 Kr)

stored as code values of b bits, limited range Y = 2^(b-8) (219 Y' + 16), C = 2^(b-8) (224 C + 128), full range
Y = (2^b - 1) Y', C = (2^b - 1) C + 2^(b-1). RGB is float32 and is not clipped: values beyond [0, 1], which video
has room for, survive. So 4:4:4 makes the way to RGB and back without the loss of a bit.

Subsampled chroma is interpolated linearly, where its siting puts it. On the way back, what the restored picture changed
in it is averaged down and added to what was there: colours that restoring leaves alone are left alone to the bit.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..core.arrays import Float32
from ..core.pixels import FLOAT_LIMIT
from ..errors import InvalidValueError

Plane: TypeAlias = npt.NDArray[Any]
Planes: TypeAlias = "tuple[Plane, ...]"
"""Y, Cb, Cr; or R, G, B; or one of grey: (H, W) uint8, or uint16 for more than 8 bits."""

WEIGHTS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
"""Kr, Kb."""

SUBSAMPLINGS = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
"""log2 of luma samples a chroma sample, across and down."""

_SURELY_WITHIN = FLOAT_LIMIT - 0.01  # what is within is not clipped, whatever the rounding

_YUV = re.compile(r"yuvj?(4\d\d)p(\d*)(?:le)?")
_RGB = re.compile(r"gbrp(\d*)(?:le)?")
_GREY = re.compile(r"gray(\d*)(?:le)?")


@dataclass(frozen=True)
class Layout:
    """How frames lie in memory: planes of unsigned integers.

    Attributes:
        kind: `yuv`, `rgb` or `grey`.
        bits: of a value, 8..16.
        across, down: log2 of the chroma's subsampling.
    """

    kind: str
    bits: int = 8
    across: int = 0
    down: int = 0

    @classmethod
    def of(cls, name: str) -> Layout | None:
        """The layout of one of FFmpeg's planar pixel formats without alpha; None for any other."""
        layout = None
        if match := _YUV.fullmatch(name):
            if match[1] in SUBSAMPLINGS:
                layout = cls("yuv", int(match[2] or 8), *SUBSAMPLINGS[match[1]])
        elif match := _RGB.fullmatch(name):
            layout = cls("rgb", int(match[1] or 8))
        elif match := _GREY.fullmatch(name):
            layout = cls("grey", int(match[1] or 8))
        # FFmpeg has gray32le, for one, which is none of ours.
        if layout is None or not 8 <= layout.bits <= 16:
            return None
        return layout

    @property
    def name(self) -> str:
        """FFmpeg's name of this pixel format."""
        depth = "" if self.bits == 8 else f"{self.bits}le"
        if self.kind != "yuv":
            return {"rgb": "gbrp", "grey": "gray"}[self.kind] + depth
        subsampling = next(key for key, value in SUBSAMPLINGS.items() if value == (self.across, self.down))
        return f"yuv{subsampling}p{depth}"

    @property
    def white(self) -> int:
        """The largest code value."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the planes' values."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(H, W) of each plane."""
        if self.kind == "grey":
            return [(height, width)]
        # Sides that the subsampling does not divide are rounded up: the last sample is then that of fewer pixels.
        chroma = (-(-height >> self.down), -(-width >> self.across))
        return [(height, width), chroma, chroma]


@dataclass(frozen=True)
class Colour:
    """What code values mean.

    Attributes:
        matrix: one of `WEIGHTS`.
        full: whether the range is full.
        cosited: whether chroma samples lie on luma samples, across and down, rather than between two.
    """

    matrix: str = "bt709"
    full: bool = False
    cosited: tuple[bool, bool] = (True, False)


def guessed_matrix(height: int, width: int) -> str:
    """The matrix of video that does not say, as players take it: BT.709 for high definition, else BT.601."""
    return "bt709" if width >= 1280 or height > 576 else "bt601"


def to_rgb(planes: Planes, layout: Layout, colour: Colour) -> Float32:
    """Planes -> RGB (H, W, 3) float32, white at 1, not clipped but for what no screen shows (beyond +-2)."""
    rgb = _unclipped(planes, layout, colour)
    # Codes that mean no colour lie further out, and a restorer would take the picture for one of another scale.
    return np.clip(rgb, -FLOAT_LIMIT, FLOAT_LIMIT, out=rgb)


def clipped_off(planes: Planes, layout: Layout, colour: Colour) -> Float32 | None:
    """What `to_rgb` takes away, (H, W, 3); None where that is nothing.

    Added to what is restored, it brings those code values back to the bit that restoring leaves alone.
    """
    if not _may_exceed(planes, layout, colour):
        return None
    rgb = _unclipped(planes, layout, colour)
    beyond: Float32 = rgb - np.clip(rgb, -FLOAT_LIMIT, FLOAT_LIMIT)
    return beyond if beyond.any() else None


def _may_exceed(planes: Planes, layout: Layout, colour: Colour) -> bool:
    """Whether the extremes of the planes, should they meet in a pixel, are a colour that `to_rgb` clips."""
    if layout.kind != "yuv":
        return False  # of which no code is so far out
    matrix, offset = _to_rgb_matrix(layout, colour)
    corners = np.array(list(itertools.product(*((int(plane.min()), int(plane.max())) for plane in planes))))
    return bool(np.abs(corners @ matrix.T + offset).max() > _SURELY_WITHIN)


def _unclipped(planes: Planes, layout: Layout, colour: Colour) -> Float32:
    """Planes -> RGB (H, W, 3) as they are coded."""
    if layout.kind == "rgb":
        rgb = _merged(planes)
        rgb /= np.float32(layout.white)
        return rgb
    if layout.kind == "grey":
        grey = _grey_values(planes[0].astype(np.float32), layout, colour)
        return np.repeat(grey[:, :, None], 3, axis=2)
    chroma = [upsampled(plane, layout, colour, planes[0].shape) for plane in planes[1:]]
    return _transformed(_merged((planes[0], *chroma)), *_to_rgb_matrix(layout, colour))


def to_planes(rgb: Float32, layout: Layout, colour: Colour, source: Planes | None = None) -> Planes:
    """RGB (H, W, 3) -> planes, rounded and saturated.

    Args:
        rgb: white at 1.
        layout, colour: of the result.
        source: planes, of this layout and colour, that the picture was restored from: subsampled chroma is theirs plus
            what has changed.
    """
    if layout.kind == "rgb":
        return tuple(_codes(rgb[:, :, c] * np.float32(layout.white), layout) for c in range(3))
    values = _transformed(np.ascontiguousarray(rgb), *_from_rgb_matrix(layout, colour))
    luma = _codes(values[:, :, 0], layout)
    if layout.kind == "grey":
        return (luma,)
    chroma = []
    for c in (1, 2):
        plane = values[:, :, c]
        if layout.across or layout.down:
            plane = _subsampled(plane, layout, colour, None if source is None else source[c])
        chroma.append(_codes(plane, layout))
    return (luma, *chroma)


def _subsampled(values: Float32, layout: Layout, colour: Colour, before: Plane | None) -> Float32:
    """A chroma plane of the full size, brought down; relative to the plane that was there before."""
    if before is None:
        return downsampled(values, layout, colour)
    # Up and down again is not the identity; so what did not change is left out of it.
    change = values - upsampled(before, layout, colour, values.shape)
    return before + downsampled(change, layout, colour)


def upsampled(plane: Plane, layout: Layout, colour: Colour, shape: tuple[int, ...]) -> Float32:
    """A subsampled plane at the luma's shape (H, W), float32."""
    values = plane.astype(np.float32)
    for axis, times in enumerate((layout.down, layout.across)):
        for k in reversed(range(times)):  # twice for 4:1:1 and 4:1:0
            side = -(-shape[axis] >> k)
            values = np.moveaxis(_doubled(np.moveaxis(values, axis, 1), side, colour.cosited[1 - axis]), 1, axis)
    return values


def downsampled(values: Float32, layout: Layout, colour: Colour) -> Float32:
    """A plane of the luma's shape at the chroma's."""
    for axis, times in enumerate((layout.down, layout.across)):
        for _ in range(times):
            values = np.moveaxis(_halved(np.moveaxis(values, axis, 1), colour.cosited[1 - axis]), 1, axis)
    return values


def _doubled(values: Float32, width: int, cosited: bool) -> Float32:
    """(H, W/2) -> (H, W): sample i at 2i where cosited, else at 2i + 1/2."""
    out = np.empty((len(values), width), dtype=np.float32)
    half = width // 2
    # Beyond the edges the outermost samples are repeated.
    left = np.concatenate([values[:, :1], values[:, :-1]], axis=1)
    right = np.concatenate([values[:, 1:], values[:, -1:]], axis=1)
    if cosited:
        out[:, ::2] = values
        out[:, 1::2] = (values[:, :half] + right[:, :half]) / 2
    else:
        out[:, ::2] = (left + 3 * values) / 4
        out[:, 1::2] = (3 * values[:, :half] + right[:, :half]) / 4
    return out


def _halved(values: Float32, cosited: bool) -> Float32:
    """(H, W) -> (H, W/2), averaged around where `_doubled` takes the samples to be."""
    even, odd = values[:, ::2], values[:, 1::2]
    if values.shape[1] % 2:
        odd = np.concatenate([odd, values[:, -1:]], axis=1)
    if not cosited:
        return np.asarray((even + odd) / 2, dtype=np.float32)
    before = np.concatenate([values[:, :1], odd[:, :-1]], axis=1)
    return np.asarray((before + 2 * even + odd) / 4, dtype=np.float32)


def _codes(values: Float32, layout: Layout) -> Plane:
    """Values in units of the code, rounded and saturated."""
    return np.clip(np.rint(values), 0, layout.white).astype(layout.dtype)


def _merged(planes: Planes) -> Float32:
    """Three planes of one size as (H, W, 3)."""
    merged: Float32 = np.empty((*planes[0].shape, 3), dtype=np.float32)
    for c, plane in enumerate(planes):
        merged[:, :, c] = plane
    return merged


def _transformed(pixels: Float32, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Float32:
    """Matrix times each pixel, plus the offset."""
    return np.asarray(cv2.transform(pixels, np.column_stack([matrix, offset])), dtype=np.float32)


def _scales(layout: Layout, colour: Colour) -> tuple[float, float, float, float]:
    """(scale, offset) of luma, then of chroma: code = scale * value + offset."""
    if colour.full:
        return layout.white, 0, layout.white, 1 << (layout.bits - 1)
    unit = 1 << (layout.bits - 8)
    return 219 * unit, 16 * unit, 224 * unit, 128 * unit


def _grey_values(codes: Float32, layout: Layout, colour: Colour) -> Float32:
    """Luma codes -> values, white at 1."""
    scale, offset, _, _ = _scales(layout, colour)
    return np.asarray((codes - np.float32(offset)) / np.float32(scale), dtype=np.float32)


def _from_rgb_matrix(layout: Layout, colour: Colour) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(3, 3) and (3,): RGB -> code values Y, Cb, Cr."""
    if colour.matrix not in WEIGHTS:
        raise InvalidValueError(f"the colour matrix must be one of {', '.join(WEIGHTS)}, not {colour.matrix}")
    kr, kb = WEIGHTS[colour.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    cb = (np.array([0, 0, 1]) - luma) / (2 - 2 * kb)
    cr = (np.array([1, 0, 0]) - luma) / (2 - 2 * kr)
    luma_scale, luma_offset, chroma_scale, chroma_offset = _scales(layout, colour)
    matrix = np.stack([luma * luma_scale, cb * chroma_scale, cr * chroma_scale]).astype(np.float64)
    return matrix, np.array([luma_offset, chroma_offset, chroma_offset], dtype=np.float64)


def _to_rgb_matrix(layout: Layout, colour: Colour) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The inverse of `_from_rgb_matrix`."""
    matrix, offset = _from_rgb_matrix(layout, colour)
    inverse = np.linalg.inv(matrix).astype(np.float64)
    return inverse, -inverse @ offset
