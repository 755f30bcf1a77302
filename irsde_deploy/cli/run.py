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

from ..errors import InvalidValueError, OutputFileError
from ..noise_level import blind_sde, estimate_start
from ..presets import PRESETS, quality_within, with_quality
from ..samplers import SAMPLERS
from ..sde import DenoisingSDE
from .common import EXIT_SOME_FAILED, PATH, SEED, device_options, progress, require_rgb, say
from .engines import rebuild_where_unfit

if TYPE_CHECKING:
    from ..batch import Job, Outcome
    from ..restorer import Restorer


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--engine", type=PATH, required=True, help="Model to run: .onnx, .plan, or a PyTorch checkpoint.")
@click.option("-o", "--output", type=PATH, required=True, help="Picture file for one input, else a folder.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), help="[default: the model card's]")
@click.option("--steps", type=int, help="Network evaluations a picture [default: the model card's].")
@click.option("--quality", type=click.Choice(list(PRESETS)), help="A preset in place of --sampler and --steps.")
@click.option(
    "--target-seconds",
    type=float,
    help="Measure an evaluation at the first picture's size; take the best preset within.",
)
@click.option("--target-fps", type=float, help="The same, in pictures a second.")
@click.option("--t0", type=int, help="First timestep [default: the model card's, else T].")
@click.option(
    "--noise-level",
    type=float,
    help="Of the pictures, standard deviation 0..255 [default: estimated]; denoising models only.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise; the same for every picture.")
@click.option(
    "--debias", is_flag=True, help="Take the bias of maximum-likelihood training out of the network's output."
)
@click.option("--clip", is_flag=True, help="Keep the predicted picture within [0, 1] at each step.")
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
def run(
    inputs: tuple[str, ...],
    engine: Path,
    output: Path,
    sampler: str | None,
    steps: int | None,
    quality: str | None,
    target_seconds: float | None,
    target_fps: float | None,
    t0: int | None,
    noise_level: float | None,
    seed: int,
    debias: bool,
    clip: bool,
    device_settings: dict[str, Any],
    fallback: Path | None,
    rebuild: bool,
    batch: int,
    suffix: str | None,
    existing: str | None,
) -> None:
    """Restore pictures: INPUTS are files, folders (with everything below) and glob patterns.

    PNG, JPEG, WebP and TIFF, 8 and 16 bit, any size. A broken picture is reported and the rest goes on (exit code 4).
    """
    from ..batch import plan_jobs, restore_files
    from ..restorer import load

    planned = plan_jobs(inputs, output, f".{suffix}" if suffix else None)
    jobs = _still_to_do(planned, existing)
    if rebuild:
        if engine.suffix.lower() != ".plan":
            raise InvalidValueError(f"{engine}: only a plan can be built again: leave out --rebuild")
        rebuild_where_unfit(engine)
    restorer = require_rgb(load(engine, fallback=fallback, **device_settings), engine)
    target = _target(target_seconds, target_fps)
    if target is not None:
        if quality is not None:
            raise InvalidValueError("a target chooses the quality: leave out --quality or the target")
        quality = _quality_for(target, restorer, jobs)
    sampler, steps = with_quality(quality, sampler, steps)
    table = restorer.plan(sampler, steps, debias, t0, noise_level)
    name = sampler or restorer.card.sampler
    blind = blind_sde(restorer.sde, noise_level, t0)
    click.echo(f"{restorer.engine.name}: {name}, {len(table)} steps, seed {seed}" + _noise_note(blind, noise_level))

    tally = _Tally(pictures=len(jobs), steps=len(table))
    with progress(len(jobs) * len(table), "") as advance:

        def restore(pictures: Any) -> Any:
            def on_step(k: int) -> None:
                advance(tally.evaluations + k * len(pictures), tally.rate)

            def restore_alike(some: Any, level: float | None) -> Any:
                options: dict[str, Any] = {"debias": debias, "t0": t0, "clip": clip, "noise_level": level}
                return restorer(some, name, steps, seed, on_step=on_step, **options)

            if blind is None:
                return restore_alike(pictures, noise_level)
            levels = [tally.note_level(estimate_start(picture, blind)) for picture in pictures]
            return np.stack([restore_alike(p, level) for p, level in zip(pictures, levels, strict=True)])

        for outcome in restore_files(restore, jobs, batch):
            tally.add(outcome)
            advance(tally.evaluations, tally.rate)
    if restorer.fallbacks:
        say(f"note: {restorer.fallbacks} of {len(jobs)} done by {fallback}: a state of {engine} was not finite")
    click.echo(f"{tally.summary}, {len(planned) - len(jobs)} skipped" if len(jobs) < len(planned) else tally.summary)
    if tally.failed:
        sys.exit(EXIT_SOME_FAILED)


def _target(seconds: float | None, fps: float | None) -> float | None:
    """Seconds that a picture may take, if the command line says."""
    if seconds is not None and fps is not None:
        raise InvalidValueError("--target-seconds and --target-fps say the same in two ways: leave one out")
    if fps is not None and not 0 < fps < float("inf"):
        raise InvalidValueError(f"--target-fps must be above 0, not {fps:g}")
    return 1 / fps if fps is not None else seconds


def _quality_for(target: float, restorer: Restorer, jobs: list[Job]) -> str | None:
    """The best preset within the target at the size of the first picture that can be read; None without pictures."""
    from ..errors import IrsdeError
    from ..images import read_picture

    for job in jobs:
        try:
            picture = read_picture(job.source).rgb
        except IrsdeError:
            continue  # told when its turn comes
        evaluation = restorer.seconds_per_evaluation(picture)
        quality, fits = quality_within(target, evaluation)
        height, width = picture.shape[:2]
        click.echo(f"an evaluation at {width}x{height} takes {evaluation:.3g} s: {quality} ({PRESETS[quality]})")
        if not fits:
            say(f"note: even {quality} takes {PRESETS[quality].steps * evaluation:.3g} s a picture, not {target:.3g} s")
        return quality
    return None


def _noise_note(blind: DenoisingSDE | None, level: float | None) -> str:
    return ", noise level estimated" if blind else "" if level is None else f", noise level {level:g}"


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
class _Tally:
    """How far a run is; says what went wrong as it is counted."""

    pictures: int
    steps: int
    written: int = 0
    failed: int = 0
    levels: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def note_level(self, level: float) -> float:
        """Remember an estimated noise level."""
        self.levels.append(level)
        return level

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
        done = f"{self.written} written, {self.failed} failed in {time.monotonic() - self.started:.1f} s"
        return done + (f", noise levels {min(self.levels):.1f} to {max(self.levels):.1f}" if self.levels else "")
