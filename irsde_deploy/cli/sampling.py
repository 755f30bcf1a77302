"""What the commands that restore share: the options of sampling and of the engine, and targets of speed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.presets import PRESETS, quality_within
from ..core.samplers import SAMPLERS
from ..errors import InvalidValueError
from .common import SEED, note_uncalibrated, require_rgb, say
from .engines import rebuild_where_unfit

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..pictures.restoring import Restoring
    from ..restorer import Restorer


class _TileType(click.ParamType[Any]):
    """A side in pixels, `auto` or `whole`; gives what `Restorer` takes."""

    name = "tile"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        if value in ("auto", "whole"):
            return "auto" if value == "auto" else None
        try:
            return int(value)
        except (TypeError, ValueError):
            self.fail(f"a tile is a side in pixels, auto or whole, not {value!r}", param, ctx)


PLAN_OPTIONS = (
    click.option(
        "--sampler", type=click.Choice(list(SAMPLERS)), help="Sampler of the reverse SDE [default: the model card's]."
    ),
    click.option("--steps", type=int, help="Network evaluations a picture [default: the model card's]."),
    click.option("--quality", type=click.Choice(list(PRESETS)), help="A preset in place of --sampler and --steps."),
    click.option("--t0", type=int, help="First timestep [default: the model card's, else T]."),
    click.option(
        "--debias", is_flag=True, help="Take the bias of maximum-likelihood training out of the network's output."
    ),
    click.option("--clip", is_flag=True, help="Keep the predicted picture within [0, 1] at each step."),
)
"""What decides on the step table and how it is executed."""

_OPTIONS = (
    *PLAN_OPTIONS,
    click.option(
        "--noise-level",
        type=float,
        help="Noise level of the pictures, standard deviation 0..255 [default: estimated]; denoising models only.",
    ),
    click.option(
        "--seed", type=SEED, default=0, show_default=True, help="Seed of the noise; the same for every picture."
    ),
    click.option(
        "--tile",
        type=_TileType(),
        default="auto",
        show_default=True,
        metavar="SIDE|auto|whole",
        help="Side in pixels of tiles to evaluate; auto: whole where memory and the engine allow.",
    ),
    click.option(
        "--overlap", type=int, help="Overlap of neighbouring tiles, in pixels [default: 64, at most half a side]."
    ),
)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`PLAN_OPTIONS`, given to the command one by one."""
    for option in reversed(PLAN_OPTIONS):
        command = option(command)
    return command


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of sampling, given to the command as one `Sampling`, `sampling`."""

    @functools.wraps(command)
    def with_sampling(**settings: Any) -> Any:
        from ..core.sampling import Sampling

        names = Sampling.__dataclass_fields__
        given = {name: settings.pop(name) for name in names}
        return command(sampling=Sampling(**given), **settings)

    for option in reversed(_OPTIONS):
        with_sampling = option(with_sampling)
    return with_sampling


@dataclass(frozen=True)
class Model:
    """The options that say which engine restores, and where."""

    engine: Path
    fallback: Path | None
    device_settings: dict[str, Any]
    rebuild: bool = False

    def load(self) -> Restorer:
        """Open the engine, built again first where that is asked for and needed."""
        from ..restorer import load

        if self.rebuild:
            if self.engine.suffix.lower() != ".plan":
                raise InvalidValueError(f"{self.engine}: only a plan can be built again: leave out --rebuild")
            rebuild_where_unfit(self.engine)
        return require_rgb(load(self.engine, fallback=self.fallback, **self.device_settings), self.engine)


def seconds_wanted(seconds: float | None, fps: float | None, sampling: Sampling) -> float | None:
    """Seconds that a picture may take, if the command line says."""
    if seconds is None and fps is None:
        return None
    if seconds is not None and fps is not None:
        raise InvalidValueError("--target-seconds and --target-fps say the same in two ways: leave one out")
    if sampling.quality is not None or sampling.sampler is not None or sampling.steps is not None:
        raise InvalidValueError("a target chooses the quality: leave out --quality, --sampler and --steps")
    if fps is not None and not 0 < fps < float("inf"):
        raise InvalidValueError(f"--target-fps must be a finite number above 0, not {fps:g}")
    target = 1 / fps if fps is not None else seconds
    quality_within(target or 0, 1)  # raises where it is no target
    return target


def quality_for(target: float, restorer: Restorer, sampling: Sampling, pictures: Any) -> str:
    """The best preset within the target at the size of a batch of pictures, and a line that says why."""
    taken = restorer.seconds_per_evaluation(pictures, tile=sampling.tile, overlap=sampling.overlap)
    evaluation = taken / len(pictures)
    quality, fits = quality_within(target, evaluation)
    height, width = pictures.shape[1:3]
    click.echo(f"an evaluation at {width}x{height} takes {evaluation:.3g} s: {quality} ({PRESETS[quality]})")
    if not fits:
        say(f"note: even {quality} takes {PRESETS[quality].steps * evaluation:.3g} s a picture, not {target:.3g} s")
    return quality


def for_frames(engine: Path, restorer: Restorer, sampling: Sampling, picture: Any) -> Restoring:
    """What restores a video, whose first frame settles the noise level of all; says so."""
    from ..pictures.restoring import Restoring, settled_by

    settled = settled_by(sampling, restorer, picture)
    if settled != sampling:
        level = f"{settled.noise_level:.1f}"
        say(f"note: noise level {level}, estimated on the first frame, is used for all: --noise-level sets it")
    restoring = Restoring(restorer, settled)
    note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    return restoring
