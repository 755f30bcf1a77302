"""The margin: pixels of reflection around a picture, which are restored with it and cut off at the end.

A loop knows nothing of it. What it restores is the surrounded picture: its state, its noise (addresses count from the
margin's corner), its tiles and its memory are those of a picture of (height + 2 margin) x (width + 2 margin). How wide
the margin is says the model card; why a network may want one: docs/mathematics.md.

A line outside the picture is the one that it is mirrored to, without repeating the edge; where the margin is wider than
the picture, the reflection is reflected again. The same in `surround` here, in the kernels (`device/kernels`), which
the C library has too, and in the graph of a whole loop (`graphs/whole_loop.py`).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)

MAX_MARGIN = 256
"""Pixels; several times what the networks here see beyond a pixel."""


def surrounded(height: int, width: int, margin: int) -> tuple[int, int]:
    """Height and width with the margin on both sides."""
    return height + 2 * margin, width + 2 * margin


def evaluated(height: int, width: int, margin: int, multiple_of: int) -> tuple[int, int]:
    """Height and width of what the network sees of a picture: with its margin, and padded to the multiple."""
    height, width = surrounded(height, width, margin)
    return height + -height % multiple_of, width + -width % multiple_of


def mirrored(side: int, margin: int) -> npt.NDArray[np.int64]:
    """The line of the picture that each line of the surrounded one is, (side + 2 margin,)."""
    period = max(2 * (side - 1), 1)  # a picture of one line is that line everywhere
    place = np.arange(-margin, side + margin) % period
    mirror: npt.NDArray[np.int64] = np.minimum(place, period - place)
    return mirror


def surround(pictures: npt.NDArray[Scalar], margin: int) -> npt.NDArray[Scalar]:
    """Pictures (..., H, W) with the margin around them, a new array; the same array where the margin is 0."""
    if not margin:
        return pictures
    height, width = pictures.shape[-2:]
    rows, columns = mirrored(height, margin), mirrored(width, margin)
    return np.ascontiguousarray(pictures[..., rows[:, None], columns])


def inside(pictures: npt.NDArray[Scalar], margin: int) -> npt.NDArray[Scalar]:
    """Surrounded pictures (..., H + 2 margin, W + 2 margin) without the margin; the inverse of `surround`."""
    if not margin:
        return pictures
    return np.ascontiguousarray(pictures[..., margin:-margin, margin:-margin])
