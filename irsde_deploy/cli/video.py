"""irsde-deploy run, of video files."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..core.noise import FRAME_NOISES
from ..core.presets import PRESETS
from ..errors import InputFileError, InvalidValueError, IrsdeError, OutputFileError
from .common import EXIT_SOME_FAILED, FiniteRange, progress, say
from .pipe import run_pipe
from .sampling import Model, for_frames, quality_for

if TYPE_CHECKING:
    from ..core.arrays import Float32
    from ..core.sampling import Sampling
    from ..pictures.restoring import Restoring
    from ..restorer import Restorer
    from ..video.job import VideoJob, VideoProgress
    from ..video.reading import VideoSource

PIPE = "-"
_PIPE_OPTIONS = ("noise", "pix_fmt", "size", "matrix")
_MATRICES = ("bt601", "bt709", "bt2020")


def _seconds(text: str) -> Fraction:
    """A time: seconds, MM:SS or HH:MM:SS, with a fraction if need be."""
    match = re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,2}):)?(\d{1,9}(?:\.\d{1,9})?)", text)
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
    def given(self) -> list[str]:
        """Names of the options that are on the command line."""
        return [entry.name for entry in fields(self) if getattr(self, entry.name) not in (None, False)]


def video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options for videos, given to the command as `video`."""
    names = [entry.name for entry in fields(VideoOptions)]

    @functools.wraps(command)
    def with_options(**settings: Any) -> Any:
        return command(video=VideoOptions(**{name: settings.pop(name) for name in names}), **settings)

    for option in (
        click.option("--matrix", type=click.Choice(_MATRICES), help="Of videos that do not say [default: by size]."),
        click.option("--size", metavar="WxH", help="Of raw RGB frames on a pipe."),
        click.option("--resume", is_flag=True, help="Continue a video that was cut off."),
        click.option("--segment", type=FiniteRange(0.01, 3600), help="Seconds to resume by [default: 5]."),
        click.option("--noise", type=click.Choice(FRAME_NOISES), help="Field of a video's frames [default: fixed]."),
        click.option(
            "--end", type=_seconds, metavar="TIME", help="Of the part of a video, in seconds or HH:MM:SS.mmm."
        ),
        click.option("--start", type=_seconds, metavar="TIME", help="Of the part of a video, which then begins at 0."),
        click.option("--pix-fmt", help="Of a video's frames, as FFmpeg names it [default: the source's]."),
        click.option("--preset", help="Of the video encoder."),
        click.option("--crf", type=FiniteRange(0, 63), help="Quality of the video encoder [default: 18 (x264)]."),
        click.option("--codec", help="Video encoder, as FFmpeg names it [default: libx264; libvpx-vp9 for .webm]."),
    ):
        with_options = option(with_options)
    return with_options


def of_videos(inputs: Sequence[str]) -> bool:
    """Whether the inputs are, or seem to be, videos or a pipe."""
    from ..pictures.planning import is_video_name

    return any(text == PIPE or (is_video_name(text) and not Path(text).is_dir()) for text in inputs)


def refuse_video_options(options: VideoOptions) -> None:
    """Raise InvalidValueError where pictures are to be restored with options for videos."""
    if options.given:
        raise InvalidValueError(f"{_flag(options.given[0])} is for videos, and the inputs are pictures: leave it out")


def refuse_picture_options(suffix: str | None) -> None:
    """Raise InvalidValueError where videos are to be restored with options for pictures."""
    if suffix is not None:
        raise InvalidValueError("--format is for pictures: the output's name says what a video is written as")


def run_videos(
    inputs: Sequence[str],
    output: Path,
    model: Model,
    sampling: Sampling,
    target: float | None,
    batch: int,
    existing: str | None,
    options: VideoOptions,
) -> None:
    """Restore a pipe, or video files one after another."""
    from ..video.job import runs_on

    if PIPE in inputs or str(output) == PIPE:
        _require_pipe(inputs, output, existing, options)
        run_pipe(model, sampling, target, batch, options)
        return
    if options.size is not None:
        raise InvalidValueError("--size is for raw RGB on a pipe: a video file says its size")
    pairs = _plan(inputs, output)
    todo = [pair for pair in pairs if existing != "skip" or not os.path.lexists(pair[1])]
    restorer = model.load()
    place = runs_on(restorer)  # asked once: an engine that is chosen for a size has another name then
    failed = 0
    for source, goal in todo:
        run = _Run(model, restorer, place, sampling, target, batch, options)
        try:
            failed += run.restore(source, goal, existing == "overwrite")
        except (IrsdeError, MemoryError, OSError) as error:
            if len(pairs) == 1 or isinstance(error, BrokenPipeError):
                raise
            failed += 1
            say(_words(error, source))
    if len(pairs) > 1:
        click.echo(f"{len(todo) - failed} written, {failed} failed, {len(pairs) - len(todo)} skipped")
    if failed:
        sys.exit(EXIT_SOME_FAILED)


def _words(error: Exception, source: Path) -> str:
    """What went wrong with one of several videos."""
    if isinstance(error, MemoryError) and not str(error):
        return f"{source}: not enough memory for frames of this size"
    if isinstance(error, OSError) and not isinstance(error, IrsdeError):
        return f"{str(error.filename or source).removeprefix('file:')}: {error.strerror or error}"
    return str(error)


def _require_pipe(inputs: Sequence[str], output: Path, existing: str | None, options: VideoOptions) -> None:
    if list(inputs) != [PIPE] or str(output) != PIPE:
        raise InvalidValueError("a pipe goes in and out: the input is - alone, and the output -o -")
    other = next((name for name in options.given if name not in _PIPE_OPTIONS), None)
    if other is not None or existing is not None:
        what = _flag(other) if other else "--overwrite or --skip-existing"
        raise InvalidValueError(f"{what} is for files, not for pipes: leave it out")
    if options.pix_fmt is not None and options.size is None:
        raise InvalidValueError("--pix-fmt of a pipe is for raw RGB, with --size: a y4m stream says what it is")


def _plan(inputs: Sequence[str], output: Path) -> list[tuple[Path, Path]]:
    """(input, output) of every video."""
    from ..pictures.planning import is_video_name
    from ..video.encoding import CONTAINERS
    from ..video.work_folder import partial_of

    for text in inputs:
        if not Path(text).is_file():
            raise InputFileError(f"{text}: no such file: videos are given by the names of local files")
        if not is_video_name(text):
            raise InvalidValueError(f"{text} is not a video: restore pictures and videos in calls of their own")
    as_file = output.suffix.lower() in CONTAINERS and not output.is_dir()
    if as_file and len(inputs) > 1:
        raise OutputFileError(f"{output}: one file cannot hold {len(inputs)} videos: give a folder with -o")
    if not as_file and output.suffix and len(inputs) == 1 and not output.is_dir():
        names = ", ".join(CONTAINERS)
        raise OutputFileError(f"{output}: neither the name of a video ({names}) nor a folder: make the folder first")
    pairs = []
    for text in inputs:
        path = Path(text)
        name = path.name if path.suffix.lower() in CONTAINERS else f"{path.stem}.mkv"
        pairs.append((path, output if as_file else output / name))
    if len({goal for _, goal in pairs}) < len(pairs):
        raise OutputFileError(f"{output}: two videos of one name would replace each other: restore them one by one")
    partial = {partial_of(goal): goal for _, goal in pairs}
    if (taken := next((goal for _, goal in pairs if goal in partial), None)) is not None:
        raise OutputFileError(
            f"{taken}: is what an interrupted run of {partial[taken]} would leave: restore them one by one"
        )
    return pairs


class _Run:
    """One video on its way."""

    def __init__(
        self,
        model: Model,
        restorer: Restorer,
        place: list[str],
        sampling: Sampling,
        target: float | None,
        batch: int,
        options: VideoOptions,
    ) -> None:
        self.model, self.restorer, self.place, self.sampling = model, restorer, place, sampling
        self.restoring: Restoring
        self.target, self.batch, self.options = target, batch, options

    def restore(self, path: Path, goal: Path, overwrite: bool) -> bool:
        """Restore a video; whether some of it could not be used."""
        from ..video.job import VideoProgress, prepare

        job = self._job(path, goal, overwrite)
        done = VideoProgress()
        work, pieces = prepare(job)
        frames = f"{job.expected_frames} frames, " if job.expected_frames else ""
        height, width = job.source.shown_size
        click.echo(f"{self.restorer.engine.name}: {self.restoring}, {self.options.noise or 'fixed'} noise")
        click.echo(
            f"{path}: {width}x{height}, {frames}{float(job.source.rate):.5g} fps -> {goal}: {job.encoding.words}"
        )
        if pieces:
            click.echo(f"{sum(len(piece.times) for piece in pieces)} frames are done already")
        started = time.monotonic()
        try:
            self._restore(job, work, pieces, done)
        except BaseException:
            if done.partial is not None:
                say(f"{done.partial} holds the first {done.seconds:.2f} s; --resume continues after the last segment")
            elif work.exists:
                say(f"{goal}: --resume continues after the last whole segment")
            raise
        finally:
            done.notes += [f"restored in {tiling}" for tiling in self.restoring.tilings]
            for note in done.notes:
                say(f"note: {path}: {note}")
        seconds = max(time.monotonic() - started, 1e-9)
        click.echo(f"{goal}: {done.frames} frames in {seconds:.1f} s, {done.frames / seconds:.2f} fps")
        return _tell_losses(path, done)

    def _job(self, path: Path, goal: Path, overwrite: bool) -> VideoJob:
        """Look at the source, and settle everything that the result depends on."""
        from ..video.encoding import choose_encoding
        from ..video.job import SEGMENT_SECONDS, VideoJob, engine_fingerprint
        from ..video.probing import probe
        from ..video.reading import Span

        options = self.options
        span = Span(options.start or Fraction(0), options.end)
        source = probe(path, options.matrix, span.start)
        encoding = choose_encoding(source, goal, options.codec, options.crf, options.preset, options.pix_fmt)
        self._settle(source, span, goal)
        for note in (*source.notes, *encoding.notes):
            say(f"note: {path}: {note}")
        return VideoJob(
            source,
            goal,
            encoding,
            {
                "engine": engine_fingerprint(self.model.engine, self.model.fallback),
                "runs on": self.place,
                "sampling": {**asdict(self.sampling), **self.restoring.about, "tiles": self.tiles},
                "noise": options.noise or "fixed",
            },
            span,
            options.start is not None,
            options.segment or SEGMENT_SECONDS,
            self.batch,
            options.resume,
            overwrite,
        )

    def _settle(self, source: VideoSource, span: Any, goal: Path) -> None:
        """Choose quality and noise level by the first frame, where they are not given."""
        from ..video.reading import Losses, read_frames

        first = next(read_frames(source, span, Losses()), None)
        if first is None:
            raise InputFileError(f"{source.path}: has no frames in the part that --start and --end name")
        picture = source.to_rgb(first)
        if self.target is not None:
            pictures = np.stack([picture] * self.batch)
            quality = self._earlier_quality(goal) or quality_for(self.target, self.restorer, self.sampling, pictures)
            self.sampling = self.sampling.of_quality(quality)
        self.restoring = for_frames(self.model.engine, self.restorer, self.sampling, picture)
        self.tiles = str(self.restoring.way((self.batch, *picture.shape)) or "whole")

    def _earlier_quality(self, goal: Path) -> str | None:
        """What a run that is to be resumed has chosen; another measurement might choose another."""
        from ..video.work_folder import WorkFolder

        work = WorkFolder(goal)
        sampling = work.settings.get("sampling") if self.options.resume and work.exists else None
        quality = sampling.get("quality") if isinstance(sampling, dict) else None
        if quality not in list(PRESETS):
            return None
        click.echo(f"{quality} ({PRESETS[quality]}), as in the run that was cut off")
        return str(quality)

    def _restore(self, job: VideoJob, work: Any, pieces: Any, done: VideoProgress) -> None:
        from ..video.job import restore_video

        steps = self.restoring.steps
        started = time.monotonic()
        with progress(max(1, job.expected_frames * steps), "") as advance:

            def tell(step: int = 0) -> None:
                fps = done.frames / max(time.monotonic() - started, 1e-9)
                position = (done.resumed + done.frames) * steps + step
                advance(position, f"{done.resumed + done.frames}/{job.expected_frames or '?'} frames, {fps:.2f} fps")

            def restore(pictures: Float32, frames: Sequence[int]) -> Float32:
                numbers = frames if self.options.noise == "per-frame" else None
                restored: Float32 = self.restoring(pictures, lambda k: tell(k * len(frames)), numbers)
                return restored

            restore_video(job, work, pieces, restore, done, tell)


def _tell_losses(path: Path, done: VideoProgress) -> bool:
    losses = done.losses
    if losses.damaged:
        packets = "1 damaged packet" if losses.damaged == 1 else f"{losses.damaged} damaged packets"
        say(f"{path}: {packets} could not be decoded: frames are missing in the output")
    if losses.missing:
        say(f"{path}: was cut short: {losses.missing}: frames or sound are missing in the output")
    if losses.retimed:
        say(f"note: {path}: {losses.retimed} frames without a time that rises follow the frame before each")
    return bool(losses.damaged or losses.missing)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
