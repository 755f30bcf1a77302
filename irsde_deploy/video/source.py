"""What is known of a video that is restored: its stream, the part that is wanted, its frames, what is lost of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..core.arrays import Float32
from ..errors import InvalidValueError
from .colour import Colour, Layout, Planes, clipped_off, to_rgb

UNSPECIFIED = 2
"""FFmpeg's number where a stream does not say its primaries, transfer function or matrix."""

Turn = tuple[int, int, int, int]
"""Upper left part of a display matrix, of -1, 0 and 1: (a, b, c, d) shows pixel (x, y) at (a x + c y, b x + d y)."""
UPRIGHT: Turn = (1, 0, 0, 1)


@dataclass(frozen=True)
class ColourTags:
    """What a stream says of its colours, in FFmpeg's numbers; carried over to the output."""

    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED


@dataclass(frozen=True)
class VideoSource:
    """A video file: the stream that is restored.

    Attributes:
        path: of the file.
        index: of the stream in it.
        height, width: of its frames as they are stored.
        time_base: unit of timestamps, in seconds.
        rate: frames a second on average.
        aspect: of a pixel, width to height.
        layout, colour: of the frames' planes.
        tags: what the stream says of its colours.
        turn: how a player turns the frames.
        begin: seconds at which the file's clock begins.
        frames: how many, where that is known or can be estimated from the duration; else 0.
        clock: which time of a decoded frame rises from one to the next: `pts`, or `dts` where those are made up (AVI).
        seekable: whether frames have the same times wherever reading begins.
        fields: order of the fields of interlaced frames, `tff` or `bff`, where they are upright; None: not interlaced.
        notes: sentences for the user.
    """

    path: Path
    index: int
    height: int
    width: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    layout: Layout
    colour: Colour
    tags: ColourTags
    turn: Turn
    begin: Fraction
    frames: int
    clock: str = "pts"
    seekable: bool = True
    fields: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) of a frame as it is shown."""
        if self.turn[0]:
            return self.height, self.width
        return self.width, self.height

    @property
    def usual_duration(self) -> int:
        """How long a frame lasts where the file does not say, in units of the time base."""
        return max(1, round(1 / (self.rate * self.time_base)))

    def to_rgb(self, frame: TimedFrame) -> Float32:
        """A frame, upright, as RGB (H, W, 3) float32."""
        return _turned(to_rgb(frame.planes, self.layout, self.colour), self.turn)

    def with_clipped(self, frame: TimedFrame, rgb: Float32) -> Float32:
        """What was restored of a frame (H, W, 3), with what `to_rgb` has clipped off."""
        beyond = clipped_off(frame.planes, self.layout, self.colour)
        if beyond is None:
            return rgb
        restored: Float32 = rgb + _turned(beyond, self.turn)
        return restored


def _turned(rgb: Float32, turn: Turn) -> Float32:
    """A picture as a player shows it."""
    a, b, c, d = turn
    if turn == UPRIGHT:
        return rgb
    if not a:  # x' = c y, y' = b x: the sides change places
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    if d < 0:
        rgb = rgb[::-1]
    if a < 0:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


@dataclass(frozen=True)
class TimedFrame:
    """A frame and its time.

    Attributes:
        number: counted from 0 at the first that is restored.
        planes: see `colour.Planes`.
        pts, duration: in units of the stream's time base; duration 0 where the file does not say.
    """

    number: int
    planes: Planes
    pts: int
    duration: int


@dataclass(frozen=True)
class Span:
    """Part of a file, in seconds from its beginning; end None: to the end.

    Raises:
        InvalidValueError: a start below 0, or an end that is not after it.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise InvalidValueError(f"`start` must not be below 0, not {float(self.start):g} s")
        if self.end is not None and self.end <= self.start:
            shown = f"{float(self.start):g} s to {float(self.end):g} s"
            raise InvalidValueError(f"`end` must lie after `start`: {shown}")


@dataclass
class Losses:
    """What was wrong with a file, counted while it is read.

    Attributes:
        damaged: packets that could not be decoded.
        retimed: frames whose time is missing or does not rise, and was made up.
        missing: what the file's headers announce and its end lacks, in words; see `truncation.shortfall`.
        at_end: whether the file has been read to its end.
    """

    damaged: int = 0
    retimed: int = 0
    missing: str | None = None
    at_end: bool = field(default=False, compare=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """What the output lacks on account of it, in sentences that go on from the file's name."""
        found = []
        if self.damaged:
            packets = "1 damaged packet" if self.damaged == 1 else f"{self.damaged} damaged packets"
            found.append(f"{packets} could not be decoded: frames are missing in the output")
        if self.missing:
            found.append(f"was cut short: {self.missing}: frames or sound are missing in the output")
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is different in the output, though nothing is missing, in sentences as those of `problems`."""
        if not self.retimed:
            return ()
        return (f"{self.retimed} frames without a time that rises follow the frame before each",)
