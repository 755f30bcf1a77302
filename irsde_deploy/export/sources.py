"""Where settings come from: recipes (TOML), the reference's options files (YAML), and what they may hold.

Files are read strictly: an unknown key or a wrong type is an error. Numbers may be text, since YAML reads 5e-3 as that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.sampling import Sampling
from ..core.sde import SDES, DenoisingSDE, MeanRevertingSDE
from ..errors import InputFileError, InvalidValueError
from ..system.decoding import convert, inside, numbers_from_text
from ..system.parsing import parse_toml, parse_yaml, read_text, shown
from .training_options import data_options, training_mode, training_options

SDE_SETTINGS = ("max_sigma", "T", "schedule", "eps")
"""The settings of an SDE, by the names of its dataclass."""

MAX_SETTINGS_FILE = 1 << 16
"""Bytes of a recipe or an options file; those that there are have a few thousand, and YAML's parser takes a second for
so many."""

_ANY_SDE = {"max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 0.005}
"""Settings of an SDE in the place of those that a file does not have, so that those it has can be checked."""


@dataclass(frozen=True)
class SettingsSource:
    """One place that settings come from.

    Attributes:
        name: what to call it, such as "`opt` derain.yml".
        values: the settings that it has: any of kind, max_sigma, T, schedule, eps, form, task, sampler, steps, t0,
            margin.
        network: the network that it states, as (class name, hyper-parameters), if it does.
        binding: whether the stated network must agree with the weights. A recipe's is a proposal for training.
        note: a sentence for whoever uses it; empty where there is nothing to say.
        training: the settings of a training run that it has, by the names of `TrainingSettings`.
        data: what it says of pictures to train on, by the names of `DataPlan`.
    """

    name: str
    values: Mapping[str, Any]
    network: tuple[str, Mapping[str, Any]] | None = None
    binding: bool = True
    note: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


# -- what files may hold -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """What a recipe may hold.

    The sections `network`, `training` and `degradation` are checked by what takes them.
    """

    task: str = ""
    note: str = ""
    sde: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    degradation: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Sde:
    """What the section [sde] of a recipe may hold."""

    kind: str = ""
    max_sigma: float = 0.0
    T: int = 0
    schedule: str = ""
    eps: float = 0.0


@dataclass(frozen=True)
class _Sampling:
    """What the section [sampling] of a recipe may hold."""

    sampler: str = ""
    steps: int = 0
    t0: int = 0
    margin: int = 0


@dataclass(frozen=True)
class _Network:
    """What the section [network] of a recipe may hold for any network."""

    name: str = ""
    form: str = ""


@dataclass(frozen=True)
class _Settings(_Sde):
    """What is taken of an options file, whose section `sde` has all but the task."""

    task: str = ""


def _typed(values: Any, kind: type[Any], what: str) -> dict[str, Any]:
    """Return the values, in their order, with the types that a dataclass says; its defaults are not added."""
    made = convert(numbers_from_text(values, kind), kind, what)
    return {name: getattr(made, name) for name in values}


def _require_possible(values: Mapping[str, Any]) -> None:
    """Raise InvalidValueError where a setting is out of its own range; whether they fit each other, `describe` sees."""
    kind = values.get("kind", MeanRevertingSDE.kind)
    if kind not in SDES:
        raise InvalidValueError(f"the SDE's kind must be one of {', '.join(SDES)}, not {shown(kind)}")
    MeanRevertingSDE(**{**_ANY_SDE, **{key: values[key] for key in SDE_SETTINGS if key in values}})
    Sampling(sampler=values.get("sampler"), steps=values.get("steps"), t0=values.get("t0"))


def _network(section: Any) -> dict[str, Any]:
    """Check what any network has in the section [network]; what else it holds is for the network to judge."""
    known = section
    if isinstance(section, dict):  # what is none is refused by what follows
        known = {key: section[key] for key in ("name", "form") if key in section}
    named = _typed(known, _Network, "[network] of the recipe")
    return {**section, **named}


_SECTIONS: dict[str, Callable[[Any], Any]] = {
    "sde": lambda section: _typed(section, _Sde, "[sde] of the recipe"),
    "sampling": lambda section: _typed(section, _Sampling, "[sampling] of the recipe"),
    "network": _network,
}
"""Name of a section -> function that checks it and returns its values."""


# -- recipes --------------------------------------------------------------------------------------------------------


def read_recipe(name: str) -> SettingsSource:
    """Read a recipe, a TOML file.

    Args:
        name: the name of one that comes with the package (`recipe_names`), or a path that ends in `.toml`.

    Raises:
        InputFileError: no such recipe, or not a recipe.
    """
    path = Path(name)
    if not name.endswith(".toml"):
        path = recipe_folder() / f"{name}.toml"
        if name not in recipe_names():
            raise InputFileError(f"no recipe is called {shown(name)}: choose one of {', '.join(recipe_names())}")
    text = read_text(path, MAX_SETTINGS_FILE, "a recipe")
    with inside(path):
        recipe = convert(parse_toml(text, "the recipe"), _Recipe, "the recipe", parts=_SECTIONS)
        values = {**recipe.sde, **recipe.sampling, "task": recipe.task}
        _require_possible(values)
    values.setdefault("kind", MeanRevertingSDE.kind)  # stated even so: a checkpoint of another kind is refused
    if "form" in recipe.network:
        values["form"] = recipe.network["form"]
    network = None
    if "name" in recipe.network:
        settings = dict(recipe.network)
        network = settings.pop("name"), settings
    data = {}
    if recipe.degradation is not None:
        data["degradation"] = recipe.degradation
    return SettingsSource(
        f"`recipe` {path.stem}",
        values,
        network,
        binding=False,
        note=recipe.note,
        training=recipe.training,
        data=data,
    )


def recipe_folder() -> Path:
    """Find the recipes' folder: inside the installed package, or `export/` of a source tree."""
    installed = Path(__file__).parent / "recipes"
    if installed.is_dir():
        return installed
    return Path(__file__).parents[2] / "export"


def recipe_names() -> list[str]:
    """List the names that `read_recipe` takes, in alphabetical order."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


# -- the reference's options files ---------------------------------------------------------------------------------


def read_options_file(path: str | Path) -> SettingsSource:
    """Read an options file of the reference, in YAML.

    Its sections `sde` and `network_G` and the keys `model` and `distortion` describe the model; `train`, `datasets`,
    `logger` and `degradation` say how the reference trained it (`training_options`).

    Raises:
        InputFileError: no such file, too large, or not an options file.
    """
    path = Path(path)
    text = read_text(path, MAX_SETTINGS_FILE, "an options file")
    doubled: list[str] = []
    with inside(path):
        options = parse_yaml(text, "the options file", doubled.append)
        if not isinstance(options, dict) or not isinstance(options.get("sde"), dict):
            raise InvalidValueError("not an options file of the reference implementation: it has no section 'sde'")
        stated = {**options["sde"], "task": options.get("distortion")}
        known = {key: stated[key] for key in (*SDE_SETTINGS, "task") if stated.get(key) is not None}
        values = _typed(known, _Settings, "the options file")
        _require_possible(values)
        network = _stated_network(options.get("network_G"))
    if options.get("model") == "latent_denoising":
        values["form"] = "latent"
    if "eps" not in values and training_mode(options) == "GT":
        values["kind"] = DenoisingSDE.kind  # the reference fixes its eps, and trains it on clean pictures alone
        if network is not None and network[0] == "ConditionalUNet":
            # The reference's denoising U-Net has full attention in the middle, which no options file says.
            network = network[0], {"mid_attention": "full", **network[1]}
    return SettingsSource(
        f"`opt` {path.name}",
        values,
        network,
        note="; ".join(filter(None, [_doubled_note(doubled), _sampling_note(options["sde"], values)])),
        training=training_options(options),
        data=data_options(options),
    )


def _doubled_note(names: Sequence[str]) -> str:
    """Say which keys an options file has twice, of which the last one counts; nothing where there are none."""
    if not names:
        return ""
    return f"the options file has {', '.join(map(shown, names[:5]))} twice: the last one counts, as for the reference"


def _sampling_note(sde: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Say that `sample_T` is not used, where an options file asks for fewer steps with it; else nothing.

    The reference rebuilds the schedule for them; here they are a subset of the timesteps of training.
    """
    asked = sde.get("sample_T")
    if asked is None or asked == values.get("T"):
        return ""
    asked = shown(asked)
    return f"sample_T = {asked} of the options file is not used: the schedule is that of training, run takes `steps`"


def _stated_network(section: Any) -> tuple[str, Mapping[str, Any]] | None:
    """The network that the section `network_G` states, as (class name, hyper-parameters), where there is one."""
    if section is None:
        return None
    if not isinstance(section, dict):
        section = {}  # which has no name, and is refused below
    name = section.get("which_model_G") or section.get("which_model")  # the reference's latent models have the latter
    setting = section.get("setting") or {}
    if not isinstance(name, str) or not isinstance(setting, dict):
        raise InvalidValueError("network_G must name a network (which_model_G) and its setting")
    return name, setting
