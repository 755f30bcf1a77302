"""What a caller can say of a video file, and of video on pipes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..core.noise import FRAME_NOISES
from ..errors import InvalidValueError, refuse
from .colour import WEIGHTS
from .job import SEGMENT_SECONDS
from .pipe_formats import PipeFormat, raw_format
from .source import Span

_SEGMENTS = (0.01, 3600)
_HIGHEST_CRF = 63
_USUAL_RAW = "rgb24"


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How a video is read, encoded and continued.

    Attributes:
        codec: encoder, as FFmpeg names it; `libx264` by default, `libvpx-vp9` for `.webm`.
        crf: constant quality of the encoder, 0..63; 18 for x264, 20 for x265, 24 for VP9 and AV1 by default.
        preset: effort of the encoder, by its own name for it.
        pix_fmt: pixel format, as FFmpeg names it; the source's by default, or what comes closest to it.
        start, end: part of the video, in seconds from its beginning; a float counts as the decimal number that it is
            printed as. With a start, the output begins at 0.
        noise: `fixed`, the same field for all frames, or `per-frame`, a field for each frame's number.
        segment: seconds of video, 0.01..3600, that an interrupted run can lose at most.
        matrix: one of `colour.WEIGHTS`, for videos that do not say; by default BT.709 for high definition, else BT.601.
        batch: frames that are restored together, at least 1.
        resume: continue a video that was cut off, after its last whole segment.
        overwrite: replace an output that is there, and what is left of a run that was cut off.

    Raises:
        InvalidValueError: a value out of range, or an end that is not after the start.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    start: Fraction | float | None = None
    end: Fraction | float | None = None
    noise: str = "fixed"
    segment: float = SEGMENT_SECONDS
    matrix: str | None = None
    batch: int = 1
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        _require_frame_settings(self.noise, self.matrix, self.batch)
        least, most = _SEGMENTS
        refuse(
            [
                (not least <= self.segment <= most, f"`segment` must be {least:g} to {most:g} s, not {self.segment:g}"),
                (
                    self.crf is not None and not 0 <= self.crf <= _HIGHEST_CRF,
                    f"`crf` must be a number from 0 to {_HIGHEST_CRF}, not {self.crf}",
                ),
            ]
        )
        self.span  # noqa: B018 (raises where there is no such part)

    @property
    def span(self) -> Span:
        """The part that is restored."""
        start = Fraction(0) if self.start is None else _exact("start", self.start)
        end = None if self.end is None else _exact("end", self.end)
        return Span(start, end)


def _exact(name: str, seconds: Fraction | float) -> Fraction:
    """Seconds without the error that decimal numbers have as floats: 0.1 is a tenth."""
    try:
        return Fraction(seconds if isinstance(seconds, Fraction) else str(seconds))
    except ValueError:
        raise InvalidValueError(f"`{name}` must be a finite number of seconds, not {seconds!r}") from None


@dataclass(frozen=True, kw_only=True)
class PipeSettings:
    """What frames on a pipe are, and how they are restored.

    Attributes:
        size: of raw RGB frames, as `WIDTHxHEIGHT`; None: the stream is y4m, which says its size.
        pix_fmt: of raw RGB frames: `rgb24` (default), `bgr24`, `rgb48le` or `bgr48le`.
        matrix: of y4m, one of `colour.WEIGHTS`; by default BT.709 for high definition, else BT.601.
        noise: `fixed`, the same field for all frames, or `per-frame`, a field for each frame's number.
        batch: frames that are restored together, at least 1.

    Raises:
        InvalidValueError: a value out of range.
    """

    size: str | None = None
    pix_fmt: str | None = None
    matrix: str | None = None
    noise: str = "fixed"
    batch: int = 1

    def __post_init__(self) -> None:
        _require_frame_settings(self.noise, self.matrix, self.batch)
        if self.pix_fmt is not None and self.size is None:
            raise InvalidValueError("`pix_fmt` of a pipe is for raw RGB, with `size`: a y4m stream says what it is")
        self.raw  # noqa: B018 (raises where there is no such format)

    @property
    def raw(self) -> PipeFormat | None:
        """The format of raw RGB; None for y4m."""
        if self.size is None:
            return None
        return raw_format(self.size, self.pix_fmt or _USUAL_RAW)


def _require_frame_settings(noise: str, matrix: str | None, batch: int) -> None:
    """Raise InvalidValueError where what is said of frames is out of range."""
    refuse(
        [
            (noise not in FRAME_NOISES, f"`noise` must be one of {', '.join(FRAME_NOISES)}, not {noise!r}"),
            (matrix not in (None, *WEIGHTS), f"`matrix` must be one of {', '.join(WEIGHTS)}, not {matrix!r}"),
            (batch < 1, f"`batch` must be at least 1, not {batch}"),
        ]
    )
