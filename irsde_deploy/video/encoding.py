"""Encoding restored frames: which codec, pixel format and options, and one encoder at work."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.arrays import Float32
from ..errors import EngineError, InvalidValueError, OutputFileError
from ..system.files import not_writable
from .colour import Colour, Layout
from .reading import ColourTags, TimedFrame, VideoSource, video_frame, why

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's muxer by the output's suffix."""

WHEN_FULL = "free some space there, then --resume continues after the last whole segment"
"""Advice where there is no room for a video that is being written."""

CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}
"""Constant quality by default, where the codec has it."""

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
"""Of x264 and x265, which print on stderr what they think of others."""

_PACKED_RGB = ("rgb24", "bgr24", "bgr0")
_QUIET = {"libx265": ("x265-params", "log-level=error")}
_CODECS_OF = {".webm": "libvpx-vp9"}
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
        notes: sentences for the user.
    """

    codec: str
    pixel_format: str
    layout: Layout
    colour: Colour
    tags: ColourTags
    options: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        shown = [f"{name} {value}" for name, value in self.options if name in ("crf", "preset")]
        return ", ".join([self.codec, *shown, self.pixel_format])


def require_container(target: Path) -> str:
    """The muxer of an output file, or OutputFileError."""
    try:
        return CONTAINERS[target.suffix.lower()]
    except KeyError:
        names = ", ".join(CONTAINERS)
        raise OutputFileError(
            f"{target}: videos are written as {names}, not {target.suffix or 'no suffix'!r}"
        ) from None


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
        InvalidValueError: an encoder that is not there, does not fit the file, or does not take these options.
    """
    import av

    muxer = require_container(target)
    codec = codec or _CODECS_OF.get(target.suffix.lower(), "libx264")
    try:
        encoder = av.codec.Codec(codec, "w")
    except ValueError:
        raise InvalidValueError(f"--codec: this build of PyAV has no encoder {codec}: libx264, for one") from None
    if encoder.type != "video":
        raise InvalidValueError(f"--codec: {codec} encodes {encoder.type}, not video")
    _require_fitting(muxer, target, codec)
    if codec in ("libx264", "libx264rgb", "libx265") and preset is not None and preset not in _PRESETS:
        raise InvalidValueError(f"--preset: {codec} has {', '.join(_PRESETS)}, not {preset}")
    available = [form.name for form in encoder.video_formats or []]
    chosen, layout = _pixel_format(source, codec, available, pixel_format)
    crf = CRF.get(codec) if crf is None else crf
    wanted = {"crf": None if crf is None else f"{crf:g}", "preset": preset}
    options = [(name, value) for name, value in wanted.items() if value is not None]
    encoding = Encoding(codec, chosen, layout, *_colour(source, layout), tuple(options))
    if layout != source.layout and pixel_format is None:
        note = f"{codec} does not take {source.layout.name}: encoded as {chosen}"
        encoding = replace(encoding, notes=(note,))
    _try(encoding, source)
    return encoding


def _require_fitting(muxer: str, target: Path, codec: str) -> None:
    import av

    with av.open(io.BytesIO(), "w", format=muxer) as container:
        try:
            container.add_stream(codec)
        except ValueError:
            raise InvalidValueError(f"--codec: {target.suffix} files cannot hold {codec}: choose another") from None


def _pixel_format(source: VideoSource, codec: str, available: list[str], wanted: str | None) -> tuple[str, Layout]:
    """(the encoder's pixel format, the layout of the frames that it is made of)."""
    usable = {name: layout for name in available if (layout := _packed_layout(name)) and "yuvj" not in name}
    if wanted is not None:
        if wanted not in usable:
            raise InvalidValueError(f"--pix-fmt: {codec} takes {', '.join(usable)}, not {wanted}")
        return wanted, usable[wanted]
    if not usable:
        raise InvalidValueError(f"--codec: {codec} takes none of the pixel formats that are restored: choose another")
    return min(usable.items(), key=lambda entry: _distance(source.layout, entry[1]))


def _packed_layout(name: str) -> Layout | None:
    return Layout("rgb") if name in _PACKED_RGB else Layout.of(name)


def _distance(source: Layout, other: Layout) -> tuple[int, ...]:
    """How much worse a layout is for frames of the source's: what is lost counts before what is wasted."""
    chroma = (other.across - source.across, other.down - source.down)
    if source.kind == "grey":
        chroma = (0, 0)
    lost_chroma, spare_chroma = sum(max(0, c) for c in chroma), sum(max(0, -c) for c in chroma)
    bits = other.bits - source.bits
    return (source.kind != other.kind, lost_chroma, max(0, -bits), max(0, bits), spare_chroma)


def _colour(source: VideoSource, layout: Layout) -> tuple[Colour, ColourTags]:
    """What the encoded values mean, and what the stream says of them: as in the source, as far as that goes."""
    tags = source.tags
    if layout.kind == "rgb":
        same = source.layout.kind == "rgb"
        return source.colour, tags if same else replace(tags, range=_FULL, matrix=_RGB)
    if source.layout.kind == "rgb":
        return Colour("bt709"), replace(tags, range=_LIMITED, matrix=_BT709)
    return source.colour, replace(tags, range=_FULL) if source.colour.full else tags


def _try(encoding: Encoding, source: VideoSource) -> None:
    """Open the encoder once, before any work is done."""
    import av

    context: Any = av.CodecContext.create(encoding.codec, "w")
    _configure(context, encoding, source)
    height, width = source.shown_size
    odd = (width % (1 << encoding.layout.across)) or (height % (1 << encoding.layout.down))
    try:
        context.open()
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        if odd:
            full = replace(encoding.layout, across=0, down=0).name
            raise InvalidValueError(
                f"{source.path}: {encoding.codec} cannot encode frames of {width}x{height} as {encoding.pixel_format}, "
                f"which needs even sides: give --pix-fmt {full}"
            ) from None
        raise InvalidValueError(f"{encoding.words}: the encoder refuses these settings ({why(error)})") from None
    unknown = sorted(set(context.options) & {name for name, _ in encoding.options})
    if unknown:
        raise InvalidValueError(f"--{unknown[0]}: {encoding.codec} has no such option")


def _configure(context: Any, encoding: Encoding, source: VideoSource) -> None:
    """Set an encoder's context up."""
    height, width = source.shown_size
    context.width, context.height, context.pix_fmt = width, height, encoding.pixel_format
    context.time_base, context.framerate = 1 / source.rate, source.rate
    context.sample_aspect_ratio = source.aspect if source.turn[0] else 1 / source.aspect
    context.color_range, context.colorspace = encoding.tags.range, encoding.tags.matrix
    context.color_primaries, context.color_trc = encoding.tags.primaries, encoding.tags.transfer
    quiet = _QUIET.get(encoding.codec)
    os.environ.setdefault("SVT_LOG", "1")  # of SVT-AV1, which otherwise describes itself on stderr
    context.options = dict([*encoding.options, *([quiet] if quiet else [])])


class PieceEncoder:
    """Encodes frames into one file that begins with a keyframe and refers to no other.

    The encoder counts frames at the source's average rate, which every codec can write down; their own times are
    returned at the end, exact whatever the container rounds. After an error the file is closed, and cannot be used.

    Args:
        path: to write.
        muxer: FFmpeg's name of the container.
        encoding, source: what is encoded, how.

    Raises:
        OutputFileError: the file cannot be written, by a full disk for one.
        EngineError: the encoder has failed.
    """

    def __init__(self, path: Path, muxer: str, encoding: Encoding, source: VideoSource) -> None:
        import av

        self.path, self.source, self.encoding = path, source, encoding
        self._times: list[tuple[int, int]] = []
        self._order: list[int] = []
        self._failed = False
        self._container: Any = None
        with self._closed_on_failure():
            self._container = av.open(f"file:{path}", "w", format=muxer)
            self._stream: Any = self._container.add_stream(encoding.codec, rate=source.rate)
            _configure(self._stream.codec_context, encoding, source)

    @property
    def usable(self) -> bool:
        """Whether there is something to finish."""
        return not self._failed and self.frames > 0

    @property
    def frames(self) -> int:
        """How many have been added."""
        return len(self._times)

    def add(self, frame: TimedFrame, rgb: Float32) -> None:
        """Encode a restored picture."""
        picture = video_frame(frame, rgb, self.source, self.encoding.layout, self.encoding.colour)
        picture.pts, picture.duration, picture.time_base = self.frames, 1, 1 / self.source.rate
        self._times.append((frame.pts, frame.duration))
        with self._closed_on_failure():
            self._mux(self._stream.encode(picture))

    def finish(self) -> list[tuple[int, int]]:
        """Close the file; (pts, duration) of each packet in it, in units of the source's time base."""
        with self._closed_on_failure():
            self._mux(self._stream.encode(None))
            self._container.close()
        if sorted(self._order) != list(range(self.frames)):
            raise EngineError(
                f"{self.encoding.codec} made {len(self._order)} packets of {self.frames} frames: choose another --codec"
            )
        return [self._times[k] for k in self._order]

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._order.append(round(packet.pts * packet.time_base * self.source.rate))
            self._container.mux(packet)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """FFmpeg's errors as ours: those of the operating system are the file's, others the encoder's."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._failed = True
            if self._container is not None:
                with suppress(Exception):  # what is buffered cannot be written either
                    self._container.close()
            if isinstance(error, OSError):
                raise not_writable(self.path, error, WHEN_FULL) from None
            raise EngineError(f"{self.encoding.codec} has failed ({why(error)}): choose another --codec") from None
