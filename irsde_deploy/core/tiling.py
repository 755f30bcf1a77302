"""Tiles: overlapping windows of a picture that are evaluated one by one and blended at every reverse step.

A step is linear in the network's output, y' = a y + c eps + d q_prev + s z, and so is blending: weights that sum to one
give the same y' whether the tiles' steps are blended or their eps. So the whole picture has one state and one noise
field, and only eps comes in tiles; a loop knows nothing of them, and no seam can form from one step to the next.

Tiles cover what the network would see of the whole picture, padding included, and start at multiples of the network's
own grid, so that tile and picture are sampled alike. What tiling changes is what global operators (attention over all
positions, channel attention) see, and a network's view beyond a tile's border, which the weights fade out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError

Tile: TypeAlias = int | str | None
"""Side of the tiles in pixels; `auto`: whole where that fits, else the largest tiles that do; None: whole."""

DEFAULT_SIDE, DEFAULT_OVERLAP = 512, 64
MAX_SIDE = 2**16
SIDES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
"""Sides that are tried where memory decides, the largest first: more context, less overlap."""


@dataclass(frozen=True)
class Tiling:
    """Square tiles and how far neighbours overlap, in pixels.

    Attributes:
        side: of a tile. overlap: of neighbours, at least; at most half a side. A network's own multiple rounds both up
            (`on_grid`).

    Raises:
        InvalidValueError: a side or overlap out of range.
    """

    side: int = DEFAULT_SIDE
    overlap: int = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        if not isinstance(self.side, Integral) or not 1 <= self.side <= MAX_SIDE:
            raise InvalidValueError(f"a tile's side must be a whole number from 1 to {MAX_SIDE}, not {self.side!r}")
        if not isinstance(self.overlap, Integral) or not 0 <= 2 * self.overlap <= self.side:
            raise InvalidValueError(
                f"tiles of side {self.side} can overlap by 0 to {self.side // 2} pixels, not {self.overlap!r}"
            )

    @classmethod
    def of(cls, side: int, overlap: int | None = None) -> Tiling:
        """Tiles with an overlap, by default `DEFAULT_OVERLAP` or half a side where that is less."""
        half = side // 2 if isinstance(side, Integral) else DEFAULT_OVERLAP
        return cls(side, min(DEFAULT_OVERLAP, half) if overlap is None else overlap)

    def on_grid(self, multiple: int) -> Tiling:
        """The same for a network that takes multiples: both rounded up, and the side to two overlaps at least."""
        side, overlap = (value + -value % multiple for value in (self.side, self.overlap))
        return Tiling(max(side, 2 * overlap), overlap)

    def over(self, height: int, width: int, multiple: int) -> Tiles:
        """The tiles of what the network sees of a picture: sides that are multiples already."""
        tiling = self.on_grid(multiple)
        return Tiles(*(_axis(length, tiling.side, tiling.overlap, multiple) for length in (height, width)))

    def __str__(self) -> str:
        return f"tiles of {self.side} with an overlap of {self.overlap}"


@dataclass(frozen=True)
class Axis:
    """Tiles along one side.

    Attributes:
        side: of each tile.
        starts: first pixel of each tile, ascending.
        weights: (n, side) float32; those of a pixel, over all tiles that hold it, sum to one.
    """

    side: int
    starts: tuple[int, ...]
    weights: npt.NDArray[np.float32]

    @property
    def seams(self) -> tuple[float, ...]:
        """The middle of each two neighbours' overlap, in pixels."""
        return tuple((after + before + self.side) / 2 for before, after in pairwise(self.starts))


@dataclass(frozen=True)
class Tiles:
    """A grid of tiles, all of one size (rows.side, columns.side)."""

    rows: Axis
    columns: Axis

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(row, column) number of every tile."""
        return ((i, j) for i in range(len(self.rows.starts)) for j in range(len(self.columns.starts)))

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every tile."""
        return self.rows.side, self.columns.side

    def window(self, tile: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        y, x = self.rows.starts[tile[0]], self.columns.starts[tile[1]]
        return slice(y, y + self.rows.side), slice(x, x + self.columns.side)

    def weights(self, tile: tuple[int, int]) -> npt.NDArray[np.float32]:
        """(height, width) of a tile."""
        weights: npt.NDArray[np.float32] = self.rows.weights[tile[0]][:, None] * self.columns.weights[tile[1]]
        return weights


def _axis(length: int, side: int, overlap: int, multiple: int) -> Axis:
    """The fewest tiles along a side that overlap enough, evenly spread on the network's grid."""
    if length <= side:
        return Axis(length, (0,), np.ones((1, length), np.float32))
    count = math.ceil((length - overlap) / (side - overlap))
    starts = [i * (length - side) // (count - 1) // multiple * multiple for i in range(count)]
    return Axis(side, tuple(starts), _weights(starts, side, overlap, length))


def _weights(starts: list[int], side: int, overlap: int, length: int) -> npt.NDArray[np.float32]:
    """(n, side): from the borders that a tile shares, weights rise as sin^2 over the overlap; they sum to one."""
    ramp = np.ones(side)
    ramp[:overlap] = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    weights = np.ones((len(starts), side))
    weights[1:] *= ramp
    weights[:-1] *= ramp[::-1]
    total = np.zeros(length)
    for start, own in zip(starts, weights, strict=True):
        total[start : start + side] += own
    for start, own in zip(starts, weights, strict=True):
        own /= total[start : start + side]
    return weights.astype(np.float32)
