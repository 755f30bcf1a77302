"""irsde-deploy run."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..core.sampling import Sampling
from ..runtimes.opening import ENGINES
from ..system.files import missing, most_alike
from .command import Choice, command, json_option, one_engine
from .common import EXIT_SOME_FAILED, PATH, device_options, note_uncalibrated
from .file_reports import FileReports
from .output import note, progress, report, say, tell
from .sampling import Model, sampling_options, show_quality
from .video import PIPE, of_videos, run_videos
from .video_options import VideoOptions, refuse_picture_options, refuse_video_options, video_options

if TYPE_CHECKING:
    from ..pictures.batch import Outcome, Tally
    from ..pictures.planning import Job
    from ..pictures.restoring import Restoring
    from ..restorer import Restorer


@command(
    "irsde-deploy run --engine derain.onnx photos/ -o restored/ --quality fast",
    "irsde-deploy run derain.onnx in.mp4 -o out.mp4 --resume",
)
@click.argument("inputs", nargs=-1, metavar="[ENGINE] INPUTS...")
@option_group(
    "Model, inputs and outputs",
    click.option("--engine", type=PATH, help="Model to run: .onnx, .plan, or a checkpoint; or the first INPUT."),
    click.option("-o", "--output", type=PATH, required=True, help="Picture file for one input, else a folder."),
    click.option(
        "--format",
        "suffix",
        type=Choice(["png", "jpg", "webp", "tiff"]),
        help="Format of the outputs [default: the inputs'].",
    ),
    click.option("--overwrite", "existing", flag_value="overwrite", help="Replace existing outputs."),
    click.option("--skip-existing", "existing", flag_value="skip", help="Leave existing outputs alone."),
    json_option("Print one JSON object on stdout: outputs, the status of each file, notes, timings."),
)
@sampling_options
@option_group(
    "Speed",
    click.option(
        "--target-seconds",
        type=float,
        help="Measure an evaluation at the first picture's size; take the best preset within.",
    ),
    click.option("--target-fps", type=float, help="The same, in pictures a second."),
    click.option(
        "--batch",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Pictures of one size at a time.",
    ),
)
@device_options(
    click.option(
        "--fallback",
        type=PATH,
        help="Engine of the same model, in FP32, that does a picture again where a state is not finite.",
    ),
    click.option("--rebuild", is_flag=True, help="Build a plan again first where it does not fit this machine."),
)
@video_options
def run(
    inputs: tuple[str, ...],
    engine: Path | None,
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

    PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PNM and JPEG 2000, 8 and 16 bit, any size. A broken picture is reported and
    the rest goes on (exit code 4).

    Or videos: INPUTS are video files. Or a pipe: INPUTS and the output are "-", y4m or raw RGB on stdin and stdout.
    """
    from ..pictures.planning import plan_jobs, still_to_do
    from ..pictures.targets import seconds_wanted

    target = seconds_wanted(target_seconds, target_fps, sampling)
    engine, inputs = _engine_and_inputs(engine, inputs)
    model = Model(engine, fallback, device_settings, rebuild)
    if of_videos(inputs) or str(output) == PIPE:
        refuse_picture_options(suffix)
        run_videos(inputs, output, model, sampling, target, batch, existing, video)
        return
    refuse_video_options(video)
    planned = plan_jobs(inputs, output, f".{suffix}" if suffix else None, note)
    jobs = still_to_do(planned, existing)
    _run_pictures(planned, jobs, model, sampling, target, batch)


def _engine_and_inputs(engine: Path | None, inputs: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """The engine, by --engine or as the first of the inputs, and the others."""
    by_place = bool(inputs) and Path(inputs[0]).suffix.lower() in ENGINES
    first = Path(inputs[0]) if by_place else None
    if engine is None and not by_place and inputs:
        _require_no_mistyped_engine(Path(inputs[0]))
    chosen = one_engine(first, engine, "the first INPUT")
    others = inputs[1:] if by_place else inputs
    if not others:
        raise click.UsageError("no input is given: name pictures, folders or videos", click.get_current_context())
    return chosen, others


def _require_no_mistyped_engine(path: Path) -> None:
    """Raise InputFileError where the first input is not there, and an engine of nearly that name is."""
    meant = None if path.exists() else most_alike(path)
    if meant is not None and meant.suffix.lower() in ENGINES:
        raise missing(path)


def _run_pictures(
    planned: list[Job], jobs: list[Job], model: Model, sampling: Sampling, target: float | None, batch: int
) -> None:
    """Restore pictures, and say how."""
    from ..pictures.restoring import Restoring

    restorer = model.load()
    if target is not None:
        sampling = _with_quality(target, restorer, sampling, jobs, batch)
    restoring = Restoring(restorer, sampling)
    announced = restorer.engine.name
    tell(f"{announced}: {restoring}")
    report(sampling=str(restoring))
    note_uncalibrated(model.engine, restorer.card, restoring.uncalibrated)
    shown = _PictureProgress(planned, jobs, restoring.steps)
    _restore_all(restoring, jobs, batch, shown)
    if restoring.blind:
        note_uncalibrated(model.engine, restorer.card, restoring.uncalibrated)
    for tiling in restoring.tilings:
        note(f"restored in {tiling}: --tile whole or another side changes that")
    if restorer.fallbacks:
        done = f"{restorer.fallbacks} of {len(jobs)} done by {model.fallback}"
        note(f"{done}: a state of {model.engine} was not finite")
    chosen = "" if restorer.engine.name == announced else f", by {restorer.engine.name}"
    tell(f"{shown.summary(restoring.levels)}{chosen}")
    if shown.tally.failed:
        sys.exit(EXIT_SOME_FAILED)


def _with_quality(target: float, restorer: Restorer, sampling: Sampling, jobs: list[Job], batch: int) -> Sampling:
    """The sampling with the best quality within a target, if there is a picture to measure on."""
    from ..pictures.targets import choose_quality_for

    choice = choose_quality_for(target, restorer, sampling, jobs, batch)
    if choice is None:
        return sampling
    show_quality(choice)
    if choice.note is not None:
        note(choice.note)
    return Sampling.of(sampling, quality=choice.quality)


def _restore_all(restoring: Restoring, jobs: list[Job], batch: int, shown: _PictureProgress) -> None:
    """Restore and write every job, with progress."""
    from ..pictures.batch import restore_files

    with progress(len(jobs) * restoring.steps, "") as advance:

        def restore(pictures: Any) -> Any:
            def on_step(step: int) -> None:
                advance(shown.evaluations + step * len(pictures), shown.rate)

            return restoring(pictures, on_step)

        for outcome in restore_files(restore, jobs, batch):
            shown.add(outcome)
            advance(shown.evaluations, shown.rate)


class _PictureProgress:
    """How far a run is; says what went wrong as it is counted."""

    def __init__(self, planned: list[Job], jobs: list[Job], steps: int) -> None:
        from ..pictures.batch import Tally

        self.pictures, self.steps = len(jobs), steps
        self.tally: Tally = Tally(skipped=len(planned) - len(jobs))
        self._started = time.monotonic()
        self._files = FileReports(planned, jobs)

    def add(self, outcome: Outcome) -> None:
        self.tally.add(outcome)
        notes = [f"{outcome.job.source}: {sentence}" for sentence in outcome.notes]
        if outcome.lost:
            notes.append(f"{outcome.job.target}: its format cannot hold {' and '.join(outcome.lost)}")
        if outcome.error is not None:
            say(outcome.error)
        for sentence in notes:
            note(sentence)
        self._files.add(outcome, notes)

    @property
    def evaluations(self) -> int:
        return (self.tally.written + self.tally.failed) * self.steps

    @property
    def rate(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        written = self.tally.written
        return f"{written}/{self.pictures} pictures, {written / seconds:.2f} pictures/s"

    def summary(self, levels: list[float]) -> str:
        """The last line, with the noise levels that were estimated."""
        tally = self.tally
        words = f"{tally.written} written, {tally.failed} failed in {time.monotonic() - self._started:.1f} s"
        if levels:
            words += f", noise levels {min(levels):.1f} to {max(levels):.1f}"
        if tally.skipped:
            words += f", {tally.skipped} skipped"
        return words
