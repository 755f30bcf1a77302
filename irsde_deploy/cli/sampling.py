"""What the commands that restore share: the options of sampling, and a restorer with these options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..errors import InvalidValueError
from ..noise_level import blind_sde, estimate_start
from ..presets import PRESETS, quality_within
from ..samplers import SAMPLERS
from .common import SEED, require_rgb, say
from .engines import rebuild_where_unfit

if TYPE_CHECKING:
    from ..restorer import Restorer


@dataclass(frozen=True)
class Sampling:
    """The options below, as `Restorer` takes them."""

    sampler: str | None
    steps: int | None
    quality: str | None
    t0: int | None
    noise_level: float | None
    seed: int
    debias: bool
    clip: bool
    tile: int | str | None
    overlap: int | None

    def of_first_frame(self, restorer: Restorer, picture: Any) -> Sampling:
        """The same with the noise level of a video's first frame, where the model needs one and nobody has said it."""
        blind = blind_sde(restorer.sde, self.noise_level, self.t0)
        if blind is None:
            return self
        level = estimate_start(np.clip(picture, 0, 1), blind)
        say(f"note: noise level {level:.1f}, estimated on the first frame, is used for all: --noise-level sets it")
        return replace(self, noise_level=level)

    def of_quality(self, quality: str | None) -> Sampling:
        """The same with a quality chosen later."""
        return replace(self, quality=quality)


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
    click.option("--sampler", type=click.Choice(list(SAMPLERS)), help="[default: the model card's]"),
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
        help="Of the pictures, standard deviation 0..255 [default: estimated]; denoising models only.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise; the same for every picture."),
    click.option(
        "--tile",
        type=_TileType(),
        default="auto",
        show_default=True,
        metavar="SIDE|auto|whole",
        help="Side in pixels of tiles to evaluate; auto: whole where memory and the engine allow.",
    ),
    click.option("--overlap", type=int, help="Of neighbouring tiles, in pixels [default: 64, at most half a side]."),
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of sampling, given to the command as one `Sampling`, `sampling`."""
    names = Sampling.__dataclass_fields__

    @functools.wraps(command)
    def with_sampling(**settings: Any) -> Any:
        given = {name: settings.pop(name) for name in names}
        return command(sampling=Sampling(**given), **settings)

    for option in reversed(_OPTIONS):
        with_sampling = option(with_sampling)
    return with_sampling


class Restoring:
    """A restorer with the command line's sampling; noise levels are estimated where a model needs one.

    Attributes:
        steps: network evaluations a picture, at most.
        levels: noise levels that were estimated.
        tilings: how pictures were cut into tiles, each way once.

    Raises:
        InvalidValueError: settings that do not fit each other or the model.
    """

    def __init__(self, restorer: Restorer, sampling: Sampling) -> None:
        self.restorer, self.sampling = restorer, sampling
        self.blind = blind_sde(restorer.sde, sampling.noise_level, sampling.t0)
        self._table = restorer.plan(
            sampling.sampler,
            sampling.steps,
            sampling.debias,
            sampling.t0,
            sampling.noise_level,
            sampling.quality,
        )
        self.steps = len(self._table)
        self.levels: list[float] = []
        self.tilings: dict[str, None] = {}

    @property
    def sampler(self) -> str:
        """Its name."""
        sampling = self.sampling
        quality = PRESETS[sampling.quality].sampler if sampling.quality else None
        return quality or sampling.sampler or self.restorer.card.sampler

    @property
    def about(self) -> dict[str, Any]:
        """The settings in force, for reports."""
        sampling = self.sampling
        about: dict[str, Any] = {"sampler": self.sampler, "quality": sampling.quality, "seed": sampling.seed}
        about |= {"debias": sampling.debias, "clip": sampling.clip}
        if self.restorer.sde.kind == "denoising":
            about["noise_level"] = "estimated" if self.blind else sampling.noise_level
        return about if self.blind else about | {"steps": self.steps, "t0": int(self._table.t[0])}

    def __str__(self) -> str:
        level = self.sampling.noise_level
        noise = ", noise level estimated" if self.blind else "" if level is None else f", noise level {level:g}"
        quality = f"{self.sampling.quality} = " if self.sampling.quality else ""
        return f"{quality}{self.sampler}, {self.steps} step{'s' * (self.steps > 1)}, seed {self.sampling.seed}{noise}"

    def __call__(
        self, pictures: Any, on_step: Callable[[int], None] | None = None, frames: Sequence[int] | None = None
    ) -> Any:
        """A picture (H, W, 3) or a batch -> the same restored; `frames`: the number of each one's noise field."""
        if self.blind is None:
            return self._restored(pictures, self.sampling.noise_level, on_step, frames)
        if pictures.ndim == 4:
            numbers = [None] * len(pictures) if frames is None else [[number] for number in frames]
            return np.stack([self(picture, on_step, k) for picture, k in zip(pictures, numbers, strict=True)])
        level = estimate_start(pictures, self.blind)
        self.levels.append(level)
        return self._restored(pictures, level, on_step, frames)

    def _restored(
        self,
        pictures: Any,
        level: float | None,
        on_step: Callable[[int], None] | None,
        frames: Sequence[int] | None = None,
    ) -> Any:
        options = {**vars(self.sampling), "noise_level": level, "frames": frames}
        restored = self.restorer(pictures, on_step=on_step, **options)
        if self.restorer.tiling is not None:
            self.tilings[str(self.restorer.tiling)] = None
        return restored


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
