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
from .containers import open_input
from .interlacing import field_order
from .reading import decoded, frames_from
from .source import UNSPECIFIED, UPRIGHT, ColourTags, Losses, Turn, VideoSource

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""By FFmpeg's (and ISO/IEC 23091-2's) number."""
_RGB = 0
_LIMITED, _FULL = 1, 2
_CENTRED = ("mjpeg", "mpeg1video")
"""Codecs whose chroma lies between the luma samples."""
_HDR = (16, 18)
"""Transfer functions PQ and HLG."""
_LOWEST_RATE, _HIGHEST_RATE = Fraction(1, 10_000), 1000
_USUAL_RATE = Fraction(25)
_DEPTHS = (8, 9, 10, 12, 14, 16)
_LOOKED_AT = 100
"""Frames whose times are compared, to choose a clock."""
_TRIAL = 64
"""Side of a frame that FFmpeg is asked the planes of."""


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
        stream = _video_stream(path, container)
        context = stream.codec_context
        _check_size(path, context.height, context.width)
        frames = decoded(container, stream, Losses())
        first = _first_of(path, frames)  # headers may say another size and pixel format than is decoded
        layout = _layout_of(path, first.format)
        tags = _tags_of(context)
        turn = _turn_of(first)
        clock, seekable = _clock_of(chain([first], frames))
        source = VideoSource(
            path=path,
            index=stream.index,
            height=first.height,
            width=first.width,
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            rate=_rate_of(stream),
            aspect=Fraction(context.sample_aspect_ratio or 1),
            layout=layout,
            colour=_colour_of(path, layout, tags, first, context.name, matrix),
            tags=tags,
            turn=turn or UPRIGHT,
            begin=Fraction(container.start_time or 0, 1_000_000),
            frames=_frame_count(container, stream),
            clock=clock,
            seekable=seekable,
            fields=field_order(first, layout) if turn == UPRIGHT else None,
            notes=_notes_on(first, tags, turn, _has_hidden_alpha(stream)),
        )
        codec = context.name
    if start:
        return _as_at(source, start, codec, matrix)
    return source


def _video_stream(path: Path, container: Any) -> Any:
    """The stream that a player would show."""
    if not container.streams.video:
        raise InputFileError(f"{path}: has no video stream")
    stream = container.streams.best("video")
    if stream.codec_context is None:
        raise InputFileError(f"{path}: its video's codec is unknown to FFmpeg")
    return stream


def _first_of(path: Path, frames: Iterator[Any]) -> Any:
    """The first frame, of a size that is restored."""
    first = next(frames, None)
    if first is None:
        raise InputFileError(f"{path}: no frame of its video can be decoded")
    _check_size(path, first.height, first.width)
    return first


def _tags_of(context: Any) -> ColourTags:
    """What a decoder says of the colours."""
    return ColourTags(
        range=int(context.color_range),
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
        matrix=int(context.colorspace),
    )


def _has_hidden_alpha(stream: Any) -> bool:
    """Whether a stream says that its alpha is stored beside the frames, as VP8 and VP9 do: decoders leave it out."""
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    return metadata.get("alpha_mode", "0") not in ("", "0")


def _notes_on(first: Any, tags: ColourTags, turn: Turn | None, hidden_alpha: bool) -> tuple[str, ...]:
    """What a user should know of a video, by its first frame."""
    has_alpha = hidden_alpha or any(component.is_alpha for component in _components(first.format))
    rules = (
        (has_alpha, "its alpha channel is not kept"),
        (turn is None, "its rotation is not by right angles, and is not applied"),
        (turn not in (None, UPRIGHT), "its rotation is applied to the pixels"),
        (tags.transfer in _HDR, "it is HDR: its colours are kept as they are coded, its static HDR metadata is not"),
        (
            first.interlaced_frame,
            "it is interlaced, and its frames are restored as if they were not: deinterlace it first",
        ),
    )
    return tuple(sentence for applies, sentence in rules if applies)


def _as_at(source: VideoSource, start: Fraction, codec: str, matrix: str | None) -> VideoSource:
    """The source with what its first frame at or after a time says, should that be another than the file's first."""
    first = (source.begin + start) / source.time_base
    frame = next((frame for frame, pts in frames_from(source, first, Losses()) if pts >= first), None)
    if frame is None or (frame.height, frame.width) == (source.height, source.width):
        return source
    _check_size(source.path, frame.height, frame.width)
    layout = _layout_of(source.path, frame.format)
    colour = _colour_of(source.path, layout, source.tags, frame, codec, matrix)
    return replace(source, height=frame.height, width=frame.width, layout=layout, colour=colour)


def _components(form: Any) -> Any:
    """Colours and alpha of a pixel format, with their sizes in a frame of `_TRIAL` x `_TRIAL`."""
    import av

    return av.VideoFormat(form.name, _TRIAL, _TRIAL).components


def _layout_of(path: Path, form: Any) -> Layout:
    """The planar layout that holds a pixel format's colours."""
    planar = Layout.of(form.name)
    if planar is not None:
        return planar
    colours = [component for component in _components(form) if not component.is_alpha]
    bits = _depth_for(max(component.bits for component in colours))
    if bits is None or form.is_bayer:
        raise InputFileError(f"{path}: frames of the pixel format {form.name} cannot be restored: convert them first")
    if form.is_rgb or form.has_palette:
        return Layout("rgb", bits)
    if len(colours) == 1:
        return Layout("grey", bits)
    chroma = colours[1]
    # side / chroma's side is 1, 2 or 4, and half of it the logarithm
    return Layout("yuv", bits, _TRIAL // chroma.width // 2, _TRIAL // chroma.height // 2)


def _depth_for(bits: int) -> int | None:
    """The least depth of a layout that holds values of so many bits."""
    return next((depth for depth in _DEPTHS if depth >= bits), None)


def _colour_of(path: Path, layout: Layout, tags: ColourTags, first: Any, codec: str, matrix: str | None) -> Colour:
    """What the code values of a stream mean.

    Args:
        path: of the file.
        layout: of its frames.
        tags: what the stream says of its colours.
        first: a frame.
        codec: FFmpeg's name of the stream's.
        matrix: one of `colour.WEIGHTS`, where the stream does not say; None: by the frame's size.
    """
    full = tags.range == _FULL or "yuvj" in first.format.name
    if layout.kind == "grey" and tags.range != _LIMITED:
        full = True  # as FFmpeg takes grey that does not say
    cosited = (codec not in _CENTRED, False)
    if tags.matrix in _MATRICES:
        return Colour(_MATRICES[tags.matrix], full, cosited)
    if layout.kind == "yuv" and tags.matrix not in (_RGB, UNSPECIFIED):
        raise InputFileError(
            f"{path}: its colour matrix (number {tags.matrix} of ISO/IEC 23091-2) is none that can be restored: "
            "convert it to bt709 first"
        )
    return Colour(matrix or guessed_matrix(first.height, first.width), full, cosited)


def _rate_of(stream: Any) -> Fraction:
    """The average frame rate; what no camera does is taken for a timestamp's unit, or for a faulty time."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and _LOWEST_RATE <= rate <= _HIGHEST_RATE:
            return Fraction(rate)
    return _USUAL_RATE


def _frame_count(container: Any, stream: Any) -> int:
    """How many frames a stream has: by its header, else about as many as its duration says; 0 if that is not known."""
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
    presented = [pts for pts, _ in times if pts is not None]
    decoding = [dts for _, dts in times if dts is not None]
    faulty = _not_rising(presented) + len(times) - len(presented)
    if decoding and faulty > _not_rising(decoding):
        return "dts", False
    return "pts", not faulty


def _readable(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames until the file cannot be read on, which is told when it is restored."""
    with suppress(InputFileError):
        yield from frames


def _not_rising(times: Sequence[int]) -> int:
    """How many times are not after the one before them."""
    return sum(later <= earlier for earlier, later in pairwise(times))


def _turn_of(frame: Any) -> Turn | None:
    """How the frame's display matrix turns it; None if not by right angles."""
    data = next((entry for entry in frame.side_data if entry.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return UPRIGHT
    numbers = struct.unpack("=9i", bytes(data))  # fixed-point, 16.16; the third of each row is the perspective
    a, b, _, c, d = (round(number / 65536) for number in numbers[:5])
    upright_or_half = sorted((abs(a), abs(d))) == [1, 1] and b == c == 0
    quarter = a == d == 0 and sorted((abs(b), abs(c))) == [1, 1]
    return (a, b, c, d) if upright_or_half or quarter else None


def _check_size(path: Path, height: int, width: int) -> None:
    """Raise InputFileError where frames are larger than pictures may be."""
    if height * width > MAX_PIXELS:
        limit = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise InputFileError(f"{path}: frames of {width}x{height} pixels are more than the limit of {limit}")
