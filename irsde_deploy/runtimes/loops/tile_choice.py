"""Whole or in tiles: what was asked for, and what memory and the engine allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from ...core.margin import evaluated, surrounded
from ...core.tiling import DEFAULT_OVERLAP, SIDES, Tile, Tiling, require_tile
from ...errors import OutOfMemoryError, reason
from ...system.memory import SHARE, available_memory
from ..device.engine import DeviceEngine
from ..protocol import Engine
from .footprint import bytes_per_pixel, loop_bytes

Result = TypeVar("Result")
Way: TypeAlias = "Tiling | None"
"""One way to evaluate a picture: in tiles, or whole (None)."""


def choices(engine: Engine, shape: tuple[int, ...], tile: Tile, overlap: int | None = None) -> list[Way]:
    """The ways to evaluate pictures (B, H, W, C), the first of them to be tried first.

    The others are for where memory runs out. With `auto`, ways that the engine cannot take or that memory is too small
    for are left out, as long as one remains.

    Args:
        engine: the network.
        shape: of the pictures, (B, H, W, C).
        tile: side of the tiles in pixels, `auto`, or None for whole pictures.
        overlap: of neighbouring tiles, in pixels; None: the default of `Tiling.of`.

    Raises:
        InvalidValueError: a tile or overlap out of range.
    """
    require_tile(tile)
    if tile is None:
        return [None]
    if isinstance(tile, int):
        asked = Tiling.of(tile, overlap)
        return _on_grid(engine, [asked, *_smaller(tile, overlap)])
    longest = max(_padded(engine, shape)[1:])
    ways: list[Way] = [None, *_on_grid(engine, _smaller(longest, overlap))]
    # Where no way is possible all stay: then the evaluation fails, and its message says what the engine takes.
    possible = [way for way in ways if _takes(engine, shape, way)] or ways
    fitting = [way for way in possible if _fits(engine, shape, way)]
    # Where none fits, the smallest tiles have the best chance: what fits is an estimate.
    return fitting or possible[-1:]


def _smaller(side: int, overlap: int | None) -> list[Tiling]:
    """Tiles below a side, the largest first."""
    if overlap is None:
        overlap = DEFAULT_OVERLAP
    # A tile overlaps its neighbour by at most half of itself (`Tiling`).
    return [Tiling.of(below, overlap) for below in SIDES if 2 * overlap <= below < side]


def _on_grid(engine: Engine, tilings: list[Tiling]) -> list[Way]:
    """The same tiles, rounded up to the network's multiple."""
    multiple = engine.card.multiple_of
    return [tiling.on_grid(multiple) for tiling in tilings]


def first_that_fits(ways: Sequence[Way], restore: Callable[[Way], Result]) -> Result:
    """What `restore` gives with the first way for which memory does not run out.

    Raises:
        OutOfMemoryError: it runs out with the last way, too.
    """
    for way in ways[:-1]:
        try:
            return restore(way)
        except MemoryError:
            continue
    try:
        return restore(ways[-1])
    except OutOfMemoryError:  # it names the shape already, and says what to do
        raise
    except MemoryError as error:
        advice = "use tiles (`tile` 256)" if ways[-1] is None else "use smaller tiles"
        raise OutOfMemoryError(f"there is not enough memory ({reason(error)}): {advice} or a smaller batch") from None


def _padded(engine: Engine, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(B, H, W) that the network sees of pictures (B, H, W, C), their margin included."""
    height, width = evaluated(shape[1], shape[2], engine.card.margin, engine.card.multiple_of)
    return shape[0], height, width


def _evaluated(engine: Engine, shape: tuple[int, ...], way: Way) -> tuple[int, int, int]:
    """(B, H, W) of one evaluation of pictures (B, H, W, C)."""
    batch, height, width = _padded(engine, shape)
    if way is not None:
        height, width = way.over(height, width, engine.card.multiple_of).size
    return batch, height, width


def _takes(engine: Engine, shape: tuple[int, ...], way: Way) -> bool:
    """Whether the engine is built for the evaluations of one way; engines on the CPU take every shape."""
    return not isinstance(engine, DeviceEngine) or engine.takes(_evaluated(engine, shape, way))


def _fits(engine: Engine, shape: tuple[int, ...], way: Way) -> bool:
    """Whether memory is large enough for one way, as far as can be told beforehand."""
    if isinstance(engine, DeviceEngine) and engine.host is None:
        return True  # on a GPU an allocation tells, and costs little
    available, each = available_memory(), bytes_per_pixel(engine.card)
    if available is None or each is None:
        return True
    batch, height, width = _evaluated(engine, shape, way)
    whole = (batch, *surrounded(shape[1], shape[2], engine.card.margin), shape[3])
    return each * batch * height * width + loop_bytes(whole) <= SHARE * available
