"""What the commands that restore share: the options of sampling, and a restorer with these options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..noise_level import blind_sde, estimate_start
from ..presets import PRESETS
from ..samplers import SAMPLERS
from .common import SEED

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

    def __call__(self, pictures: Any, on_step: Callable[[int], None] | None = None) -> Any:
        """A picture (H, W, 3) or a batch -> the same restored."""
        if self.blind is None:
            return self._restored(pictures, self.sampling.noise_level, on_step)
        if pictures.ndim == 4:
            return np.stack([self(picture, on_step) for picture in pictures])
        level = estimate_start(pictures, self.blind)
        self.levels.append(level)
        return self._restored(pictures, level, on_step)

    def _restored(self, pictures: Any, level: float | None, on_step: Callable[[int], None] | None) -> Any:
        options = {**vars(self.sampling), "noise_level": level}
        restored = self.restorer(pictures, on_step=on_step, **options)
        if self.restorer.tiling is not None:
            self.tilings[str(self.restorer.tiling)] = None
        return restored
