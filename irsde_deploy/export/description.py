"""A checkpoint described in full: what its weights show, and the settings that they cannot show, from where they are.

Those come from the command line, an options file, a recipe or the checkpoint itself (`sources`).

Precedence is in that order, setting by setting, and each choice can be printed with its source. A missing setting of
the SDE is an error: a guess would restore pictures wrongly without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._version import __version__
from ..core.card import DEFAULT_SAMPLER, DEFAULT_STEPS, ModelCard
from ..core.samplers import ADJACENT_ONLY
from ..core.sde import SDES, DenoisingSDE, MeanRevertingSDE
from ..errors import InvalidValueError, one_line, refuse
from ..networks.checkpoints import Checkpoint, naming
from ..networks.detection import detect_network, outline, require_agreement
from ..networks.nafnet import FORMS
from ..system.parsing import shortened, shown
from .sources import SDE_SETTINGS, SettingsSource, recipe_names


@dataclass(frozen=True)
class Description:
    """A checkpoint, fully described.

    Attributes:
        card: the model card that an exported engine will carry.
        origins: a line for each setting, with its value and where it came from.
    """

    card: ModelCard
    origins: list[str] = field(default_factory=list)


def describe(checkpoint: Checkpoint, sources: Sequence[SettingsSource]) -> Description:
    """Settle every setting of a checkpoint.

    Args:
        checkpoint: the weights, which show the network and most of its hyper-parameters.
        sources: where other settings come from. The first one that has a setting wins; the checkpoint's own card, if
            there is one, comes after all of them.

    Raises:
        CheckpointError: the weights are of no known score network, or contradict a source.
        InvalidValueError: a setting of the SDE is nowhere, or is out of range.
    """
    sources = [*sources, *_own_card(checkpoint)]
    with naming(checkpoint.path):
        name, hyper = detect_network(checkpoint.weights)
        for source in sources:
            if source.network and source.binding:
                with naming(Path(source.name)):  # after the checkpoint's, so that the sentence has both
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
    steps = chosen.get("t0", sde.T)  # all of them: samplers that only go from t to t - 1 take no other number
    if sampler not in ADJACENT_ONLY:
        steps = min(chosen.get("steps", DEFAULT_STEPS), steps)
    card = ModelCard(
        network=name,
        settings=hyper,
        channels=network.channels,
        multiple_of=network.multiple_of,
        pad_mode=network.pad_mode,
        margin=chosen.get("margin", 0),
        sde=sde,
        task=chosen.get("task", ""),
        sampler=sampler,
        steps=steps,
        t0=chosen.get("t0"),
        global_operators=network.global_operators,
        value_range=None if form == "latent" else (0.0, 1.0),  # latents have no bounds
        checkpoint_sha256=checkpoint.sha256,
        tool_version=__version__,
    )
    return Description(card, origins)


def flags(**values: Any) -> SettingsSource:
    """Make a source of the settings given on the command line, by name; None means that one is not given."""
    return SettingsSource("flag", {key: value for key, value in values.items() if value is not None})


def _own_card(checkpoint: Checkpoint) -> list[SettingsSource]:
    """The card in a checkpoint of ours as a source, if there is one; the reference's have none."""
    card = checkpoint.card
    if card is None:
        return []
    values = {key: getattr(card.sde, key) for key in SDE_SETTINGS}
    values |= {"kind": card.sde.kind, "task": card.task, "sampler": card.sampler, "steps": card.steps}
    if card.t0 is not None:
        values["t0"] = card.t0
    if card.margin:
        values["margin"] = card.margin
    implied = "pixel" if card.value_range else "latent"  # U-Nets have no form among their settings
    values["form"] = card.settings.get("form") or implied
    return [SettingsSource("the checkpoint's card", values, (card.network, card.settings))]


def _choose(sources: Sequence[SettingsSource], origins: list[str]) -> dict[str, Any]:
    """Take each setting from the first source that has it, and add a line about it to `origins`."""
    chosen: dict[str, Any] = {}
    for source in sources:
        for key, value in source.values.items():
            if key not in chosen and value != "":  # a task that is empty is not stated
                chosen[key] = value
                origins.append(f"{key} = {one_line(shortened(str(value)))} (from {source.name})")
    if "form" in chosen and chosen["form"] not in FORMS:
        raise InvalidValueError(f"form must be one of {', '.join(FORMS)}, not {shown(chosen['form'])}")
    return chosen


def _settled_sde(chosen: dict[str, Any], conditional: bool, origins: list[str]) -> MeanRevertingSDE | DenoisingSDE:
    """Make the SDE of the chosen settings; its kind follows from the network where nothing states it."""
    implied, sees = MeanRevertingSDE.kind, "sees"
    if not conditional:
        implied, sees = DenoisingSDE.kind, "does not see"
    kind = chosen.setdefault("kind", implied)
    refuse(
        [
            (kind not in SDES, f"the SDE's kind must be one of {', '.join(SDES)}, not {shown(kind)}"),
            (
                kind != implied,
                f"the SDE is said to be of kind {shown(kind)}, and the network {sees} mu, as one for {implied!r} does",
            ),
        ]
    )
    if kind == DenoisingSDE.kind:
        _fix_by_reference(chosen, origins)
    missing = [key for key in SDE_SETTINGS if key not in chosen]
    if missing:
        raise InvalidValueError(
            f"the weights do not say {', '.join(missing)} of the SDE they were trained with: give the options file "
            f"(`opt`), a recipe (`recipe` {'|'.join(recipe_names())}) or `max_sigma`, `timesteps`, "
            "`schedule` and `eps`"
        )
    return SDES[kind](**{key: chosen[key] for key in SDE_SETTINGS})


def _fix_by_reference(chosen: dict[str, Any], origins: list[str]) -> None:
    """Settle what the reference never asks of its Denoising-SDE."""
    for key, default in (("eps", DenoisingSDE.eps), ("schedule", "cosine")):
        if key not in chosen:
            chosen[key] = default
            origins.append(f"{key} = {default} (fixed by the Denoising-SDE of the reference)")


def _listed(settings: Mapping[str, Any]) -> str:
    """Hyper-parameters in words, such as "nf 64, depth 4"."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())
