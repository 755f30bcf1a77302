"""What a video file holds, from its headers and its first frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain, dropwhile, islice, pairwise
from pathlib import Path
from typing import Any

from ..errors import InputFileError
from ..pictures.files import MAX_PIXELS
from .colour import Colour, Layout, guessed_matrix
from .reading import UNSPECIFIED, UPRIGHT, ColourTags, Losses, Turn, VideoSource, decoded, frames_from, open_input

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""By FFmpeg's (and ISO/IEC 23091-2's) number."""
_RGB = 0
_LIMITED, _FULL = 1, 2
_CENTRED = ("mjpeg", "mpeg1video")
"""Codecs whose chroma lies between the luma samples."""
_HDR = (16, 18)
"""Transfer functions PQ and HLG."""
_HIGHEST_RATE = 1000
_DEPTHS = (8, 9, 10, 12, 14, 16)
_LOOKED_AT = 100
"""Frames whose times are compared, to choose a clock."""


def probe(path: Path, matrix: str | None = None, start: Fraction = Fraction(0)) -> VideoSource:
    """Find out what a video file holds, from its headers and its first frames.

    Args:
        path: of the file.
        matrix: one of `colour.WEIGHTS`, for files that do not say.
        start: seconds from the file's beginning to the part that is restored, whose first frame says the size.

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
        frames = decoded(container, stream, Losses())
        first = next(frames, None)
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
        source = VideoSource(
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
            *_clock_of(chain([first], frames)),
            tuple(notes),
        )
        return _as_at(source, start, context.name, matrix) if start else source


def _as_at(source: VideoSource, start: Fraction, codec: str, matrix: str | None) -> VideoSource:
    """The source with what its first frame at or after a time says, should that be another than the file's first."""
    first = (source.begin + start) / source.time_base
    frame = next((frame for frame, pts in frames_from(source, first, Losses()) if pts >= first), None)
    if frame is None or (frame.height, frame.width) == (source.height, source.width):
        return source
    _check_size(source.path, frame.height, frame.width)
    layout, _ = _layout_of(source.path, frame.format)
    colour = _colour_of(source.path, layout, source.tags, frame, codec, matrix)
    return replace(source, height=frame.height, width=frame.width, layout=layout, colour=colour)


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
    if layout.kind == "yuv" and tags.matrix not in (_RGB, UNSPECIFIED):
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


def _clock_of(frames: Iterator[Any]) -> tuple[str, bool]:
    """(which time of a frame to believe, whether it can also be believed after seeking).

    As in FFmpeg's guess_correct_pts (libavcodec/decode.c), but once for a file: AVI, for one, stores no presentation
    times, and what is made up for them does not rise where there are B-frames.
    """
    seen = [(frame.pts, frame.dts) for frame in _readable(islice(frames, _LOOKED_AT))]
    times = list(dropwhile(lambda entry: entry == (None, None), seen))  # before 0; see `video.reading._timed`
    decoding = [dts for _, dts in times if dts is not None]
    presented = [pts for pts, _ in times if pts is not None]
    faulty = _not_rising(presented) + len(times) - len(presented)
    if decoding and faulty > _not_rising(decoding):
        return "dts", False
    return "pts", not faulty


def _readable(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames until the file cannot be read on, which is told when it is restored."""
    with suppress(InputFileError):
        yield from frames


def _not_rising(times: Sequence[int]) -> int:
    return sum(later <= earlier for earlier, later in pairwise(times))


def _turn_of(frame: Any) -> Turn | None:
    """How the frame's display matrix turns it; None if not by right angles."""
    data = next((entry for entry in frame.side_data if entry.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = (round(value / 65536) for value in struct.unpack("=9i", bytes(data))[:5])
    turned = sorted((abs(a), abs(d))), sorted((abs(b), abs(c)))
    return (a, b, c, d) if turned in (([1, 1], [0, 0]), ([0, 0], [1, 1])) else None


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        limit = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise InputFileError(f"{path}: frames of {width}x{height} pixels are more than the limit of {limit}")
