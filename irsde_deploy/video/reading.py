"""Frames of a video file with their exact times, by PyAV (FFmpeg's libraries).

Damaged packets are left out, as players do, and counted. Times that are missing or do not rise are made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any

from ..errors import InputFileError
from ..pictures.files import MAX_PIXELS
from .containers import open_input, packets_in, why
from .frames import planes_of
from .source import Losses, Span, TimedFrame, VideoSource

_MOST_EARLY = 32
"""Frames before 0 that are held until one has a time."""

_BEFORE = (2, 20)
"""Seconds before a wanted time at which reading begins, tried in this order, and then the beginning of the file."""


def _all(pts: int | None) -> bool:
    """Whether a time is wanted: each is."""
    return True


@dataclass(frozen=True)
class _Wanted:
    """Whether a time is wanted, in units of the time base; one that is not known is.

    Attributes:
        first: the least that is wanted.
        after: the greatest that is not.
        end: the least that is not any more.
    """

    first: Fraction | None
    after: int | None
    end: Fraction | None

    def __call__(self, pts: int | None) -> bool:
        if pts is None:
            return True
        if self.first is not None and pts < self.first:
            return False
        if self.after is not None and pts <= self.after:
            return False
        return not self.is_past(pts)

    def is_past(self, pts: int) -> bool:
        """Whether everything from here on is unwanted."""
        return self.end is not None and pts >= self.end


def read_frames(
    source: VideoSource, span: Span, losses: Losses, after: int | None = None, number: int = 0, seek: bool = True
) -> Iterator[TimedFrame]:
    """The frames of a span, in the order in which they are shown.

    Args:
        source: see `probing.probe`.
        span: what to read.
        losses: counts what is wrong.
        after: timestamp of the last frame that is not wanted any more.
        number: of the first frame.
        seek: whether reading may begin in the middle; without, times that are made up are so as at the first reading.

    Raises:
        InputFileError: the file cannot be read on, or its frames change their size.
    """
    begin = (source.begin + span.start) / source.time_base
    first = begin if span.start > 0 else None  # frames before a file's beginning belong to it
    end = None if span.end is None else (source.begin + span.end) / source.time_base
    wanted = _Wanted(first, after, end)
    if after is not None:
        begin = Fraction(after)
    for frame, pts in frames_from(source, begin, losses, seek and source.seekable, wanted):
        if wanted.is_past(pts):
            return
        if not wanted(pts):
            continue
        if (frame.height, frame.width) != (source.height, source.width):
            raise _size_changes(source, frame, pts)
        yield TimedFrame(number, planes_of(frame, source.layout), pts, frame.duration or 0)
        number += 1
    losses.at_end = True


def _size_changes(source: VideoSource, frame: Any, pts: int) -> InputFileError:
    """What to say of a frame of another size.

    Its time is rounded down, so that it is one that `start` and `end` take for the frame's.
    """
    seconds = math.floor(1000 * (pts * source.time_base - source.begin)) / 1000
    return InputFileError(
        f"{source.path}: at {seconds:.3f} s the frames change from {source.width}x{source.height} to "
        f"{frame.width}x{frame.height}: restore the parts one by one (`end` {seconds:.3f}, then `start` {seconds:.3f})"
    )


def frames_from(
    source: VideoSource,
    first: Fraction,
    losses: Losses,
    seek: bool = True,
    wanted: Callable[[int | None], bool] = _all,
) -> Iterator[tuple[Any, int]]:
    """Decoded frames with their times, from one that is surely not later than `first`; see `decoded`."""
    for seconds in _BEFORE if seek else ():
        with open_input(source.path) as container:
            if not _sought(container, container.streams[source.index], first - seconds / source.time_base):
                continue
            frames = _frames_of(container, source, losses, wanted)
            found = next(frames, None)
            # a seek by a faulty index may end after the time that was asked for
            if found is not None and found[1] <= first:
                yield found
                yield from frames
                return
    with open_input(source.path) as container:
        yield from _frames_of(container, source, losses, wanted)


def _sought(container: Any, stream: Any, time: Fraction) -> bool:
    """Whether a container could be moved to a keyframe not after a time, which lies after the beginning."""
    import av

    target = int(time)
    if target <= (stream.start_time or 0):
        return False
    try:
        container.seek(target, stream=stream)
    except av.error.FFmpegError:
        return False
    return True


def _frames_of(
    container: Any, source: VideoSource, losses: Losses, wanted: Callable[[int | None], bool]
) -> Iterator[tuple[Any, int]]:
    """Decoded frames with their times from where a container is; what is wrong is counted from 0."""
    losses.damaged = losses.retimed = 0  # an attempt that began too late has counted already
    return _timed(decoded(container, container.streams[source.index], losses, wanted), source, losses)


def _timed(frames: Iterator[Any], source: VideoSource, losses: Losses) -> Iterator[tuple[Any, int]]:
    """Every frame with its time by the source's clock, rising strictly.

    A time that is missing or does not rise is the end of the frame before. The decoding times of the frames that a
    decoder still holds at the end of the file are always missing, which is no loss. Nor are those before 0, which
    FFmpeg does not read from Matroska: they are counted back from the first that is there.
    """
    early = _until_timed(frames, source)
    due = _counted_back(early, source)
    uncounted = 0 if due is None else len(early)
    last = -math.inf
    for k, frame in enumerate(chain(early, frames)):
        time = getattr(frame, source.clock)
        if time is None or time <= last:
            if k >= uncounted and (time is not None or source.clock == "pts"):
                losses.retimed += 1
            time = _first_time(frame, source) if due is None else due
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
    """The time of a first frame that has none by the source's clock: its decoding time, or the file's beginning."""
    if frame.dts is None:
        return int(source.begin / source.time_base)
    return int(frame.dts)


def decoded(container: Any, stream: Any, losses: Losses, wanted: Callable[[int | None], bool] = _all) -> Iterator[Any]:
    """Frames as the decoder gives them; damaged packets are left out, and counted at wanted times.

    Raises:
        InputFileError: the file cannot be read on.
    """
    import av

    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"  # as many as the codec can use; frames are the same
        # FFmpeg then refuses larger frames before it takes memory for them.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    found = False
    refusal: av.error.FFmpegError | None = None
    try:
        for packet in packets_in(container, stream):
            try:
                frames = packet.decode()
            except (MemoryError, EOFError):  # FFmpeg's are these, too
                raise
            except av.error.FFmpegError as error:
                # Damage may look like something that FFmpeg has not implemented, or like a huge frame.
                if not isinstance(error, av.error.InvalidDataError):
                    refusal = error
                if wanted(packet.pts):
                    losses.damaged += 1
                continue
            found = found or bool(frames)
            yield from frames
        if refusal is not None and not found:  # it is the file that the decoder does not take
            raise refusal
    except av.error.FFmpegError as error:
        raise InputFileError(f"{container.name.removeprefix('file:')}: cannot be read on ({why(error)})") from None
