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
from itertools import pairwise, product
from numbers import Integral
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError
from ..system.parsing import shown

Tile: TypeAlias = int | str | None
"""What users say of tiles: their side in pixels; `auto`: the picture whole where that fits, else the largest tiles that
do; None: the picture whole."""

DEFAULT_SIDE, DEFAULT_OVERLAP = 512, 64
MAX_SIDE = 2**16
SIDES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
"""The sides that are tried where memory decides, the largest first: they see the most context and overlap the least."""


def require_tile(tile: Tile) -> None:
    """Raise InvalidValueError unless this is a side (which `Tiling` checks), `auto` or None; True is none of them."""
    if tile is None or (isinstance(tile, str) and tile == "auto"):
        return
    if not isinstance(tile, int) or isinstance(tile, bool):
        raise InvalidValueError(f"tile must be a side in pixels, 'auto' or None, not {shown(tile)}")


@dataclass(frozen=True)
class Tiling:
    """Square tiles and how far neighbours overlap, in pixels.

    A network's own multiple rounds both up (`on_grid`).

    Attributes:
        side: of a tile, from 1 to `MAX_SIDE`.
        overlap: of neighbours, at least; it may be half a side at most.

    Raises:
        InvalidValueError: a side or overlap out of range.
    """

    side: int = DEFAULT_SIDE
    overlap: int = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        if not isinstance(self.side, Integral) or not 1 <= self.side <= MAX_SIDE:
            raise InvalidValueError(
                f"a tile's side must be a whole number from 1 to {MAX_SIDE}, not {shown(self.side)}"
            )
        if not isinstance(self.overlap, Integral) or not 0 <= 2 * self.overlap <= self.side:
            raise InvalidValueError(
                f"tiles of side {self.side} can overlap by 0 to {self.side // 2} pixels, not {shown(self.overlap)}"
            )

    @classmethod
    def of(cls, side: int, overlap: int | None = None) -> Tiling:
        """Tiles with an overlap, by default `DEFAULT_OVERLAP` or half a side where that is less."""
        if overlap is None:
            overlap = DEFAULT_OVERLAP
            if isinstance(side, Integral):  # of anything else the constructor says what is wrong
                overlap = min(overlap, side // 2)
        return cls(side, overlap)

    def on_grid(self, multiple: int) -> Tiling:
        """The same tiles for a network that takes multiples: both are rounded up, the side to two overlaps at least."""
        side = self.side + -self.side % multiple
        overlap = self.overlap + -self.overlap % multiple
        return Tiling(max(side, 2 * overlap), overlap)

    def over(self, height: int, width: int, multiple: int) -> Tiles:
        """The tiles of a padded picture, whose height and width are multiples already."""
        tiling = self.on_grid(multiple)
        rows = _axis(height, tiling.side, tiling.overlap, multiple)
        columns = _axis(width, tiling.side, tiling.overlap, multiple)
        return Tiles(rows, columns)

    def __str__(self) -> str:
        return f"tiles of {self.side} with an overlap of {self.overlap}"


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of a picture.

    Attributes:
        side: of each tile.
        starts: the first pixel of each tile, ascending.
        weights: of each tile's pixels, (n, side) float32; those of a pixel, over all tiles that hold it, sum to one.
    """

    side: int
    starts: tuple[int, ...]
    weights: npt.NDArray[np.float32]

    @property
    def seams(self) -> tuple[float, ...]:
        """The middle of each two neighbours' overlap, in pixels."""
        # An overlap reaches from the start of the tile after to the end of the tile before.
        return tuple((after + before + self.side) / 2 for before, after in pairwise(self.starts))


@dataclass(frozen=True)
class Tiles:
    """A grid of tiles, all of one size (rows.side, columns.side)."""

    rows: Axis
    columns: Axis

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The numbers (row, column) of all tiles, row by row."""
        return product(range(len(self.rows.starts)), range(len(self.columns.starts)))

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every tile."""
        return self.rows.side, self.columns.side

    def window(self, tile: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of the picture that a tile holds."""
        row, column = tile
        y, x = self.rows.starts[row], self.columns.starts[column]
        return slice(y, y + self.rows.side), slice(x, x + self.columns.side)

    def weights(self, tile: tuple[int, int]) -> npt.NDArray[np.float32]:
        """The weights of a tile's pixels, (height, width)."""
        row, column = tile
        weights: npt.NDArray[np.float32] = self.rows.weights[row][:, None] * self.columns.weights[column]
        return weights


def _axis(length: int, side: int, overlap: int, multiple: int) -> Axis:
    """The fewest tiles along a side that overlap enough, evenly spread on the network's grid."""
    if length <= side:
        return Axis(length, (0,), np.ones((1, length), np.float32))
    count = math.ceil((length - overlap) / (side - overlap))
    # Rounded down to the grid; lengths and sides are multiples, so that the last tile ends with the picture.
    starts = [i * (length - side) // (count - 1) // multiple * multiple for i in range(count)]
    return Axis(side, tuple(starts), _weights(starts, side, overlap, length))


def _weights(starts: list[int], side: int, overlap: int, length: int) -> npt.NDArray[np.float32]:
    """The weights (n, side), which sum to one: they rise as sin^2 from each border of a tile that another overlaps."""
    ramp = np.ones(side)
    # At the middles of pixels: the ramp and its mirror image add up to one, sin^2 + cos^2.
    ramp[:overlap] = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    weights = np.ones((len(starts), side))
    weights[1:] *= ramp
    weights[:-1] *= ramp[::-1]
    # Rounding to the grid makes some overlaps wider than the ramp: what adds up to more than one is divided by its sum.
    total = np.zeros(length)
    for start, own in zip(starts, weights, strict=True):
        total[start : start + side] += own
    for start, own in zip(starts, weights, strict=True):
        own /= total[start : start + side]
    return weights.astype(np.float32)
