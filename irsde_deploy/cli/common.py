"""What the commands share: kinds of options, where a checkpoint's settings come from, which options were given."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource
from cloup import option_group

from ..core.calibrated import uncalibrated_words
from ..core.noise import MAX_SEED
from ..core.pixels import require_rgb_pictures
from ..core.sde import SCHEDULES
from ..runtimes.opening import PROVIDERS_OF
from ..runtimes.protocol import DEVICES
from .command import GENERAL, Choice
from .output import note

if TYPE_CHECKING:
    from ..core.card import ModelCard
    from ..export.sources import SettingsSource
    from ..restorer import Restorer

EXIT_SOME_FAILED = 4
KINDS = "rain, haze, shadow, motion-blur, defocus-blur, gaussian-noise, jpeg, low-resolution or mask."
"""The kinds of degradations, for help texts; in words, since their module imports OpenCV."""

_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


class _PathType(click.Path):
    """A path; an empty one (an unset shell variable) would mean the current folder, and is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN, which is neither below nor above any bound, is not in it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A number, or click's error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number


PROVIDERS = [name for names in PROVIDERS_OF.values() for name in names]
"""What can run an .onnx, on any device."""

PATH = _PathType(path_type=Path)
SEED = click.IntRange(0, MAX_SEED)


def gathered(options: Sequence[Any], names: Sequence[str], key: str) -> _Decorator:
    """A decorator that adds click options and gives the command the parameters they fill as one dict, `key`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(**settings: Any) -> Any:
            in_order_typed = [name for name in settings if name in names]
            return command(**{key: {name: settings.pop(name) for name in in_order_typed}}, **settings)

        for option in reversed(options):
            with_settings = option(with_settings)
        return with_settings

    return decorate


_MODEL_OPTIONS = (
    click.option("--opt", type=PATH, help="The reference's YAML options file of this checkpoint."),
    click.option("--recipe", help="Recipe, by its name (derain, deblur-refusion, ...) or as a .toml file."),
    click.option(
        "--max-sigma",
        type=float,
        help="Standard deviation of the SDE's noise, on the 0..255 scale; below 1, on the 0..1 scale.",
    ),
    click.option("--timesteps", "-T", type=int, help="Number of timesteps T that the network was trained with."),
    click.option("--schedule", type=Choice(list(SCHEDULES)), help="Schedule of theta in the SDE."),
    click.option(
        "--eps", type=float, help="Share of (clean - degraded) that is left at timestep T: exp(-theta_bar_T)."
    ),
    click.option("--form", type=Choice(["pixel", "latent"]), help="What the network works on: pictures or latents."),
    click.option("--task", help="What the network removes, for the model card."),
    click.option(
        "--margin",
        type=int,
        help="Pixels of reflection around a picture that are restored with it and cut off, for networks that go wrong "
        "at borders [default: the checkpoint's; 0 for the reference's. train: chosen by measurement].",
    ),
)
_MODEL_SETTINGS = ("opt", "recipe", "max_sigma", "timesteps", "schedule", "eps", "form", "task", "margin")

model_options = gathered((option_group("SDE and network", *_MODEL_OPTIONS),), _MODEL_SETTINGS, "model")
"""Where a checkpoint's settings come from, given to the command as one dict, `model`, for `read_sources`. What binds
most: flags, --opt, --recipe, the checkpoint itself."""


def device_options(*more: Any) -> _Decorator:
    """A decorator: where an engine runs, as one dict, `device_settings`, for `load`; `more` options stand beside."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return _with_device(command, more)

    return decorate


def _with_device(command: Callable[..., Any], more: Sequence[Any]) -> Callable[..., Any]:

    @functools.wraps(command)
    def with_settings(device: str | None, driver: str, engine_provider: str | None, **settings: Any) -> Any:
        return command(device_settings={"device": device, "driver": driver, "provider": engine_provider}, **settings)

    options = (
        click.option(
            "--device",
            type=Choice(DEVICES),
            help="Where to run, and nowhere else; auto: on the GPU where it can be used "
            "[default: cuda for plans, else cpu].",
        ),
        click.option(
            "--engine-provider",
            type=Choice(PROVIDERS),
            help=f"Library that runs an .onnx: on the CPU {' or '.join(PROVIDERS_OF['cpu'])}, on a GPU "
            f"{' or '.join(PROVIDERS_OF['cuda'])} [default: {PROVIDERS_OF['cpu'][0]}, {PROVIDERS_OF['cuda'][0]}].",
        ),
        click.option(
            "--driver",
            type=Choice(["cuda-bindings", "pycuda"]),
            default="cuda-bindings",
            show_default=True,
            help="Library that drives the GPU.",
        ),
        *more,
    )
    return option_group("Where it runs", *options)(with_settings)


def read_sources(model: Mapping[str, Any]) -> list[SettingsSource]:
    """The sources that `model_options` name: flags, the options file, the recipe."""
    from ..export.description import flags
    from ..export.sources import read_options_file, read_recipe

    stated = dict(model)
    opt, recipe = stated.pop("opt"), stated.pop("recipe")
    sources = [flags(T=stated.pop("timesteps"), **stated)]
    if opt is not None:
        sources.append(read_options_file(opt))
    if recipe is not None:
        sources.append(read_recipe(recipe))
    return sources


def require_rgb(restorer: Restorer, engine: Path) -> Restorer:
    """The restorer, if it restores pictures; else InvalidValueError."""
    require_rgb_pictures(restorer.card, engine)
    return restorer


def note_uncalibrated(engine: Path, card: ModelCard, timesteps: Iterable[int]) -> None:
    """Say which timesteps lie outside of the span that an INT8 engine was calibrated for."""
    words = uncalibrated_words(card, timesteps)
    if words is not None:
        note(f"{engine}: {words}")


def given_options(among: Callable[[str], bool]) -> list[str]:
    """The options that the command line has, of those whose parameter is among some."""
    context = click.get_current_context()
    found = []
    for parameter in context.command.params:
        name = parameter.name or ""
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and name not in GENERAL and among(name):
            found.append(parameter.opts[0])
    return found
