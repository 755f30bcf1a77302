"""irsde-deploy run."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..errors import OutputFileError
from .common import EXIT_SOME_FAILED, PATH, device_options, note_uncalibrated, progress, say
from .sampling import Model, quality_for, sampling_options, seconds_wanted
from .video import VideoOptions, of_videos, refuse_picture_options, refuse_video_options, run_videos, video_options

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..pictures.batch import Outcome
    from ..pictures.planning import Job
    from ..pictures.restoring import Restoring
    from ..restorer import Restorer


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--engine", type=PATH, required=True, help="Model to run: .onnx, .plan, or a PyTorch checkpoint.")
@click.option("-o", "--output", type=PATH, required=True, help="Picture file for one input, else a folder.")
@sampling_options
@click.option(
    "--target-seconds",
    type=float,
    help="Measure an evaluation at the first picture's size; take the best preset within.",
)
@click.option("--target-fps", type=float, help="The same, in pictures a second.")
@device_options
@click.option(
    "--fallback",
    type=PATH,
    help="Engine of the same model, in FP32, that does a picture again where a state is not finite.",
)
@click.option("--rebuild", is_flag=True, help="Build a plan again first where it does not fit this machine.")
@click.option(
    "--batch",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Pictures of one size at a time.",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["png", "jpg", "webp", "tiff"]),
    help="Of the outputs [default: the inputs'].",
)
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace existing outputs.")
@click.option("--skip-existing", "existing", flag_value="skip", help="Leave existing outputs alone.")
@video_options
def run(
    inputs: tuple[str, ...],
    engine: Path,
    output: Path,
    sampling: Sampling,
    target_seconds: float | None,
    target_fps: float | None,
    device_settings: dict[str, Any],
    fallback: Path | None,
    rebuild: bool,
    batch: int,
    suffix: str | None,
    existing: str | None,
    video: VideoOptions,
) -> None:
    """Restore pictures: INPUTS are files, folders (with everything below) and glob patterns.

    PNG, JPEG, WebP and TIFF, 8 and 16 bit, any size. A broken picture is reported and the rest goes on (exit code 4).

    Or videos: INPUTS are video files. Or a pipe: INPUTS and the output are "-", y4m or raw RGB on stdin and stdout.
    """
    from ..pictures.planning import plan_jobs

    target = seconds_wanted(target_seconds, target_fps, sampling)
    model = Model(engine, fallback, device_settings, rebuild)
    if of_videos(inputs):
        refuse_picture_options(suffix)
        run_videos(inputs, output, model, sampling, target, batch, existing, video)
        return
    refuse_video_options(video)
    planned = plan_jobs(inputs, output, f".{suffix}" if suffix else None)
    jobs = _still_to_do(planned, existing)
    from ..pictures.restoring import Restoring

    restorer = model.load()
    if target is not None:
        sampling = sampling.of_quality(_quality_for(target, restorer, sampling, jobs, batch))
    restoring = Restoring(restorer, sampling)
    click.echo(f"{(announced := restorer.engine.name)}: {restoring}")
    note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    tally = _restore_all(restoring, jobs, batch)
    if restoring.blind:
        note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    for tiling in restoring.tilings:
        say(f"note: restored in {tiling}: --tile whole or another side changes that")
    if restorer.fallbacks:
        say(f"note: {restorer.fallbacks} of {len(jobs)} done by {fallback}: a state of {engine} was not finite")
    skipped = f", {len(planned) - len(jobs)} skipped" if len(jobs) < len(planned) else ""
    chosen = "" if restorer.engine.name == announced else f", by {restorer.engine.name}"
    click.echo(f"{tally.summary}{_levels(restoring.levels)}{skipped}{chosen}")
    if tally.failed:
        sys.exit(EXIT_SOME_FAILED)


def _restore_all(restoring: Restoring, jobs: list[Job], batch: int) -> _Outcomes:
    """Restore and write every job, with progress."""
    from ..pictures.batch import restore_files

    tally = _Outcomes(pictures=len(jobs), steps=restoring.steps)
    with progress(len(jobs) * restoring.steps, "") as advance:

        def restore(pictures: Any) -> Any:
            return restoring(pictures, lambda k: advance(tally.evaluations + k * len(pictures), tally.rate))

        for outcome in restore_files(restore, jobs, batch):
            tally.add(outcome)
            advance(tally.evaluations, tally.rate)
    return tally


def _levels(levels: list[float]) -> str:
    return f", noise levels {min(levels):.1f} to {max(levels):.1f}" if levels else ""


def _quality_for(target: float, restorer: Restorer, sampling: Sampling, jobs: list[Job], batch: int) -> str | None:
    """The best preset within the target at the size of the first picture that can be restored; None without any."""
    from ..errors import IrsdeError
    from ..pictures.files import read_picture

    for job in jobs:
        try:
            pictures = np.stack([read_picture(job.source).rgb] * min(batch, len(jobs)))
            return quality_for(target, restorer, sampling, pictures)
        except (IrsdeError, MemoryError):
            continue  # told when its turn comes
    return None


def _still_to_do(planned: list[Job], existing: str | None) -> list[Job]:
    """The jobs whose outputs are not there yet, or all; without a word from the user, existing outputs are an error."""
    if existing == "overwrite":
        return planned
    missing = [job for job in planned if not os.path.lexists(job.target)]
    if len(missing) < len(planned) and existing is None:
        first = next(job.target for job in planned if os.path.lexists(job.target))
        raise OutputFileError(f"{first}: exists already: pass --overwrite to replace or --skip-existing to keep it")
    return missing


@dataclass
class _Outcomes:
    """How far a run is; says what went wrong as it is counted."""

    pictures: int
    steps: int
    written: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.failed += 1
            say(outcome.error)
            return
        self.written += 1
        if outcome.lost:
            say(f"note: {outcome.job.target}: its format cannot hold {' and '.join(outcome.lost)}")

    @property
    def evaluations(self) -> int:
        return (self.written + self.failed) * self.steps

    @property
    def rate(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.written}/{self.pictures} pictures, {self.written / seconds:.2f} pictures/s"

    @property
    def summary(self) -> str:
        return f"{self.written} written, {self.failed} failed in {time.monotonic() - self.started:.1f} s"
