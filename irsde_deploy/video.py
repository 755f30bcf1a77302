"""Video files, by PyAV (FFmpeg's libraries): what a file holds, its frames with their exact times, and an encoder.

Frames come as planes of code values (`colour`), so that nothing is scaled or converted by FFmpeg on the way: other
formats are at most repacked. A file is opened as a file and never as a URL, playlist or list of other files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .colour import Colour, Float32, Layout, Planes, guessed_matrix, to_planes, to_rgb
from .errors import InputFileError, InvalidValueError, reason, requires_extra
from .files import require_readable
from .images import MAX_PIXELS

if TYPE_CHECKING:
    import av

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
    *(".3gp", ".mxf", ".nut", ".y4m"),
)
"""Of files that are taken for videos."""

_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg,mxf,nut,yuv4mpegpipe"
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""By FFmpeg's (and ISO/IEC 23091-2's) number."""
_RGB, _BT709, _UNSPECIFIED = 0, 1, 2
_LIMITED, _FULL = 1, 2
_CENTRED = ("mjpeg", "mpeg1video")
"""Codecs whose chroma lies between the luma samples."""
_HDR = (16, 18)
"""Transfer functions PQ and HLG."""
_HIGHEST_RATE = 1000
_DEPTHS = (8, 9, 10, 12, 14, 16)

Turn = tuple[int, int, int, int]
"""Upper left part of a display matrix, of -1, 0 and 1: (a, b, c, d) shows pixel (x, y) at (a x + c y, b x + d y)."""
UPRIGHT: Turn = (1, 0, 0, 1)


@dataclass(frozen=True)
class ColourTags:
    """What a stream says of its colours, in FFmpeg's numbers; carried over to the output."""

    range: int = 0
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED


@dataclass(frozen=True)
class Source:
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
    notes: tuple[str, ...] = ()

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) of a frame as it is shown."""
        return (self.height, self.width) if self.turn[0] else (self.width, self.height)

    def to_rgb(self, frame: Frame) -> Float32:
        """A frame, upright, as RGB (H, W, 3) float32."""
        return _turned(to_rgb(frame.planes, self.layout, self.colour), self.turn)


@dataclass(frozen=True)
class Frame:
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
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise InvalidValueError(f"--end must lie after --start: {float(self.start):g} s to {self.end or 0} s")


@dataclass
class Losses:
    """What could not be used of a file, counted while it is read."""

    damaged: int = 0
    untimed: int = 0


def is_video_name(name: str) -> bool:
    """Whether a name ends like a video's."""
    return Path(name).suffix.lower() in SUFFIXES


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


def probe(path: Path, matrix: str | None = None) -> Source:
    """Find out what a video file holds, from its headers and its first frame.

    Args:
        path: of the file.
        matrix: one of `colour.WEIGHTS`, for files that do not say.

    Raises:
        InputFileError: no video stream, no frame, too large, or of a kind that cannot be restored.
    """
    with open_input(path) as container:
        if not container.streams.video:
            raise InputFileError(f"{path}: has no video stream")
        stream = container.streams.best("video")
        assert stream is not None
        context = stream.codec_context
        if context is None:
            raise InputFileError(f"{path}: its video's codec is unknown to FFmpeg")
        _check_size(path, context.height, context.width)
        first = next(_decoded(container, stream, Losses()), None)
        if first is None:
            raise InputFileError(f"{path}: no frame of its video can be decoded")
        _check_size(path, first.height, first.width)
        layout, notes = _layout_of(path, first.format)
        tags = ColourTags(
            *(int(getattr(context, name)) for name in ("color_range", "color_primaries", "color_trc", "colorspace"))
        )
        turn = _turn_of(first)
        if turn is None:
            notes.append("its rotation is not by right angles, and is not applied")
        elif turn != UPRIGHT:
            notes.append("its rotation is applied to the pixels")
        if tags.transfer in _HDR:
            notes.append("it is HDR: its colours are kept as they are coded, its static HDR metadata is not")
        if first.interlaced_frame:
            notes.append("it is interlaced, and its frames are restored as if they were not: deinterlace it first")
        return Source(
            path,
            stream.index,
            first.height,
            first.width,
            Fraction(stream.time_base or Fraction(1, 90000)),
            _rate_of(stream),
            Fraction(context.sample_aspect_ratio or 1),
            layout,
            _colour_of(path, layout, tags, first, context.name, matrix),
            tags,
            turn or UPRIGHT,
            Fraction(container.start_time or 0, 1_000_000),
            _frames_of(container, stream),
            tuple(notes),
        )


def read_frames(
    source: Source, span: Span, losses: Losses, after: int | None = None, number: int = 0
) -> Iterator[Frame]:
    """The frames of a span, in the order in which they are shown.

    Args:
        source: see `probe`.
        span: what to read.
        losses: counts packets and frames that cannot be used.
        after: timestamp of the last frame that is not wanted any more.
        number: of the first frame.
    """
    first = (source.begin + span.start) / source.time_base
    end = None if span.end is None else (source.begin + span.end) / source.time_base
    last = after
    for frame, pts in _from(source, first if after is None else Fraction(after), losses):
        if last is not None and last != after and pts <= last:
            losses.untimed += 1
            continue
        if pts < first or (after is not None and pts <= after):
            continue
        if end is not None and pts >= end:
            return
        if (frame.height, frame.width) != (source.height, source.width):
            raise InputFileError(
                f"{source.path}: at {float(pts * source.time_base):.3f} s the frames change from "
                f"{source.width}x{source.height} to {frame.width}x{frame.height}: restore the parts one by one "
                "(--start, --end)"
            )
        last = pts
        yield Frame(number, _planes(frame, source.layout), pts, frame.duration or 0)
        number += 1


def _from(source: Source, first: Fraction, losses: Losses) -> Iterator[tuple[Any, int]]:
    """Decoded frames with their times, from one that is surely not later than `first`."""
    for seconds in (2, 20, None):
        with open_input(source.path) as container:
            stream: Any = container.streams[source.index]
            if seconds is not None:
                target = int(first - seconds / source.time_base)
                if target <= (stream.start_time or 0):
                    continue
                container.seek(target, stream=stream)
            losses.damaged = 0
            frames = _timed(_decoded(container, stream, losses), losses)
            if seconds is None:
                yield from frames
                return
            found = next(frames, None)
            if found is not None and found[1] <= first:
                yield found
                yield from frames
                return


def _timed(frames: Iterator[Any], losses: Losses) -> Iterator[tuple[Any, int]]:
    """Frames with their presentation times, or their packets' decoding times where those have been the better clock.

    FFmpeg's guess_correct_pts (libavcodec/decode.c): AVI, for one, stores no presentation times, and what is made up
    for them does not rise.
    """
    faulty_pts = faulty_dts = 0
    last_pts = last_dts = None
    for frame in frames:
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            faulty_dts += last_dts is not None and dts <= last_dts
        if pts is not None:
            faulty_pts += last_pts is not None and pts <= last_pts
        last_dts = pts if dts is None else dts
        last_pts = dts if pts is None else pts
        time = pts if pts is not None and (faulty_pts <= faulty_dts or dts is None) else dts
        if time is None:
            losses.untimed += 1
        else:
            yield frame, time


def _decoded(container: Any, stream: Any, losses: Losses) -> Iterator[Any]:
    """Frames as the decoder gives them; damaged packets are counted and left out, as players do."""
    import av

    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                losses.damaged += 1
                continue
            yield from frames
    except av.error.FFmpegError as error:
        raise InputFileError(f"{container.name.removeprefix('file:')}: cannot be read on ({why(error)})") from None


def video_frame(frame: Frame, rgb: Float32, source: Source, layout: Layout, colour: Colour) -> av.VideoFrame:
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


def _layout_of(path: Path, form: Any) -> tuple[Layout, list[str]]:
    """The planar layout that holds a pixel format, and what is lost in it."""
    import av

    components = av.VideoFormat(form.name, 64, 64).components
    notes = ["its alpha channel is not kept"] if any(c.is_alpha for c in components) else []
    if (layout := Layout.of(form.name)) is not None:
        return layout, notes
    colours = [component for component in components if not component.is_alpha]
    bits = next((depth for depth in _DEPTHS if depth >= max(c.bits for c in colours)), None)
    if bits is None or form.is_bayer:
        raise InputFileError(f"{path}: frames of the pixel format {form.name} cannot be restored: convert them first")
    if form.is_rgb or form.has_palette:
        return Layout("rgb", bits), notes
    if len(colours) == 1:
        return Layout("grey", bits), notes
    chroma = colours[1]
    return Layout("yuv", bits, 64 // chroma.width // 2, 64 // chroma.height // 2), notes


def _colour_of(path: Path, layout: Layout, tags: ColourTags, first: Any, codec: str, matrix: str | None) -> Colour:
    full = tags.range == _FULL or "yuvj" in first.format.name or (layout.kind == "grey" and tags.range != _LIMITED)
    cosited = (False, False) if codec in _CENTRED else (True, False)
    if tags.matrix in _MATRICES:
        return Colour(_MATRICES[tags.matrix], full, cosited)
    if layout.kind == "yuv" and matrix is None and tags.matrix not in (_RGB, _UNSPECIFIED):
        raise InputFileError(
            f"{path}: its colour matrix (number {tags.matrix} of ISO/IEC 23091-2) is none that can be restored: "
            "convert it to bt709 first"
        )
    return Colour(matrix or guessed_matrix(first.height, first.width), full, cosited)


def _rate_of(stream: Any) -> Fraction:
    """The average frame rate; what no camera does is taken for a timestamp's unit."""
    rates = (stream.average_rate, stream.guessed_rate)
    return next((Fraction(rate) for rate in rates if rate and rate <= _HIGHEST_RATE), Fraction(25))


def _frames_of(container: Any, stream: Any) -> int:
    if stream.frames:
        return int(stream.frames)
    seconds = Fraction(container.duration or 0, 1_000_000)
    if stream.duration:
        seconds = stream.duration * stream.time_base
    return int(seconds * _rate_of(stream))


def _turn_of(frame: Any) -> Turn | None:
    """How the frame's display matrix turns it; None if not by right angles."""
    data = next((entry for entry in frame.side_data if entry.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = (round(value / 65536) for value in struct.unpack("=9i", bytes(data))[:5])
    turned = sorted((abs(a), abs(d))), sorted((abs(b), abs(c)))
    return (a, b, c, d) if turned in (([1, 1], [0, 0]), ([0, 0], [1, 1])) else None


def _turned(rgb: Float32, turn: Turn) -> Float32:
    a, b, c, d = turn
    if turn == UPRIGHT:
        return rgb
    if not a:  # x' = c y, y' = b x
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        limit = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise InputFileError(f"{path}: frames of {width}x{height} pixels are more than the limit of {limit}")
