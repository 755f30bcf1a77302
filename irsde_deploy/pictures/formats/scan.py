"""What every format's reader gives: the facts of a file first, its pixels when they are asked for.

A module of a format has a function `scan(data) -> Scan`. It reads the container itself, so that whoever says what a
file holds is whoever decodes it; libraries are given the pixel data alone, whatever else the file has in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from .metadata import NO_METADATA, Metadata

Pixels: TypeAlias = "npt.NDArray[Any]"


class Damaged(Exception):
    """A file is not what its format asks for; the words say where, as in "the checksum of IHDR is wrong"."""


class Unsupported(Exception):
    """A whole file of a kind that is not read; the words are a sentence without the file's name."""


@dataclass(frozen=True)
class Decoded:
    """The pixels of a file, not turned yet.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same type, straight, not multiplied into the colours; None without one.
        grey: whether the file has no colours.
        notes: what was left out of the pixels, in sentences.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What a file says of itself.

    Attributes:
        width, height: in pixels, as stored.
        decode: gives the pixels; raises `Damaged` or `Unsupported`, and libraries' errors of damaged data.
        metadata: as the file has them, unchecked.
        orientation: where the format has a place of its own for it; None: that of the EXIF data counts.
        notes: what is left out, in sentences.
    """

    width: int
    height: int
    decode: Callable[[], Decoded]
    metadata: Metadata = NO_METADATA
    orientation: int | None = None
    notes: tuple[str, ...] = ()
