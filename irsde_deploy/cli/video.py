"""irsde-deploy run, of video files."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IrsdeError, refuse
from .common import EXIT_SOME_FAILED
from .file_reports import FileReports
from .output import inform, note, progress, report, say, tell, wants_json
from .pipe import run_pipe
from .sampling import Model, show_quality
from .video_options import VideoOptions

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..pictures.batch import Outcome
    from ..pictures.planning import Job
    from ..restorer import Restorer
    from ..video import VideoOutcome, VideoProgress, VideoSettings, VideoStart

PIPE = "-"
_OF_PIPES = ("noise", "pix_fmt", "size", "matrix")


def of_videos(inputs: Sequence[str]) -> bool:
    """Whether the inputs are, or seem to be, videos or a pipe."""
    from ..pictures.finding import is_video_name

    return any(text == PIPE or (is_video_name(text) and not Path(text).is_dir()) for text in inputs)


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
    if PIPE in inputs or str(output) == PIPE:
        _require_pipe(inputs, output, existing, options)
        run_pipe(model, sampling, target, options.of_a_pipe(batch))
        return
    settings = options.of_files(batch, existing == "overwrite")
    _run_files(inputs, output, model, sampling, target, settings, existing == "skip")


def _require_pipe(inputs: Sequence[str], output: Path, existing: str | None, options: VideoOptions) -> None:
    """Raise InvalidValueError for a pipe on one side alone, and for options that are for files."""
    foreign = [f"`{name}`" for name in options.given if name not in _OF_PIPES]
    if existing is not None:
        foreign.append("--overwrite or --skip-existing")
    refuse(
        [
            (
                list(inputs) != [PIPE] or str(output) != PIPE,
                "a pipe goes in and out: the input is - alone, and the output -o -",
            ),
            (wants_json(), "--json is for files: a pipe's stdout is for the video, leave it out"),
            (bool(foreign), f"{''.join(foreign[:1])} is for files, not for pipes: leave it out"),
        ]
    )


def _run_files(
    inputs: Sequence[str],
    output: Path,
    model: Model,
    sampling: Sampling,
    target: float | None,
    settings: VideoSettings,
    skip: bool,
) -> None:
    """Restore video files one after another."""
    from ..pictures.batch import Outcome, Tally, in_turn
    from ..pictures.planning import without_existing
    from ..video.planning import plan_videos
    from ..video.work_folder import clear_finished

    planned = plan_videos(inputs, output)
    jobs = without_existing(planned) if skip else planned
    for job in planned:
        if job not in jobs:
            clear_finished(job.target)  # of a run that was killed when its output was there
    if settings.resume:
        jobs = _incomplete(jobs)
    restorer = model.load()
    files = FileReports(planned, jobs)
    restore = functools.partial(_restore, restorer, sampling, target, settings, files)
    tally = Tally(skipped=len(planned) - len(jobs))
    # a single video's error ends the command, with that error's exit code
    outcomes = in_turn(restore, jobs) if len(planned) > 1 else map(restore, jobs)
    try:
        for outcome in outcomes:
            tally.add(outcome)
            if outcome.error is not None:
                say(outcome.error)
                files.add(outcome)
    except IrsdeError as error:
        files.add(Outcome(jobs[tally.written + tally.failed], str(error)))  # the first that has not ended
        raise
    if len(planned) > 1:
        tell(f"{tally.written} written, {tally.failed} failed, {tally.skipped} skipped")
    if tally.failed:
        sys.exit(EXIT_SOME_FAILED)


def _incomplete(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are not done, when runs are resumed; says which are."""
    from ..video.preparing import complete_already, complete_note

    left = []
    for job in jobs:
        if complete_already(job.source, job.target):
            note(complete_note(job.target))
        else:
            left.append(job)
    return left


def _restore(
    restorer: Restorer,
    sampling: Sampling,
    target: float | None,
    settings: VideoSettings,
    files: FileReports,
    job: Job,
) -> Outcome:
    """Restore a video, and say how."""
    from ..pictures.batch import Outcome
    from ..video import restore_video

    with _VideoDisplay(job, settings.noise) as shown:
        outcome = restore_video(
            restorer,
            job.source,
            job.target,
            sampling=sampling,
            settings=settings,
            target_seconds=target,
            on_quality=show_quality,
            on_note=shown.note,
            on_start=shown.start,
            on_progress=shown.progress,
            on_cut_off=shown.cut_off,
        )
    seconds = max(outcome.seconds, 1e-9)
    done_now = f"{outcome.frames} frames in {seconds:.1f} s, {outcome.frames / seconds:.2f} fps"
    tell(f"{job.target}: {done_now if outcome.frames else 'complete, no frame was left to restore'}")
    losses = outcome.losses
    for problem in losses.problems:
        say(f"{job.source}: {problem}")
    notes = [f"{job.source}: {sentence}" for sentence in losses.notes]
    for sentence in notes:
        note(sentence)
    done = Outcome(job, missing=losses.problems)
    files.add(done, notes, frames=outcome.frames, restoring_seconds=outcome.seconds)
    return done


class _VideoDisplay:
    """What is seen of a video on its way: lines, and on a terminal a bar, which ends before more lines come."""

    def __init__(self, job: Job, noise: str) -> None:
        self._job, self._noise = job, noise
        self._bar = ExitStack()
        self._advance: Callable[..., None]
        self._started = 0.0

    def __enter__(self) -> _VideoDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def start(self, start: VideoStart) -> None:
        """The first lines, and the bar."""
        job = start.job
        height, width = job.source.shown_size
        frames = f"{job.expected_frames} frames, " if job.expected_frames else ""
        tell(f"{start.engine}: {start.sampling}, {self._noise} noise")
        report(sampling=str(start.sampling))
        tell(
            f"{self._job.source}: {width}x{height}, {frames}{float(job.source.rate):.5g} fps -> {self._job.target}: "
            f"{job.encoding.words}"
        )
        if start.resumed:
            tell(f"{start.resumed} frames are done already")
        self._started = time.monotonic()
        self._advance = self._bar.enter_context(progress(max(1, job.expected_frames * start.steps), ""))

    def progress(self, state: VideoProgress) -> None:
        """The bar, moved."""
        fps = state.frames / max(time.monotonic() - self._started, 1e-9)
        words = f"{state.done}/{state.expected or '?'} frames, {fps:.2f} fps"
        self._advance(state.evaluations, words)

    def note(self, sentence: str) -> None:
        """A note."""
        self._bar.close()
        note(sentence)

    def cut_off(self, outcome: VideoOutcome) -> None:
        """What is left of a run that was interrupted."""
        self._bar.close()
        partial = outcome.partial
        if partial is not None:
            inform(f"{partial.path} holds the first {partial.seconds:.2f} s; --resume continues after the last segment")
        elif outcome.resumable:
            inform(f"{self._job.target}: --resume continues after the last whole segment")
