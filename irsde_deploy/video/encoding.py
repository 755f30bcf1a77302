"""How restored frames are encoded: which codec, pixel format and options, settled and tried before any work is done."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InvalidValueError
from .colour import Colour, Layout
from .containers import require_container, why
from .interlacing import CODED_AS_FIELDS, TOP_FIRST
from .source import ColourTags, VideoSource

CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}
"""Constant quality by default, where the codec has it."""

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_WITH_PRESETS = ("libx264", "libx264rgb", "libx265")
"""Encoders that have those and no others, and print on stderr what they think of others."""

_PACKED_RGB = ("rgb24", "bgr24", "bgr0")
_QUIET = {"libx265": {"x265-params": "log-level=error"}}
_X265_WIDTH = 64
"""The side of x265's largest block: its lookahead goes past the end of narrower frames, and the process is aborted."""
_USUAL_CODEC = "libx264"
_CODECS_OF = {".webm": "libvpx-vp9"}
"""Suffix of an output -> the encoder for it, where it is not the usual one."""
_MOST_16 = (1 << 16) - 1
_NAMED = 4
"""Rates of an encoder's own list that are tried."""
_HIGH_RATE, _MIDDLE_RATE = Fraction(240), Fraction(25)
"""SVT-AV1's highest rate, and one that every encoder can write."""
_TOP_TOP, _BOTTOM_BOTTOM = 2, 3
"""FFmpeg's numbers of the orders of fields: which is coded, and shown, first."""
_LIMITED, _FULL, _RGB, _BT709 = 1, 2, 0, 1


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: that the encoder is given; `layout` or a packing of it.
        layout, colour: of the frames.
        tags: what the stream says of its colours.
        options: of the encoder, such as (("crf", "18"),).
        rate: frames a second that the encoder counts; frames' own times are the container's.
        fields: order of the fields that frames are marked with, `tff` or `bff`; None: not at all.
        notes: sentences for the user.
    """

    codec: str
    pixel_format: str
    layout: Layout
    colour: Colour
    tags: ColourTags
    options: tuple[tuple[str, str], ...] = ()
    rate: Fraction = Fraction(25)
    fields: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        shown = [f"{name} {value}" for name, value in self.options if name in ("crf", "preset")]
        return ", ".join([self.codec, *shown, self.pixel_format])


def choose_encoding(
    source: VideoSource,
    target: Path,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pixel_format: str | None = None,
) -> Encoding:
    """The encoding that a user asks for; what is left out is as in the source, or as good.

    Raises:
        OutputFileError: a target whose suffix is that of no container.
        InvalidValueError: an encoder that is not there, does not fit the file, or does not take these options.
    """
    muxer = require_container(target)
    codec = codec or _CODECS_OF.get(target.suffix.lower(), _USUAL_CODEC)
    encoder = _encoder(codec)
    codec = encoder.name  # the encoder behind the name of a format: libx265 for hevc
    _require_fitting(muxer, target, codec)
    _require_wide(codec, source)
    if codec in _WITH_PRESETS and preset not in (None, *_PRESETS):
        raise InvalidValueError(f"`preset`: {codec} has {', '.join(_PRESETS)}, not {preset}")
    chosen, layout = _pixel_format(source, encoder, codec, pixel_format)
    notes: tuple[str, ...] = ()
    if layout != source.layout and pixel_format is None:
        notes = (f"{codec} does not take {source.layout.name}: encoded as {chosen}",)
    colour, tags = _colour(source, layout)
    encoding = Encoding(codec, chosen, layout, colour, tags, _options(codec, crf, preset), source.rate, None, notes)
    return _opened(encoding, source, _rates(source.rate, encoder))


def _opened(encoding: Encoding, source: VideoSource, rates: Sequence[Fraction]) -> Encoding:
    """The encoding as its encoder takes it, at the first of some rates that it can write.

    Raises:
        InvalidValueError: it takes none.
    """
    refusals = []
    for attempt in [attempt for rate in rates for attempt in _attempts(replace(encoding, rate=rate), source)]:
        try:
            _try(attempt, source)
        except InvalidValueError as error:
            refusals.append(error)
            continue
        return replace(attempt, notes=(*attempt.notes, *_rate_note(attempt, source)))
    raise refusals[0]


def _attempts(encoding: Encoding, source: VideoSource) -> Sequence[Encoding]:
    """An encoding, and before it the same for interlaced frames, where the source's are."""
    if source.fields is None:
        return [encoding]
    marked = replace(encoding, fields=source.fields)
    flags = CODED_AS_FIELDS.get(encoding.codec)
    if flags is None:
        return [marked, encoding]
    return [replace(marked, options=(*marked.options, ("flags", flags))), marked, encoding]


def _rates(rate: Fraction, encoder: Any) -> list[Fraction]:
    """Rates to try, the wanted one first: then the nearest that the encoder names, in 16 bits, and a usual one."""
    named = sorted((Fraction(entry) for entry in encoder.frame_rates or []), key=lambda entry: abs(entry - rate))
    return [rate, *named[:_NAMED], _in_16_bits(rate), min(rate, _HIGH_RATE), _MIDDLE_RATE]


def _in_16_bits(rate: Fraction) -> Fraction:
    """The nearest rate whose numerator and denominator have 16 bits."""
    if rate < 1:
        return 1 / _in_16_bits(1 / rate)
    return rate.limit_denominator(max(1, _MOST_16 // math.ceil(rate)))


def _rate_note(encoding: Encoding, source: VideoSource) -> tuple[str, ...]:
    """What to say of a rate that is not the source's."""
    if encoding.rate == source.rate:
        return ()
    return (
        f"{encoding.codec} cannot write {source.rate} frames a second in its own stream, and writes {encoding.rate}: "
        "the frames' own times, which players go by, are kept",
    )


def _encoder(codec: str) -> Any:
    """PyAV's description of a video encoder."""
    import av

    try:
        encoder = av.codec.Codec(codec, "w")
    except ValueError:
        raise InvalidValueError(f"`codec`: this build of PyAV has no encoder {codec}: libx264, for one") from None
    if encoder.type != "video":
        raise InvalidValueError(f"`codec`: {codec} encodes {encoder.type}, not video")
    return encoder


def _require_fitting(muxer: str, target: Path, codec: str) -> None:
    """Raise InvalidValueError where a container cannot hold what an encoder makes: tried."""
    import av

    with av.open(io.BytesIO(), "w", format=muxer) as container:
        try:
            container.add_stream(codec)
        except ValueError:
            raise InvalidValueError(f"`codec`: {target.suffix} files cannot hold {codec}: choose another") from None


def _require_wide(codec: str, source: VideoSource) -> None:
    """Raise InvalidValueError for frames with which x265 writes into memory that is not its own: tried."""
    width = source.shown_size[1]
    if codec == "libx265" and width < _X265_WIDTH:
        raise InvalidValueError(
            f"`codec`: libx265 is not safe with frames that are narrower than {_X265_WIDTH} pixels, and those of "
            f"{source.path} are {width} wide: choose another"
        )


def _options(codec: str, crf: float | None, preset: str | None) -> tuple[tuple[str, str], ...]:
    """The encoder's options: as given, else its usual quality."""
    options = []
    if crf is None:
        crf = CRF.get(codec)
    if crf is not None:
        options.append(("crf", f"{crf:g}"))
    if preset is not None:
        options.append(("preset", preset))
    return tuple(options)


def _pixel_format(source: VideoSource, encoder: Any, codec: str, wanted: str | None) -> tuple[str, Layout]:
    """(the encoder's pixel format, the layout of the frames that it is made of)."""
    usable = _usable_formats(encoder)
    if wanted is not None:
        if wanted not in usable:
            raise InvalidValueError(f"`pix_fmt`: {codec} takes {', '.join(usable)}, not {wanted}")
        return wanted, usable[wanted]
    if not usable:
        raise InvalidValueError(f"`codec`: {codec} takes none of the pixel formats that are restored: choose another")
    return min(usable.items(), key=lambda entry: _distance(source.layout, entry[1]))


def _usable_formats(encoder: Any) -> dict[str, Layout]:
    """Pixel formats that an encoder takes and that frames can be made of, with the layout that each holds."""
    usable = {}
    for form in encoder.video_formats or []:
        layout = Layout("rgb") if form.name in _PACKED_RGB else Layout.of(form.name)
        if layout is not None and "yuvj" not in form.name:  # which is yuv of full range, and deprecated
            usable[form.name] = layout
    return usable


def _distance(source: Layout, other: Layout) -> tuple[int, ...]:
    """How much worse a layout is for frames of the source's: what is lost counts before what is wasted."""
    across, down = other.across - source.across, other.down - source.down
    if source.kind == "grey":
        across, down = 0, 0  # there is no chroma to lose
    lost_chroma = max(0, across) + max(0, down)
    spare_chroma = max(0, -across) + max(0, -down)
    bits = other.bits - source.bits
    return (source.kind != other.kind, lost_chroma, max(0, -bits), max(0, bits), spare_chroma)


def _colour(source: VideoSource, layout: Layout) -> tuple[Colour, ColourTags]:
    """What the encoded values mean, and what the stream says of them: as in the source, as far as that goes."""
    colour, tags = source.colour, source.tags
    from_rgb, to_rgb = source.layout.kind == "rgb", layout.kind == "rgb"
    if to_rgb and not from_rgb:
        tags = replace(tags, range=_FULL, matrix=_RGB)
    elif from_rgb and not to_rgb:
        colour, tags = Colour("bt709"), replace(tags, range=_LIMITED, matrix=_BT709)
    elif not to_rgb and colour.full:
        tags = replace(tags, range=_FULL)
    return colour, tags


def _try(encoding: Encoding, source: VideoSource) -> None:
    """Open the encoder once, before any work is done."""
    import av

    context: Any = av.CodecContext.create(encoding.codec, "w")
    configure(context, encoding, source)
    try:
        context.open()
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise _refused(encoding, source, error) from None
    unknown = sorted(set(context.options) & {name for name, _ in encoding.options})
    if unknown:
        raise InvalidValueError(f"`{unknown[0]}`: {encoding.codec} has no such option")


def _refused(encoding: Encoding, source: VideoSource, error: Exception) -> InvalidValueError:
    """What to say of settings that an encoder refuses: of sides that its chroma does not fit, or its own words."""
    height, width = source.shown_size
    if width % (1 << encoding.layout.across) or height % (1 << encoding.layout.down):
        full = replace(encoding.layout, across=0, down=0).name
        return InvalidValueError(
            f"{source.path}: {encoding.codec} cannot encode frames of {width}x{height} as {encoding.pixel_format}, "
            f"which needs even sides: give `pix_fmt` {full}"
        )
    return InvalidValueError(f"{encoding.words}: the encoder refuses these settings ({why(error)})")


def configure(context: Any, encoding: Encoding, source: VideoSource) -> None:
    """Set an encoder's context up for frames of a source."""
    height, width = source.shown_size
    context.width, context.height, context.pix_fmt = width, height, encoding.pixel_format
    context.time_base, context.framerate = 1 / encoding.rate, encoding.rate
    context.sample_aspect_ratio = source.aspect if source.turn[0] else 1 / source.aspect
    context.color_range, context.colorspace = encoding.tags.range, encoding.tags.matrix
    context.color_primaries, context.color_trc = encoding.tags.primaries, encoding.tags.transfer
    if encoding.fields is not None:
        context.field_order = _TOP_TOP if encoding.fields == TOP_FIRST else _BOTTOM_BOTTOM
    os.environ.setdefault("SVT_LOG", "1")  # of SVT-AV1, which otherwise describes itself on stderr
    # x265 describes itself too, on its own log.
    context.options = {**dict(encoding.options), **_QUIET.get(encoding.codec, {})}
