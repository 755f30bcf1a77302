"""Options of `run` that are for videos and pipes, and the settings that they make."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..core.noise import FRAME_NOISES
from ..errors import InvalidValueError
from .command import Choice
from .common import FiniteRange

if TYPE_CHECKING:
    from ..video import PipeSettings, VideoSettings

_MATRICES = ("bt601", "bt709", "bt2020")
_TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,2}):)?(\d{1,9}(?:\.\d{1,9})?)")


def _seconds(text: str) -> Fraction:
    """A time: seconds, MM:SS or HH:MM:SS, with a fraction if need be."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time: give seconds (12.5) or HH:MM:SS.mmm")
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    if (match[2] and seconds >= 60) or (match[1] and minutes >= 60):
        raise click.BadParameter(f"{text!r} is not a time: minutes and seconds are below 60 in HH:MM:SS.mmm")
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True)
class VideoOptions:
    """Options of `run` that are for videos alone; None where they are not given."""

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    noise: str | None = None
    segment: float | None = None
    resume: bool = False
    size: str | None = None
    matrix: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that are on the command line, under the names of the settings."""
        return {name: value for name, value in vars(self).items() if value is not None and value is not False}

    def of_files(self, batch: int, overwrite: bool) -> VideoSettings:
        """The settings of a video file."""
        from ..video import VideoSettings

        if self.size is not None:
            raise InvalidValueError("--size is for raw RGB on a pipe: a video file says its size")
        return VideoSettings(**self.given, batch=batch, overwrite=overwrite)

    def of_a_pipe(self, batch: int) -> PipeSettings:
        """The settings of a pipe."""
        from ..video import PipeSettings

        return PipeSettings(**self.given, batch=batch)


_OPTIONS = (
    click.option("--codec", help="Video encoder, as FFmpeg names it [default: libx264; libvpx-vp9 for .webm]."),
    click.option("--crf", type=FiniteRange(0, 63), help="Quality of the video encoder [default: 18 (x264)]."),
    click.option("--preset", help="Effort of the video encoder, by its own name [default: the encoder's]."),
    click.option("--pix-fmt", help="Pixel format of a video's frames, as FFmpeg names it [default: the source's]."),
    click.option("--start", type=_seconds, metavar="TIME", help="Beginning of a part of a video, which is then at 0."),
    click.option("--end", type=_seconds, metavar="TIME", help="End of a part of a video, in seconds or HH:MM:SS.mmm."),
    click.option("--noise", type=Choice(FRAME_NOISES), help="Field of a video's frames [default: fixed]."),
    click.option(
        "--segment",
        type=FiniteRange(0.01, 3600),
        help="Seconds of video that can be lost at most [default: 5].",
    ),
    click.option("--resume", is_flag=True, help="Continue a video whose run was interrupted."),
    click.option("--size", metavar="WxH", help="Size of raw RGB frames on a pipe."),
    click.option("--matrix", type=Choice(_MATRICES), help="Colours of videos that do not say [default: by size]."),
)


def video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options for videos, given to the command as `video`."""
    names = [entry.name for entry in fields(VideoOptions)]

    @functools.wraps(command)
    def with_options(**settings: Any) -> Any:
        given = {name: settings.pop(name) for name in names}
        return command(video=VideoOptions(**given), **settings)

    return option_group("Videos and pipes", *_OPTIONS)(with_options)


def refuse_video_options(options: VideoOptions) -> None:
    """Raise InvalidValueError where pictures are to be restored with options for videos."""
    if options.given:
        first = next(iter(options.given))
        raise InvalidValueError(f"`{first}` is for videos, and the inputs are pictures: leave it out")


def refuse_picture_options(suffix: str | None) -> None:
    """Raise InvalidValueError where videos are to be restored with options for pictures."""
    if suffix is not None:
        raise InvalidValueError("--format is for pictures: the output's name says what a video is written as")
