"""Where a model's settings come from when the weights cannot tell: flags, an options file, a recipe, the checkpoint.

Precedence is in that order, setting by setting, and each choice can be printed with its source. A missing setting of
the SDE is an error: a guess would restore pictures wrongly without a word.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._version import __version__
from ..core.card import DEFAULT_SAMPLER, DEFAULT_STEPS, ModelCard
from ..core.samplers import ADJACENT_ONLY
from ..core.sde import SDES, DenoisingSDE, MeanRevertingSDE
from ..errors import InputFileError, InvalidValueError, requires_extra
from ..networks.checkpoints import Checkpoint, naming
from ..networks.detection import detect_network, outline, require_agreement
from ..networks.nafnet import FORMS
from ..system.files import require_readable
from .training_options import data_options, training_mode, training_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SDE_SETTINGS = ("max_sigma", "T", "schedule", "eps")
MAX_SETTINGS_FILE = 1 << 20


@dataclass(frozen=True)
class SettingsSource:
    """One place that settings come from.

    Attributes:
        name: for people, such as "`opt` derain.yml".
        values: the settings it has: any of kind, max_sigma, T, schedule, eps, form, task, sampler, steps, t0.
        network: the network it states, (class name, hyper-parameters), if any.
        binding: whether the stated network must agree with the weights. A recipe's is a proposal for training.
        note: something its user should know.
        training: settings of a training run (`TrainingSettings`).
        data: where its pictures are (`DataPlan`).
    """

    name: str
    values: Mapping[str, Any]
    network: tuple[str, Mapping[str, Any]] | None = None
    binding: bool = True
    note: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A checkpoint, fully described.

    Attributes:
        card: what the exported engine will carry.
        origins: a line for each setting: its value and where it came from.
    """

    card: ModelCard
    origins: list[str] = field(default_factory=list)


def describe(checkpoint: Checkpoint, sources: Sequence[SettingsSource]) -> Description:
    """Settle every setting of a checkpoint; the first source that has it wins, the checkpoint's own card is last.

    Raises:
        CheckpointError: the weights are of no known score network, or contradict a source.
        InvalidValueError: a setting of the SDE is nowhere, or is out of range.
    """
    sources = [*sources, *_own_card(checkpoint)]
    with naming(checkpoint.path):
        name, hyper = detect_network(checkpoint.weights)
        for source in sources:
            if source.network and source.binding:
                with naming(Path(source.name)):
                    require_agreement(*source.network, checkpoint.weights)
        network = outline(name, hyper)
    origins = [f"network = {name} {_listed(hyper)} (from the weights' shapes)"]
    chosen = _choose(sources, origins)
    sde = _settled_sde(chosen, bool(hyper.get("conditional", True)), origins)
    form = chosen.get("form", "pixel")
    if name == "ConditionalNAFNet":
        hyper["form"] = form
        if "form" not in chosen:
            origins.append("form = pixel (default; shapes cannot tell, `form` latent is the other)")
    sampler = chosen.get("sampler", DEFAULT_SAMPLER)
    first = chosen.get("t0", sde.T)
    steps = first if sampler in ADJACENT_ONLY else min(chosen.get("steps", DEFAULT_STEPS), first)
    card = ModelCard(
        network=name,
        settings=hyper,
        channels=network.channels,
        multiple_of=network.multiple_of,
        pad_mode=network.pad_mode,
        sde=sde,
        task=chosen.get("task", ""),
        sampler=sampler,
        steps=steps,
        t0=chosen.get("t0"),
        global_operators=network.global_operators,
        value_range=None if form == "latent" else (0.0, 1.0),
        checkpoint_sha256=checkpoint.sha256,
        tool_version=__version__,
    )
    return Description(card, origins)


def flags(**values: Any) -> SettingsSource:
    """The settings given on the command line; None means not given."""
    return SettingsSource("flag", {key: value for key, value in values.items() if value is not None})


def read_options_file(path: str | Path) -> SettingsSource:
    """Read the reference's YAML options file: its sections `sde`, `network_G` and the keys `model`, `distortion`.

    Raises:
        InputFileError: no such file, too large, or not an options file.
    """
    with requires_extra("export", "reading an options file"):
        import yaml

    path = Path(path)
    text = _read_text(path)
    try:
        options = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputFileError(f"{path}: not a YAML file ({reason})") from None
    if not isinstance(options, dict) or not isinstance(options.get("sde"), dict):
        raise InputFileError(f"{path}: not an options file of the reference implementation: it has no section 'sde'")
    values = {key: options["sde"][key] for key in SDE_SETTINGS if options["sde"].get(key) is not None}
    if options.get("distortion") is not None:
        values["task"] = options["distortion"]
    if options.get("model") == "latent_denoising":
        values["form"] = "latent"
    values = _coerced(values, path)
    stated = _stated_network(options.get("network_G"), path)
    if "eps" not in values and training_mode(options) == "GT":
        values["kind"] = DenoisingSDE.kind  # the reference fixes its eps, and trains it on clean pictures alone
        if stated is not None and stated[0] == "ConditionalUNet":
            stated = stated[0], {"mid_attention": "full", **stated[1]}
    return SettingsSource(
        f"`opt` {path.name}",
        values,
        stated,
        note=_sampling_note(options["sde"], values),
        training=training_options(options),
        data=data_options(options),
    )


def _sampling_note(sde: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Some options files carry sample_T, a schedule rebuilt for fewer steps; here fewer steps are a subset of T."""
    asked = sde.get("sample_T")
    if asked is None or asked == values.get("T"):
        return ""
    return f"sample_T = {asked} of the options file is not used: the schedule is that of training, run takes `steps`"


def read_recipe(name: str) -> SettingsSource:
    """Read a recipe by its name (a TOML file of the package) or from a path that ends in `.toml`.

    Raises:
        InputFileError: no such recipe, or not a recipe.
    """
    path = Path(name) if name.endswith(".toml") else recipe_folder() / f"{name}.toml"
    if not name.endswith(".toml") and name not in recipe_names():
        raise InputFileError(f"no recipe is called {name!r}: choose one of {', '.join(recipe_names())}")
    try:
        recipe = tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputFileError(f"{path}: not a TOML file ({error})") from None
    _check_recipe(recipe, path)
    values = {**recipe.get("sde", {}), **recipe.get("sampling", {}), "task": recipe.get("task", "")}
    values.setdefault("kind", MeanRevertingSDE.kind)
    network = dict(recipe.get("network", {}))
    stated = (str(network.pop("name")), network) if "name" in network else None
    if "form" in network:
        values["form"] = network["form"]
    return SettingsSource(
        f"`recipe` {path.stem}",
        _coerced(values, path),
        stated,
        binding=False,
        note=str(recipe.get("note", "")),
        training=recipe.get("training", {}),
        data={"degradation": recipe["degradation"]} if "degradation" in recipe else {},
    )


_RECIPE_KEYS: dict[str, tuple[str, ...] | None] = {
    "sde": ("kind", *SDE_SETTINGS),
    "sampling": ("sampler", "steps", "t0"),
    "network": None,  # whatever the network takes
    "training": None,  # whatever training takes
    "degradation": None,  # whatever the degradation takes
}


def _check_recipe(recipe: Mapping[str, Any], path: Path) -> None:
    """Refuse what would be ignored: unknown keys, and sections that are none."""
    for key, value in recipe.items():
        if key in _RECIPE_KEYS and not isinstance(value, dict):
            raise InputFileError(f"{path}: [{key}] must be a section, not {value!r}")
        if key not in (*_RECIPE_KEYS, "task", "note"):
            raise InputFileError(f"{path}: {key!r} is no key of a recipe: task, note, {_listed_sections()}")
        allowed = _RECIPE_KEYS.get(key)
        surplus = sorted(set(value) - set(allowed)) if allowed is not None else []
        if surplus:
            raise InputFileError(f"{path}: [{key}] has {', '.join(allowed or ())}, and no {', '.join(surplus)}")
    if not isinstance(recipe.get("network", {}).get("name", ""), str):
        raise InputFileError(f"{path}: the network's name must be text")


def _listed_sections() -> str:
    return ", ".join(f"[{section}]" for section in _RECIPE_KEYS)


def recipe_folder() -> Path:
    """Where the recipes are: inside the installed package, or `export/` of a source tree."""
    installed = Path(__file__).parent / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "export"


def recipe_names() -> list[str]:
    """Names that `read_recipe` takes."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def _own_card(checkpoint: Checkpoint) -> list[SettingsSource]:
    card = checkpoint.card
    if card is None:
        return []
    values = {key: getattr(card.sde, key) for key in SDE_SETTINGS}
    values |= {"kind": card.sde.kind, "task": card.task, "sampler": card.sampler, "steps": card.steps}
    values |= {} if card.t0 is None else {"t0": card.t0}
    values["form"] = card.settings.get("form") or ("pixel" if card.value_range else "latent")
    return [SettingsSource("the checkpoint's card", values, (card.network, card.settings))]


def _choose(sources: Sequence[SettingsSource], origins: list[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for source in sources:
        for key, value in source.values.items():
            if key not in chosen and value != "":
                chosen[key] = value
                origins.append(f"{key} = {value} (from {source.name})")
    if "form" in chosen and chosen["form"] not in FORMS:
        raise InvalidValueError(f"form must be one of {', '.join(FORMS)}, not {chosen['form']!r}")
    return chosen


def _settled_sde(chosen: dict[str, Any], conditional: bool, origins: list[str]) -> MeanRevertingSDE | DenoisingSDE:
    """The SDE from the chosen settings; its kind follows from the network where nothing states it."""
    implied = MeanRevertingSDE.kind if conditional else DenoisingSDE.kind
    kind = chosen.setdefault("kind", implied)
    if kind not in SDES:
        raise InvalidValueError(f"the SDE's kind must be one of {', '.join(SDES)}, not {kind!r}")
    if kind != implied:
        raise InvalidValueError(
            f"the SDE is said to be of kind {kind!r}, and the network {'sees' if conditional else 'does not see'} mu, "
            f"as one for {implied!r} does"
        )
    if kind == DenoisingSDE.kind:
        for key, default in (("eps", DenoisingSDE.eps), ("schedule", "cosine")):
            if key not in chosen:
                chosen[key] = default
                origins.append(f"{key} = {default} (fixed by the Denoising-SDE of the reference)")
    missing = [key for key in SDE_SETTINGS if key not in chosen]
    if missing:
        raise InvalidValueError(
            f"the weights do not say {', '.join(missing)} of the SDE they were trained with: give the options file "
            f"(`opt`), a recipe (`recipe` {'|'.join(recipe_names())}) or flags (`max_sigma`, `timesteps`, `schedule`, "
            "`eps`)"
        )
    return SDES[kind](**{key: chosen[key] for key in SDE_SETTINGS})


def _stated_network(section: Any, path: Path) -> tuple[str, Mapping[str, Any]] | None:
    if section is None:
        return None
    if not isinstance(section, dict):
        raise InputFileError(f"{path}: network_G must name a network (which_model_G) and its setting")
    name = section.get("which_model_G") or section.get("which_model")
    setting = section.get("setting") or {}
    if not isinstance(name, str) or not isinstance(setting, dict):
        raise InputFileError(f"{path}: network_G must name a network (which_model_G) and its setting")
    return name, setting


_KINDS: dict[str, type] = {
    "max_sigma": float,
    "eps": float,
    "T": int,
    "steps": int,
    "t0": int,
    "kind": str,
    "schedule": str,
    "form": str,
    "task": str,
    "sampler": str,
}


def _coerced(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Check the types; numbers that a file holds as text (YAML reads 5e-3 as text) become numbers."""
    for key in _KINDS.keys() & values.keys():
        values[key] = _coerce(key, values[key], path)
    return values


def _coerce(key: str, value: Any, path: Path) -> Any:
    kind = _KINDS[key]
    if kind is str and isinstance(value, str):
        return value
    if kind is not str and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number) and (kind is float or number == int(number)):
            return kind(number)
    expected = {float: "a number", int: "a whole number", str: "text"}[kind]
    raise InputFileError(f"{path}: {key} must be {expected}, not {value!r}")


def _read_text(path: Path) -> str:
    require_readable(path)
    if path.stat().st_size > MAX_SETTINGS_FILE:
        raise InputFileError(f"{path}: is larger than any settings file ({path.stat().st_size} bytes)")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path}: cannot be read as text ({error})") from None


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())
