"""What lies around a picture, as ONNX nodes: the card's margin, and padding to the network's multiple."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.card import ModelCard
from .writer import GraphWriter

Unary = Callable[[str], str]
"""Name of a tensor -> name of what is made of it."""


def surround(w: GraphWriter, pictures: str, margin: int) -> str:
    """`irsde_deploy.core.margin.surround`."""
    if not margin:
        return pictures
    for axis in (2, 3):
        side = w("Shape", pictures, start=axis, end=axis + 1)
        pictures = w("Gather", pictures, _mirrored(w, side, margin), axis=axis)
    return pictures


def _mirrored(w: GraphWriter, side: str, margin: int) -> str:
    """`irsde_deploy.core.margin.mirrored`: which line of a side each line of the surrounded one is."""
    length = w("Squeeze", w("Add", side, w.integers(2 * margin)))
    counted = w("Range", w.constant(0, np.int64), length, w.constant(1, np.int64))
    distance = w("Abs", w("Sub", counted, w.integers(margin)))  # line -k is line k
    period = w("Max", w("Mul", w("Sub", side, w.integers(1)), w.integers(2)), w.integers(1))
    place = w("Mod", distance, period)
    return w("Min", place, w("Sub", period, place))


def padding(w: GraphWriter, card: ModelCard, height: str, width: str) -> tuple[Unary, Unary]:
    """`runtimes.loops.padding` and its inverse: (padding to the card's multiple, cropping to the picture)."""
    if card.multiple_of == 1:
        return (lambda x: x), (lambda x: x)
    sides = (height, width)
    padded = (_next_multiple(w, height, card.multiple_of), _next_multiple(w, width, card.multiple_of))
    size = w("Concat", *sides, axis=0)
    pad = _zero_padding(w, sides, padded) if card.pad_mode == "zero" else _reflection(w, sides, padded)

    def crop(x: str) -> str:
        return w("Slice", x, w.integers(0, 0), size, w.integers(2, 3))

    return pad, crop


def _zero_padding(w: GraphWriter, sides: tuple[str, str], padded: tuple[str, str]) -> Unary:
    """Zeros below and to the right, until the picture has the padded size."""
    missing = [w("Sub", outer, side) for outer, side in zip(padded, sides, strict=True)]
    pads = w("Concat", w.integers(0, 0, 0, 0, 0, 0), *missing, axis=0)

    def pad(x: str) -> str:
        return w("Pad", x, pads)

    return pad


def _reflection(w: GraphWriter, sides: tuple[str, str], padded: tuple[str, str]) -> Unary:
    """The picture's own lines below and to the right, mirrored, until it has the padded size."""
    rows = _reflected(w, sides[0], padded[0])
    columns = _reflected(w, sides[1], padded[1])

    def pad(x: str) -> str:
        return w("Gather", w("Gather", x, rows, axis=2), columns, axis=3)

    return pad


def _next_multiple(w: GraphWriter, side: str, multiple: int) -> str:
    """The smallest multiple that is not below a side."""
    count = w("Div", w("Add", side, w.integers(multiple - 1)), w.integers(multiple))
    return w("Mul", count, w.integers(multiple))


def _reflected(w: GraphWriter, side: str, padded: str) -> str:
    """Which line of a side each line of the padded one is: i, then side-2, side-3, ...; or side-1 where too short."""
    i = w("Range", w.constant(0, np.int64), w("Squeeze", padded), w.constant(1, np.int64))
    last = w("Sub", side, w.integers(1))
    mirrored = w("Sub", w("Mul", last, w.integers(2)), i)
    long_enough = w("Greater", side, w("Sub", padded, side))
    return w("Min", i, w("Where", long_enough, mirrored, last))
