"""Presets of quality: how many network evaluations a picture gets, and what is made of them.

Chosen by measurement (benchmarks/samplers.py, docs/samplers.md). A model card that nobody chose a sampler for has that
of `balanced`: the cheapest within 0.1 dB of 100 posterior steps, on the reference's checkpoint too.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidValueError
from ..system.parsing import shown
from .samplers import SAMPLERS


@dataclass(frozen=True)
class Preset:
    """A sampler and its number of evaluations.

    Attributes:
        sampler: one of `irsde_deploy.core.samplers.SAMPLERS`.
        steps: how many network evaluations a picture gets; at least one.
    """

    sampler: str
    steps: int

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS or self.steps < 1:
            raise InvalidValueError(
                f"a preset has a sampler and at least one step, not {shown(self.sampler)}, {self.steps}"
            )

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps"


PRESETS: dict[str, Preset] = {
    "draft": Preset("mean", 2),
    "fast": Preset("mean", 5),
    "balanced": Preset("mean", 10),
    "best": Preset("sde-2m", 20),
}
"""Quality -> what it is made of, cheapest first."""

BY_COST = tuple(reversed(PRESETS))
"""The qualities that `quality_within` chooses from, the most expensive first."""


def preset(name: str) -> Preset:
    """The preset of a quality; InvalidValueError for a name that is none."""
    if not isinstance(name, str) or name not in PRESETS:
        raise InvalidValueError(f"quality must be one of {', '.join(PRESETS)}, not {shown(name)}")
    return PRESETS[name]


def quality_within(seconds: float, evaluation: float) -> tuple[str, bool]:
    """The best quality whose evaluations fit into a time.

    Args:
        seconds: the time that a picture may take.
        evaluation: the seconds that one evaluation takes at the picture's size.

    Returns:
        The quality, and whether it does fit: `draft` is returned where none does.

    Raises:
        InvalidValueError: a target that is not a finite number above 0.
    """
    if not 0 < seconds < float("inf"):
        raise InvalidValueError(f"the target must be a finite number above 0 seconds a picture, not {seconds:g}")
    for name in BY_COST:
        if PRESETS[name].steps * evaluation <= seconds:
            return name, True
    return "draft", False
