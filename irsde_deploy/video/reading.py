"""Video files, by PyAV (FFmpeg's libraries): a source, its frames with their exact times, and frames for an encoder.

Frames come as planes of code values (`colour`), so that nothing is scaled or converted by FFmpeg on the way: other
formats are at most repacked. A file is opened as a file and never as a URL, playlist or list of other files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.arrays import Float32
from ..errors import InputFileError, InvalidValueError, reason, requires_extra
from ..pictures.files import MAX_PIXELS
from ..system.files import require_readable
from .colour import Colour, Layout, Planes, to_planes, to_rgb

if TYPE_CHECKING:
    import av

_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg,mxf,nut,yuv4mpegpipe"

_MOST_EARLY = 32
"""Frames before 0 that are held until one has a time."""

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
    notes: tuple[str, ...] = ()

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) of a frame as it is shown."""
        return (self.height, self.width) if self.turn[0] else (self.width, self.height)

    @property
    def usual_duration(self) -> int:
        """Of a frame, in units of the time base, where the file does not say."""
        return max(1, round(1 / (self.rate * self.time_base)))

    def to_rgb(self, frame: TimedFrame) -> Float32:
        """A frame, upright, as RGB (H, W, 3) float32."""
        return _turned(to_rgb(frame.planes, self.layout, self.colour), self.turn)


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
    """Part of a file, in seconds from its beginning; end None: to the end."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise InvalidValueError(f"--start must not be below 0, not {float(self.start):g} s")
        if self.end is not None and self.end <= self.start:
            shown = f"{float(self.start):g} s to {float(self.end):g} s"
            raise InvalidValueError(f"--end must lie after --start: {shown}")


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


def open_input(path: Path, **options: str) -> av.container.InputContainer:
    """Open a video file for reading: a local file of a known container, and no other file or address that it names.

    Raises:
        InputFileError: missing, empty, or no video file.
        MissingPackageError: PyAV is not installed.
    """
    with requires_extra("video", "video files"):
        import av
    require_readable(path)
    guards = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
    try:
        return av.open(f"file:{path}", options={**guards, **options}, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise InputFileError(f"{path}: not a video file that FFmpeg can read ({why(error)})") from None


def why(error: Exception) -> str:
    """An error of PyAV's in a few words."""
    return getattr(error, "strerror", None) or reason(error)


def read_frames(
    source: VideoSource, span: Span, losses: Losses, after: int | None = None, number: int = 0, seek: bool = True
) -> Iterator[TimedFrame]:
    """The frames of a span, in the order in which they are shown.

    Args:
        source: see `probe`.
        span: what to read.
        losses: counts what is wrong.
        after: timestamp of the last frame that is not wanted any more.
        number: of the first frame.
        seek: whether reading may begin in the middle; without, times that are made up are so as at the first reading.
    """
    first = (source.begin + span.start) / source.time_base
    end = None if span.end is None else (source.begin + span.end) / source.time_base

    def wanted(pts: int | None) -> bool:
        early = pts is not None and ((span.start > 0 and pts < first) or (after is not None and pts <= after))
        return not early and (end is None or pts is None or pts < end)

    begin = first if after is None else Fraction(after)
    for frame, pts in frames_from(source, begin, losses, seek and source.seekable, wanted):
        if end is not None and pts >= end:
            return
        if not wanted(pts):
            continue
        if (frame.height, frame.width) != (source.height, source.width):
            raise _size_changes(source, frame, pts)
        yield TimedFrame(number, _planes(frame, source.layout), pts, frame.duration or 0)
        number += 1
    losses.at_end = True


def _size_changes(source: VideoSource, frame: Any, pts: int) -> InputFileError:
    """What to say of a frame of another size; its time is one that --start and --end take, not later than it is."""
    seconds = math.floor(1000 * (pts * source.time_base - source.begin)) / 1000
    return InputFileError(
        f"{source.path}: at {seconds:.3f} s the frames change from {source.width}x{source.height} to "
        f"{frame.width}x{frame.height}: restore the parts one by one (--end {seconds:.3f}, then --start {seconds:.3f})"
    )


def frames_from(
    source: VideoSource,
    first: Fraction,
    losses: Losses,
    seek: bool = True,
    wanted: Callable[[int | None], bool] = lambda pts: True,
) -> Iterator[tuple[Any, int]]:
    """Decoded frames with their times, from one that is surely not later than `first`; see `decoded`."""
    for seconds in (2, 20, None) if seek else (None,):
        with open_input(source.path) as container:
            stream: Any = container.streams[source.index]
            if seconds is not None:
                target = int(first - seconds / source.time_base)
                if target <= (stream.start_time or 0):
                    continue
                if not _sought(container, stream, target):
                    continue
            losses.damaged = losses.retimed = 0
            frames = _timed(decoded(container, stream, losses, wanted), source, losses)
            if seconds is None:
                yield from frames
                return
            found = next(frames, None)
            if found is not None and found[1] <= first:
                yield found
                yield from frames
                return


def _sought(container: Any, stream: Any, target: int) -> bool:
    """Whether a container could be moved to a keyframe not after a timestamp."""
    import av

    try:
        container.seek(target, stream=stream)
    except av.error.FFmpegError:
        return False
    return True


def _timed(frames: Iterator[Any], source: VideoSource, losses: Losses) -> Iterator[tuple[Any, int]]:
    """Every frame with its time by the source's clock, rising strictly.

    A time that is missing or does not rise is the end of the frame before. The decoding times of the frames that a
    decoder still holds at the end of the file are always missing, which is no loss. Nor are those before 0, which
    FFmpeg does not read from Matroska: they are counted back from the first that is there.
    """
    early = _until_timed(frames, source)
    due = _counted_back(early, source)
    uncounted = len(early) if due is not None else 0
    last = -math.inf
    for k, frame in enumerate(chain(early, frames)):
        time = getattr(frame, source.clock)
        if time is None or time <= last:
            losses.retimed += k >= uncounted and (time is not None or source.clock == "pts")
            time = due if due is not None else _first_time(frame, source)
        last, due = time, time + (frame.duration or source.usual_duration)
        yield frame, time


def _until_timed(frames: Iterator[Any], source: VideoSource) -> list[Any]:
    """The first frames, with the first that has a time of any kind, which is the very first as a rule."""
    early: list[Any] = []
    for frame in islice(frames, _MOST_EARLY):
        early.append(frame)
        if frame.dts is not None or getattr(frame, source.clock) is not None:
            break
    return early


def _counted_back(early: Sequence[Any], source: VideoSource) -> int | None:
    """The time of the first of some frames of which the last alone has one; None where it has none either."""
    time = getattr(early[-1], source.clock) if early else None
    if time is None:
        return None
    return int(time - sum(frame.duration or source.usual_duration for frame in early[:-1]))


def _first_time(frame: Any, source: VideoSource) -> int:
    """Of a first frame without one."""
    return int(source.begin / source.time_base if frame.dts is None else frame.dts)


def decoded(
    container: Any, stream: Any, losses: Losses, wanted: Callable[[int | None], bool] = lambda pts: True
) -> Iterator[Any]:
    """Frames as the decoder gives them; damaged packets are left out, as players do, and counted at wanted times."""
    import av

    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                losses.damaged += wanted(packet.pts)
                continue
            yield from frames
    except av.error.FFmpegError as error:
        raise InputFileError(f"{container.name.removeprefix('file:')}: cannot be read on ({why(error)})") from None


def video_frame(frame: TimedFrame, rgb: Float32, source: VideoSource, layout: Layout, colour: Colour) -> av.VideoFrame:
    """A restored picture as a frame for an encoder, without a time."""
    import av

    alike = (layout, colour, source.turn) == (source.layout, source.colour, UPRIGHT)
    planes = to_planes(rgb, layout, colour, frame.planes if alike else None)
    out = av.VideoFrame(rgb.shape[1], rgb.shape[0], layout.name)
    ordered = (planes[1], planes[2], planes[0]) if layout.kind == "rgb" else planes
    for plane, values in zip(out.planes, ordered, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        data = np.ascontiguousarray(values, dtype=layout.dtype.newbyteorder("<")).view(np.uint8)
        rows[: data.shape[0], : data.shape[1]] = data
    return out


def _planes(frame: Any, layout: Layout) -> Planes:
    """A decoded frame's planes, copied."""
    if Layout.of(frame.format.name) != layout:
        frame = frame.reformat(format=layout.name)
    shapes = layout.shapes(frame.height, frame.width)
    planes = []
    for plane, (height, width) in zip(frame.planes, shapes, strict=True):
        row = width * layout.dtype.itemsize
        rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[:height]
        upright = rows if plane.line_size > 0 else rows[::-1]
        planes.append(np.ascontiguousarray(upright[:, :row]).view(layout.dtype.newbyteorder("<")).astype(layout.dtype))
    return (planes[2], planes[0], planes[1]) if layout.kind == "rgb" else tuple(planes)


def _turned(rgb: Float32, turn: Turn) -> Float32:
    a, b, c, d = turn
    if turn == UPRIGHT:
        return rgb
    if not a:  # x' = c y, y' = b x
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
