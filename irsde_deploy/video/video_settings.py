"""What a caller can say of a video file, and of video on pipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import TypeVar

from ..core.noise import FRAME_NOISES
from ..errors import InvalidValueError, refuse
from ..system.parsing import shown
from .colour import WEIGHTS
from .job import SEGMENT_SECONDS
from .pipe_formats import PipeFormat, raw_format
from .source import Span

_T = TypeVar("_T")

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
        resume: continue a video that was interrupted, after its last whole segment.
        overwrite: replace an output that is there, and what is left of a run that was interrupted.

    Raises:
        InvalidValueError: a value of another kind or out of range, an end that is not after the start, or `resume` with
            `overwrite`.
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
        object.__setattr__(self, "batch", _whole("batch", self.batch))
        _require_texts(self, ("codec", "preset", "pix_fmt"))
        _require_frame_settings(self.noise, self.matrix, self.batch)
        least, most = _SEGMENTS
        refuse(
            [
                (
                    not _is_number(self.segment) or not least <= self.segment <= most,
                    f"`segment` must be {least:g} to {most:g} s, not {shown(self.segment)}",
                ),
                (
                    self.crf is not None and not (_is_number(self.crf) and 0 <= self.crf <= _HIGHEST_CRF),
                    f"`crf` must be a number from 0 to {_HIGHEST_CRF}, not {shown(self.crf)}",
                ),
                *(
                    (not isinstance(getattr(self, name), bool), f"`{name}` must be true or false")
                    for name in ("resume", "overwrite")
                ),
                (
                    self.resume and self.overwrite,
                    "`resume` continues what is there and `overwrite` begins anew: pass one of them",
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
    wrong = f"`{name}` must be a finite number of seconds, not {shown(seconds)}"
    if not _is_number(seconds):
        raise InvalidValueError(wrong)
    try:
        return Fraction(seconds if isinstance(seconds, Fraction) else str(seconds))
    except ValueError:
        raise InvalidValueError(wrong) from None


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
        object.__setattr__(self, "batch", _whole("batch", self.batch))
        _require_texts(self, ("size", "pix_fmt"))
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


def of_kind(kind: type[_T], settings: _T | None) -> _T:
    """The settings, or the usual ones for None.

    Raises:
        InvalidValueError: they are of another kind.
    """
    if settings is None:
        return kind()
    if not isinstance(settings, kind):
        raise InvalidValueError(f"settings must be a {kind.__name__}, not {shown(settings)}")
    return settings


def _whole(name: str, value: object) -> int:
    """A whole number, plain."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidValueError(f"`{name}` must be a whole number, not {shown(value)}")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _require_texts(settings: object, names: Sequence[str]) -> None:
    """Raise InvalidValueError where one of some settings is neither text nor None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not isinstance(value, str):
            raise InvalidValueError(f"`{name}` must be text, not {shown(value)}")


def _require_frame_settings(noise: str, matrix: str | None, batch: int) -> None:
    """Raise InvalidValueError where what is said of frames is out of range."""
    matrices = (None, *WEIGHTS)
    refuse(
        [
            (noise not in list(FRAME_NOISES), f"`noise` must be one of {', '.join(FRAME_NOISES)}, not {shown(noise)}"),
            (matrix not in matrices, f"`matrix` must be one of {', '.join(WEIGHTS)}, not {shown(matrix)}"),
            (batch < 1, f"`batch` must be at least 1, not {batch}"),
        ]
    )
