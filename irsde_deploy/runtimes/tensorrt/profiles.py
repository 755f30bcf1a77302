"""Optimization profiles: the ranges of input shapes that a TensorRT plan is built for, as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ...core.margin import evaluated
from ...errors import InvalidValueError
from ...system.parsing import shown

Shape: TypeAlias = tuple[int, int, int]
"""(batch, height, width); the channels are the model's."""

_Triple: TypeAlias = tuple[Shape, Shape, Shape]

MAX_BATCH, MAX_SIDE = 1024, 32_768
DEFAULT_SIDES = (64, 256, 1024)
"""min, opt and max of a side where the user names none, rounded up to the network's multiple."""


@dataclass(frozen=True)
class Profile:
    """Shapes from min to max, each side on its own, with kernels chosen for opt.

    Raises:
        InvalidValueError: not min <= opt <= max, or out of range.
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        for low, middle, high, limit in zip(self.min, self.opt, self.max, (MAX_BATCH, MAX_SIDE, MAX_SIDE), strict=True):
            if not 1 <= low <= middle <= high <= limit:
                raise InvalidValueError(
                    f"a profile needs 1 <= min <= opt <= max, batches to {MAX_BATCH} and sides to {MAX_SIDE}, "
                    f"and this one is {self}"
                )

    def takes(self, shape: Shape) -> bool:
        """Whether a shape lies within."""
        return all(low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True))

    def distance(self, shape: Shape) -> int:
        """How far a shape is from the one that kernels were chosen for, in pixels."""
        return abs(shape[0] * shape[1] * shape[2] - self.opt[0] * self.opt[1] * self.opt[2])

    def __str__(self) -> str:
        return " ".join(f"{name} {b}x{h}x{w}" for name, (b, h, w) in self._named)

    @property
    def arguments(self) -> str:
        """As the command line takes it."""
        sizes = " ".join(f"--{name} {h}x{w}" for name, (_, h, w) in self._named)
        batches = ":".join(str(b) for _, (b, _, _) in self._named)
        return f"{sizes} --batch {batches}"

    def as_shapes(self, channels: int) -> str:
        """As the command line takes what the network sees, whatever the model's margin is."""
        shapes = (f"--{name}Shapes x:{b}x{channels}x{h}x{w}" for name, (b, h, w) in self._named)
        return " ".join(shapes)

    @property
    def _named(self) -> list[tuple[str, Shape]]:
        return [("min", self.min), ("opt", self.opt), ("max", self.max)]


def parse_profiles(
    sizes: tuple[Sequence[str], Sequence[str], Sequence[str]],
    batches: Sequence[str],
    shapes: tuple[Sequence[str], Sequence[str], Sequence[str]],
    channels: int,
    multiple_of: int,
    margin: int = 0,
) -> tuple[Profile, ...]:
    """Profiles from what the command line was given.

    Args:
        sizes: min, opt and max as `HxW`; the i-th of each make the i-th profile. opt alone is one size and no other;
            where max is given, min is 64x64 and opt is max unless they are too.
        batches: `1:1:4` (min:opt:max) or `4`, one for all profiles or one each; 1 by default.
        shapes: min, opt and max as trtexec writes them, `x:1x3x64x64[,mu:...,t:...]`, in place of sizes and batches.
        channels, multiple_of: of the network, which every shape must fit.
        margin: of the card. With one, sizes are of pictures, of any size, and the profile's sides are those of the
            picture with its margin, rounded up to the multiple; shapes are always what the network sees.

    Raises:
        InvalidValueError: what cannot be read or does not fit; names the nearest valid shape.
    """
    smallest, usual, largest = (side + -side % multiple_of for side in DEFAULT_SIDES)
    if any(shapes):
        if any(sizes) or batches:
            raise InvalidValueError(
                "give either `min_size`, `opt_size`, `max_size` and `batch`, or trtexec's --minShapes and so on"
            )
        columns = [[_trtexec(text, channels) for text in texts] for texts in shapes]
        triples = _triples(columns, smallest)
    else:
        columns = [[(1, side, side)] for side in (smallest, usual, largest)]
        if any(sizes):
            columns = [[(1, *parse_size(text.strip())) for text in texts] for texts in sizes]
        triples = _with_batches(_triples(columns, smallest), batches)
        if margin:
            seen = partial(_evaluated, multiple_of=multiple_of, margin=margin)
            triples = [(seen(low), seen(middle), seen(high)) for low, middle, high in triples]
    for low, middle, high in triples:
        _require_multiple(high, multiple_of, math.ceil)  # first, since opt alone is max too
        _require_multiple(low, multiple_of, math.floor)
        _require_multiple(middle, multiple_of, round)
    return tuple(Profile(*triple) for triple in triples)


def _evaluated(shape: Shape, multiple_of: int, margin: int) -> Shape:
    """What the network sees of a picture: with its margin, padded."""
    batch, height, width = shape
    return batch, *evaluated(height, width, margin, multiple_of)


def _triples(columns: Sequence[Sequence[Shape]], smallest: int) -> list[_Triple]:
    """min, opt, max of each profile.

    Left out: opt is max, or else min; max is opt; min is `smallest` where max is given, otherwise opt.
    """
    count = max(map(len, columns))
    for column in columns:
        if len(column) not in (0, count):
            raise InvalidValueError(f"each of the {count} profiles needs a min, an opt and a max, or none has it")
    low, middle, high = (list(column) for column in columns)
    middle = middle or high or low
    if not low and high:
        low = [(b, min(smallest, h), min(smallest, w)) for b, h, w in middle]
    return list(zip(low or middle, middle, high or middle, strict=True))


def _with_batches(triples: Sequence[_Triple], batches: Sequence[str]) -> list[_Triple]:
    """The same with batch sizes, one triple of them for all profiles or one each."""
    parsed = [_batch(text) for text in batches] or [(1, 1, 1)]
    if len(parsed) not in (1, len(triples)):
        raise InvalidValueError(
            f"give `batch` once, or once for each profile ({len(triples)}), not {len(parsed)} times"
        )
    if len(parsed) == 1:
        parsed *= len(triples)
    found: list[_Triple] = []
    for (least, usual, most), (low, middle, high) in zip(parsed, triples, strict=True):
        found.append(((least, *low[1:]), (usual, *middle[1:]), (most, *high[1:])))
    return found


def parse_size(text: str) -> tuple[int, int]:
    """`HxW` -> (height, width), or InvalidValueError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise InvalidValueError(f"a size is written HxW, such as 256x384, sides below 100000, not {shown(text)}")
    return int(match[1]), int(match[2])


def _batch(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}):(\d{1,6}))?", text.strip())
    if match is None:
        raise InvalidValueError(
            f"batch sizes are written min:opt:max, such as 1:1:4, or as one number, not {shown(text)}"
        )
    if match[2] is None:
        return (int(match[1]),) * 3
    return int(match[1]), int(match[2]), int(match[3])


def _trtexec(text: str, channels: int) -> Shape:
    """`x:1x3x64x64,mu:1x3x64x64,t:1` -> the shape of x, if mu and t agree with it."""
    given = dict(re.findall(r"(\w+):([\dx]+)", text))
    if "x" not in given or re.fullmatch(r"\w+:\d+(x\d+)*(,\w+:\d+(x\d+)*)*", text.strip()) is None:
        raise InvalidValueError(f"shapes are written x:BxCxHxW, such as x:1x{channels}x64x64, not {shown(text)}")
    numbers = {}
    for name, sizes in given.items():
        numbers[name] = tuple(map(int, sizes.split("x")))
    x = numbers["x"]
    if len(x) != 4 or x[1] != channels:
        raise InvalidValueError(f"x must be BxCxHxW with {channels} channels, not {given['x']}")
    for name, expected in (("mu", x), ("t", x[:1])):
        if numbers.get(name, expected) != expected:
            raise InvalidValueError(f"{name} must go with x: {'x'.join(map(str, expected))}, not {given[name]}")
    if numbers.keys() - {"x", "mu", "t"}:
        raise InvalidValueError(f"the inputs are x, mu and t, not {', '.join(numbers)}")
    return x[0], x[2], x[3]


def _require_multiple(shape: Shape, multiple: int, nearest: Callable[[float], int]) -> None:
    """Raise InvalidValueError, with the shape that was surely meant, unless both sides are multiples.

    For a min that is the one below, for a max the one above: pictures of the size that was given are padded.
    """
    _, height, width = shape
    if height % multiple or width % multiple:
        most = MAX_SIDE // multiple * multiple
        sides = [min(most, max(multiple, nearest(side / multiple) * multiple)) for side in (height, width)]
        raise InvalidValueError(
            f"the network takes sides that are multiples of {multiple}, and {height}x{width} is none: "
            f"the nearest valid shape is {sides[0]}x{sides[1]} (pictures of any size are padded to it when run)"
        )
