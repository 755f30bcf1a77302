"""Whole or in tiles: what was asked for, and what memory and the engine allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ...core.tiling import DEFAULT_OVERLAP, SIDES, Tile, Tiling
from ...errors import InvalidValueError, OutOfMemoryError, reason
from ...system.memory import SHARE, available_memory
from ..device.engine import DeviceEngine
from ..protocol import Engine
from .footprint import bytes_per_pixel, loop_bytes

Result = TypeVar("Result")


def choices(engine: Engine, shape: tuple[int, ...], tile: Tile, overlap: int | None = None) -> list[Tiling | None]:
    """Ways to evaluate pictures (B, H, W, C), the first to be tried first; None is whole.

    The rest is for where memory runs out. With `auto`, ways that the engine cannot take or that memory is too small for
    are left out, as long as one remains.

    Raises:
        InvalidValueError: a tile or overlap out of range.
    """
    if tile is None:
        return [None]
    multiple = engine.card.multiple_of
    if isinstance(tile, int):
        return [way.on_grid(multiple) for way in (Tiling.of(tile, overlap), *_smaller(tile, overlap))]
    if tile != "auto":
        raise InvalidValueError(f"tile must be a side in pixels, 'auto' or None, not {tile!r}")
    ways = [None, *(way.on_grid(multiple) for way in _smaller(max(_padded(engine, shape)[1:]), overlap))]
    possible = [way for way in ways if _takes(engine, shape, way)] or ways
    fitting = [way for way in possible if _fits(engine, shape, way)]
    return fitting or possible[-1:]


def _smaller(side: int, overlap: int | None) -> list[Tiling]:
    """Tiles below a side, the largest first."""
    least = 2 * (DEFAULT_OVERLAP if overlap is None else overlap)
    return [Tiling.of(below, overlap) for below in SIDES if least <= below < side]


def first_that_fits(ways: Sequence[Tiling | None], restore: Callable[[Tiling | None], Result]) -> Result:
    """What `restore` gives with the first way for which memory does not run out.

    Raises:
        OutOfMemoryError: with the last way it does, too.
    """
    for way in ways[:-1]:
        try:
            return restore(way)
        except MemoryError:
            continue
    try:
        return restore(ways[-1])
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        advice = "use tiles (--tile 256)" if ways[-1] is None else "use smaller tiles"
        raise OutOfMemoryError(f"there is not enough memory ({reason(error)}): {advice} or a smaller batch") from None


def _padded(engine: Engine, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(B, H, W) that the network sees of pictures (B, H, W, C)."""
    multiple = engine.card.multiple_of
    return shape[0], shape[1] + -shape[1] % multiple, shape[2] + -shape[2] % multiple


def _evaluated(engine: Engine, shape: tuple[int, ...], way: Tiling | None) -> tuple[int, int, int]:
    """(B, H, W) of one evaluation."""
    batch, height, width = _padded(engine, shape)
    size = (height, width) if way is None else way.over(height, width, engine.card.multiple_of).size
    return (batch, *size)


def _takes(engine: Engine, shape: tuple[int, ...], way: Tiling | None) -> bool:
    """Whether the engine is built for such evaluations."""
    return not isinstance(engine, DeviceEngine) or engine.takes(_evaluated(engine, shape, way))


def _fits(engine: Engine, shape: tuple[int, ...], way: Tiling | None) -> bool:
    """Whether memory is large enough, as far as can be told beforehand: on a GPU an allocation tells."""
    available, each = available_memory(), bytes_per_pixel(engine.card)
    if available is None or each is None or (isinstance(engine, DeviceEngine) and engine.host is None):
        return True
    batch, height, width = _evaluated(engine, shape, way)
    return each * batch * height * width + loop_bytes(shape) <= SHARE * available
