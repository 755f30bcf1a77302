"""What the commands that restore share: the options of sampling and of the engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..core.presets import PRESETS
from ..core.samplers import SAMPLERS
from ..core.sampling import Sampling
from ..errors import InvalidValueError
from .command import Choice
from .common import SEED, require_rgb
from .engines import rebuild_where_unfit
from .output import detail, report, tell

if TYPE_CHECKING:
    from ..pictures.targets import QualityChoice
    from ..restorer import Restorer

    _IntOrWord = click.ParamType[int | str | None]
else:
    _IntOrWord = click.ParamType  # which click before 8.4 cannot subscript


class _TileType(_IntOrWord):
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
        "--sampler", type=Choice(list(SAMPLERS)), help="Sampler of the reverse SDE [default: the model card's]."
    ),
    click.option("--steps", type=int, help="Network evaluations a picture [default: the model card's]."),
    click.option("--quality", type=Choice(list(PRESETS)), help="A preset in place of --sampler and --steps."),
    click.option("--t0", type=int, help="First timestep [default: the model card's, else T]."),
    click.option(
        "--debias", is_flag=True, help="Take the bias of maximum-likelihood training out of the network's output."
    ),
    click.option("--clip", is_flag=True, help="Keep the predicted picture within [0, 1] at each step."),
)
"""What decides on the step table and how it is executed."""


def noise_level_option(help_text: str) -> Any:
    """The option of a noise level, which stands in place of --t0."""
    return click.option("--noise-level", type=float, help=help_text)


def seed_option(help_text: str) -> Any:
    """The option of a seed."""
    return click.option("--seed", type=SEED, default=0, show_default=True, help=help_text)


def sampling_of(*options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds options of sampling, and gives the command all of them as one `Sampling`, `sampling`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_sampling(**settings: Any) -> Any:
            given = {name: settings.pop(name) for name in Sampling.__dataclass_fields__ if name in settings}
            return command(sampling=Sampling(**given), **settings)

        for option in reversed(options):
            with_sampling = option(with_sampling)
        return with_sampling

    return decorate


sampling_options = sampling_of(
    option_group(
        "Sampling",
        *PLAN_OPTIONS,
        noise_level_option(
            "Noise level of the pictures, standard deviation 0..255 [default: estimated]; denoising models only."
        ),
        seed_option("Seed of the noise; the same for every picture."),
    ),
    option_group(
        "Tiles",
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
    ),
)
"""All options of sampling, for commands that restore pictures."""


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
        return opened(require_rgb(load(self.engine, fallback=self.fallback, **self.device_settings), self.engine))


def opened(restorer: Restorer) -> Restorer:
    """The restorer, after what it is was said with -v, and put where --json has it."""
    report(engine={"files": restorer.files, "runs_on": restorer.runs_on})
    detail(repr(restorer))
    return restorer


def show_quality(choice: QualityChoice) -> None:
    """Say which quality was chosen for a target, and why."""
    tell(choice.words)
