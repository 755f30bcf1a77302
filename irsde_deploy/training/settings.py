"""How a network is trained: every number that a recipe's section [training], an options file or a flag can set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..core.margin import MAX_MARGIN
from ..errors import refuse
from ..system.decoding import convert, numbers_from_text
from ..system.parsing import shown
from .objectives import LOSSES, OBJECTIVES

OPTIMIZERS = ("adamw", "adam", "lion")
SCHEMES = ("cosine", "multi-step", "constant")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingSettings:
    """A training run, apart from its data, network and SDE.

    Attributes:
        objective, loss: see `objectives`; `weighted` multiplies each sample's loss by exp(-theta_bar_t), as the
            reference's `is_weighted` does.
        start_share: share of the samples that are what sampling starts from, y = lam z at t = T, in place of
            y = a_t y_0 + sigma_t z: with a large eps, a_T y_0 gives away more of the clean picture than a sampler has.
        iterations: optimizer steps; `batch` samples each, over all processes; `patch` is the side of a sample.
        optimizer, learning_rate, beta1, beta2, weight_decay: of the optimizer.
        scheme: `cosine` from learning_rate to min_learning_rate over all iterations, `multi-step` (times `gamma` at
            each of the `milestones`) or `constant`; after a linear warm-up over the first `warmup` iterations.
        ema: decay of the averaged weights, which are the ones to use; smaller at the start, min(ema, (1+i)/(10+i)).
        clip_norm: largest norm of the gradient; 0 for no limit.
        precision: `fp32`, or `bf16` or `fp16` arithmetic with weights in float32 (mixed precision).
        flip, rotate: augment by mirroring and by quarter turns.
        seed: of the initial weights and of every sample.
        margin: of the model's card, in pixels; None: chosen by measurement at each validation (`training.margins`).
        validate_every, save_every, log_every: iterations.

    Raises:
        InvalidValueError: a value is outside its range.
    """

    objective: str = "ml-exact"
    loss: str = "l1"
    weighted: bool = False
    start_share: float = 0.0
    iterations: int = 100_000
    batch: int = 8
    patch: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    scheme: str = "cosine"
    warmup: int = 500
    min_learning_rate: float = 1e-6
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5
    ema: float = 0.999
    clip_norm: float = 0.0
    precision: str = "fp32"
    flip: bool = True
    rotate: bool = True
    seed: int = 0
    margin: int | None = None
    validate_every: int = 2000
    save_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        refuse(self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no settings may be, the sentence to say then)."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            yield value not in choices, f"{name} must be one of {', '.join(choices)}, not {shown(value)}"
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is None:  # a margin that is to be chosen
                continue
            yield not low <= value <= high, f"{name} must be from {low!r} to {high!r}, not {shown(value)}"
        increasing = all(earlier < later for earlier, later in pairwise((0, *self.milestones)))
        yield not increasing, f"milestones must be above 0 and increase, not {shown(list(self.milestones))}"

    def learning_rate_at(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        warm = 1.0
        if self.warmup:
            warm = min(1.0, (iteration + 1) / self.warmup)
        if self.scheme == "cosine":
            done = min(1.0, iteration / self.iterations)
            low, high = min(self.min_learning_rate, self.learning_rate), self.learning_rate
            return warm * (low + (high - low) * (1 + math.cos(math.pi * done)) / 2)
        passed = 0
        if self.scheme == "multi-step":
            passed = sum(iteration >= milestone for milestone in self.milestones)
        return warm * self.learning_rate * self.gamma**passed


_CHOICES = {
    "objective": OBJECTIVES,
    "loss": tuple(LOSSES),
    "optimizer": OPTIMIZERS,
    "scheme": SCHEMES,
    "precision": PRECISIONS,
}
_LIMITS = {
    "start_share": (0, 0.9),
    "iterations": (1, 10**9),
    "batch": (1, 65_536),
    "patch": (8, 4096),
    "learning_rate": (0, 10),
    "beta1": (0, 0.999999),
    "beta2": (0, 0.999999),
    "weight_decay": (0, 10),
    "warmup": (0, 10**9),
    "min_learning_rate": (0, 10),
    "gamma": (0, 1),
    "ema": (0, 0.9999999),
    "clip_norm": (0, 1e9),
    "seed": (0, 2**63 - 1),
    "margin": (0, MAX_MARGIN),
    "validate_every": (1, 10**9),
    "save_every": (1, 10**9),
    "log_every": (1, 10**9),
}


def training_settings(values: Mapping[str, Any], what: str) -> TrainingSettings:
    """Settings as people write them, by name: numbers may be text, and one milestone needs no list.

    `what` names the settings in sentences.

    Raises:
        InvalidValueError: an unknown name, a wrong type or a value outside its range.
    """
    if not isinstance(values.get("milestones", ()), (list, tuple)):
        values = {**values, "milestones": [values["milestones"]]}
    return convert(numbers_from_text(values, TrainingSettings), TrainingSettings, what)
