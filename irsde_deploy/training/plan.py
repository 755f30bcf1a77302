"""What to train, settled before anything is built: the model card, the settings, the data and where it comes from.

Settings come from flags, the reference's options file, a recipe and the initial checkpoint's card, in that order.
A plan is plain data (JSON) and travels in every checkpoint of its run, so that resuming needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.card import ModelCard
from ..core.sde import DenoisingSDE
from ..errors import InvalidValueError, reason, refuse
from ..export.description import describe
from ..export.sources import SettingsSource
from ..networks.checkpoints import Checkpoint
from ..networks.detection import NETWORKS, build_network, outline
from ..pictures.degradations import Degradation, degradation
from ..system.decoding import convert
from .data import DegradedFolder, PairedFolders, Pairs
from .settings import TrainingSettings, training_settings

MOST_HELD_OUT = 8


@dataclass(frozen=True)
class DataPlan:
    """Where pairs come from.

    Attributes:
        gt: folder of clean pictures.
        lq: folder of degraded ones under the same names; None where they are made on the fly.
        degradation: kind and parameters of what is made on the fly.
        validation_gt, validation_lq: folders to validate on; without them, pictures of the training folder are held
            out: `hold_out` names them, or every 10th is taken (of more than 80, 8 evenly spaced ones).
        side: of the validated middle of each picture, pixels.
        noise_level: that a Denoising-SDE is validated at (0..255 scale).
        fingerprint: of the pictures' names, once the run has started.
    """

    gt: str
    lq: str | None = None
    degradation: dict[str, Any] | None = None
    validation_gt: str | None = None
    validation_lq: str | None = None
    hold_out: tuple[str, ...] = ()
    side: int = 256
    noise_level: float = 25.0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        refuse(self._rules())
        self._degrade()  # raises where there is no such degradation

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no plan may be, the sentence to say then)."""
        names = [name for name in (*self._folders, *self.hold_out) if not name or "\0" in name]
        yield bool(names), "folders and pictures must have names"
        yield (
            self.lq is not None and Path(self.lq).resolve() == Path(self.gt).resolve(),
            f"{self.gt}: is given for clean and for degraded pictures: give two folders",
        )
        yield not 16 <= self.side <= 4096, f"the validated side must be from 16 to 4096, not {self.side}"
        yield (
            not 0 < self.noise_level <= 255,
            f"the noise level must be above 0 and at most 255, not {self.noise_level}",
        )
        yield (
            (self.validation_lq is None) != (self.validation_gt is None or self.lq is None),
            "validation folders must be like the training's: clean and degraded pictures together (`validation_gt` and "
            "`validation_lq`), or clean ones alone where training degrades them on the fly",
        )
        yield (
            bool(self.hold_out) and self.validation_gt is not None,
            "pictures are held out (`hold_out`) or in folders (`validation_gt`), not both",
        )

    @property
    def _folders(self) -> list[str]:
        """Those that are read."""
        folders = (self.gt, self.lq, self.validation_gt, self.validation_lq)
        return [folder for folder in folders if folder is not None]

    def _degrade(self) -> Degradation | None:
        if self.degradation is None:
            return None
        parameters = dict(self.degradation)
        return degradation(parameters.pop("kind", None), parameters)

    def require_outside(self, output: Path) -> None:
        """Raise InvalidValueError where a run would write among the pictures that it reads."""
        for folder in self._folders:
            if output.resolve().is_relative_to(Path(folder).resolve()):
                raise InvalidValueError(f"{output}: is inside {folder}, whose pictures are read: choose another folder")

    def fingerprinted(self, training: Pairs, validation: Pairs) -> DataPlan:
        """The plan with a hash of the pictures' names.

        Raises:
            InvalidValueError: it has one, of other pictures: a resumed run would not be the one that was started.
        """
        names = json.dumps([list(training.names), list(validation.names)])
        found = hashlib.sha256(names.encode()).hexdigest()
        if self.fingerprint not in ("", found):
            raise InvalidValueError(
                f"{self.gt}: the pictures there are not those that the run started with: restore them, or start a new "
                "run with `init`"
            )
        return replace(self, fingerprint=found)

    def open(self) -> tuple[PairedFolders | DegradedFolder, PairedFolders | DegradedFolder]:
        """(training pairs, validation pairs).

        Raises:
            InputFileError: pictures or partners are missing, or do not fit.
            InvalidValueError: nothing would be left to train on, or a name to hold out is not there.
        """
        pairs = self._open(self.gt, self.lq)
        if self.validation_gt is not None:
            return pairs, self._open(self.validation_gt, self.validation_lq)
        held = self._held_out(pairs.names)
        kept = [i for i in range(len(pairs.names)) if i not in held]
        if not kept:
            raise InvalidValueError(
                f"{self.gt}: {len(pairs.names)} picture(s) are too few to train on and hold some out: add pictures, or "
                "give validation folders"
            )
        return pairs.subset(kept), pairs.subset(held)

    def _held_out(self, names: Sequence[str]) -> list[int]:
        wanted = set()
        for name in self.hold_out:
            wanted.add(name if name in names else str(Path(name).with_suffix("")))  # people give the file's name, too
        missing = sorted(wanted - set(names))
        if missing:
            raise InvalidValueError(f"{self.gt}: has no picture called {missing[0]} to hold out")
        if wanted:
            return [i for i, name in enumerate(names) if name in wanted]
        every = max(10, -(-len(names) // MOST_HELD_OUT))
        return list(range(0, len(names), every))

    def _open(self, gt: str, lq: str | None) -> PairedFolders | DegradedFolder:
        if lq is not None:
            return PairedFolders.open(Path(lq), Path(gt))
        return DegradedFolder.open(Path(gt), self._degrade())


@dataclass(frozen=True)
class TrainingPlan:
    """A whole run: what is trained, how, and on what.

    Attributes:
        card: of the model that comes out.
        settings: of the training.
        data: where pairs come from.
        origins: a line for each setting: its value and where it came from.
    """

    card: ModelCard
    settings: TrainingSettings
    data: DataPlan
    origins: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Plain data, for checkpoints."""
        return json.dumps({"card": self.card.to_dict(), "settings": asdict(self.settings), "data": asdict(self.data)})

    @classmethod
    def from_dict(cls, plan: Mapping[str, Any], iterations: int | None = None) -> TrainingPlan:
        """Read what `to_json` wrote; `iterations` replaces the planned number.

        Raises:
            InvalidValueError: fields are missing or out of range.
        """
        what, advice = "the checkpoint's training plan", "start a new run from its weights with `init`"
        made = convert(plan, cls, what, advice, parts={"card": ModelCard.from_dict})
        _require_whole_patches(made.settings, made.card)
        if iterations is None:
            return made
        return replace(made, settings=replace(made.settings, iterations=iterations))


def make_plan(
    sources: Sequence[SettingsSource], data: DataPlan, given: Mapping[str, Any], initial: Checkpoint | None
) -> TrainingPlan:
    """Settle a new run.

    Args:
        sources: of settings, most binding first.
        data: as given by flags; its degradation may come from a source.
        given: training settings from flags.
        initial: checkpoint to start from, if any.

    Raises:
        InvalidValueError: a setting is missing or out of range, or data and SDE do not fit.
    """
    origins: list[str] = []
    checkpoint = initial or _blank(sources)
    description = describe(checkpoint, sources)
    offered = [("flag", given)]
    for source in sources:
        offered.append((source.name, source.training))
    chosen: dict[str, Any] = {}
    for name, values in offered:
        for key, value in values.items():
            if key not in chosen:
                chosen[key] = value
                origins.append(f"{key} = {value} (from {name})")
    if data.degradation is not None:
        origins.append(f"degradation = {_listed_degradation(data.degradation)}")
    for source in sources:  # one that a flag or a recipe names; an initial checkpoint's own is measured anew
        if "margin" in source.values:
            chosen.setdefault("margin", source.values["margin"])
    settings = training_settings(chosen, "training")
    margin = description.card.margin if settings.margin is None else settings.margin
    card = replace(description.card, checkpoint_sha256="", margin=margin)
    _require_fitting(data, card)
    _require_whole_patches(settings, card)
    if settings.start_share and isinstance(card.sde, DenoisingSDE):
        raise InvalidValueError(
            "start_share is for mean-reverting SDEs: leave it out, since denoising has no such start"
        )
    return TrainingPlan(card, settings, data, [*description.origins, *origins])


def initial_network(plan: TrainingPlan, initial: Checkpoint | None) -> nn.Module:
    """The network to train: the initial checkpoint's, or one with fresh weights drawn from the plan's seed.

    Raises:
        CheckpointError: there is no such network, or the weights are not its own.
        InvalidValueError: there is not enough memory for it.
    """
    if initial is not None:
        return build_network(plan.card.network, plan.card.settings, initial.weights)
    outline(plan.card.network, plan.card.settings)  # a resumed run's plan comes out of a file, which may say anything
    torch.manual_seed(plan.settings.seed)
    try:
        return NETWORKS[plan.card.network](**plan.card.settings)
    except (RuntimeError, MemoryError) as error:  # PyTorch's own, where memory runs out
        raise InvalidValueError(f"{plan.card.network} of this size cannot be built ({reason(error)})") from None


def _require_whole_patches(settings: TrainingSettings, card: ModelCard) -> None:
    if settings.patch % card.multiple_of:
        nearest = max(1, round(settings.patch / card.multiple_of)) * card.multiple_of
        raise InvalidValueError(
            f"patch must be a multiple of {card.multiple_of} for this network, not {settings.patch}: use {nearest}"
        )


def _listed_degradation(degradation: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in degradation.items())


def _blank(sources: Sequence[SettingsSource]) -> Checkpoint:
    """Weights of the network that the sources name, on no memory, to describe it by."""
    stated = next((source.network for source in sources if source.network), None)
    if stated is None:
        raise InvalidValueError(
            "which network shall be trained? give a recipe (`recipe` small), the reference's options file (`opt`) or a "
            "checkpoint to start from (`init`)"
        )
    name, settings = stated
    kind = next((source.values["kind"] for source in sources if "kind" in source.values), None)
    if kind == DenoisingSDE.kind:
        settings = {**settings, "conditional": False}
    return Checkpoint(Path(name), outline(name, settings).state_dict(), None, "")


def _require_fitting(data: DataPlan, card: ModelCard) -> None:
    """Raise InvalidValueError where the data cannot train this model."""
    if card.channels != 3 or card.value_range is None:
        raise InvalidValueError(
            f"training works on RGB pictures, and this network on {card.channels}-channel "
            f"{'latents' if card.value_range is None else 'arrays'}"
        )
    if isinstance(card.sde, DenoisingSDE):
        card.plan(noise_level=data.noise_level)  # raises where the model is not for it
        if data.lq is not None or data.degradation is not None:
            raise InvalidValueError(
                "a Denoising-SDE makes its own noise: give clean pictures (`gt`) alone, without `lq` or a degradation"
            )
    elif data.lq is None and data.degradation is None:
        raise InvalidValueError(
            "what shall be restored? give degraded pictures (`lq`), or a degradation to make them (`degradation` rain)"
        )
