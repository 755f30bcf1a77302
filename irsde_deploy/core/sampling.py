"""How pictures are sampled: the settings, said once, and the plan that a model's card makes of them.

`Sampling` is what a user asks for; what is left open comes from the model's card. `ModelCard.plan` turns it into a
`Plan`, which is all that a loop, a pack or a graph needs to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, TypedDict, TypeGuard

import numpy as np

from ..errors import InvalidValueError, refuse
from ..system.parsing import shown
from .noise import require_seed
from .presets import Preset, preset
from .samplers import SAMPLERS, StepTable
from .sde import SDE, DenoisingSDE
from .tiling import SIDES, Tile, Tiling, require_tile

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SamplingSettings(TypedDict, total=False):
    """The fields of `Sampling` as keywords, for functions that take either."""

    sampler: str | None
    steps: int | None
    quality: str | None
    t0: int | None
    noise_level: float | None
    seed: int
    debias: bool
    clip: bool
    tile: Tile
    overlap: int | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is asked for; None leaves a setting to the model's card.

    Attributes:
        sampler: one of `irsde_deploy.core.samplers.SAMPLERS`.
        steps: number of network evaluations, from 1 to the first timestep.
        quality: a preset of `irsde_deploy.core.presets` in place of sampler and steps.
        t0: first timestep, 1..T.
        noise_level: for models of a Denoising-SDE: standard deviation of the picture's noise, above 0 on the 0..255
            scale. It chooses the first timestep.
        seed: of the noise field, 0..2^64-1.
        debias: take the training target's bias out of the network's output (see `plan_steps`).
        clip: keep the predicted picture within [0, 1] at each step.
        tile: side in pixels of tiles to evaluate one by one (`irsde_deploy.core.tiling`); `auto`: whole where memory
            and the engine allow, else the largest that they do; None: whole. Where memory runs out, smaller ones are
            tried, but for None.
        overlap: of neighbouring tiles, in pixels; by default 64, or half a side where that is less.

    Raises:
        InvalidValueError: a setting out of range, or two that contradict each other.
    """

    sampler: str | None = None
    steps: int | None = None
    quality: str | None = None
    t0: int | None = None
    noise_level: float | None = None
    seed: int = 0
    debias: bool = False
    clip: bool = False
    tile: Tile = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        # Settings come from arrays and files too: what is kept is plain, so that it can be written as JSON.
        for name, least in _WHOLE_FROM.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _whole(name, value, least))
        for name in ("debias", "clip"):
            object.__setattr__(self, name, _flag(name, getattr(self, name)))
        require_seed(self.seed)
        object.__setattr__(self, "seed", int(self.seed))
        if isinstance(self.tile, np.integer):
            object.__setattr__(self, "tile", int(self.tile))
        refuse(self._rules())
        self._require_tiles()

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no sampling may be, the sentence to say then); what a model allows at most, its card's `plan` knows."""
        yield (
            self.sampler is not None and self.sampler not in list(SAMPLERS),
            f"sampler must be one of {', '.join(SAMPLERS)}, not {shown(self.sampler)}",
        )
        yield (
            self.quality is not None and (self.sampler is not None or self.steps is not None),
            f"the quality {shown(self.quality)} is a sampler and a number of steps: leave out one or the others",
        )
        self.preset  # noqa: B018 (raises where there is no such quality)
        level = self.noise_level
        yield (
            level is not None and (isinstance(level, bool) or not isinstance(level, Real) or not 0 < level < math.inf),
            f"noise_level must be a number above 0, on the 0..255 scale, not {shown(level)}",
        )
        yield (
            level is not None and self.t0 is not None,
            "a noise level chooses the first timestep of a Denoising-SDE: leave it out where t0 is given",
        )

    @classmethod
    def of(cls, sampling: Sampling | None, **settings: Unpack[SamplingSettings]) -> Sampling:
        """The sampling, with the settings that are given by name in place of its own.

        Raises:
            InvalidValueError: as for `Sampling`, or what is given is none. TypeError: a name that no setting has.
        """
        for name in settings.keys() - cls.__dataclass_fields__.keys():
            known = ", ".join(cls.__dataclass_fields__)
            raise TypeError(f"there is no setting {shown(name)} of sampling: there are {known}")
        if sampling is None:
            return cls(**settings)
        if not isinstance(sampling, Sampling):
            raise InvalidValueError(
                f"sampling must be a Sampling, not {shown(sampling)}: settings are given by name, such as "
                "sampler='mean'"
            )
        return replace(sampling, **settings) if settings else sampling

    @property
    def preset(self) -> Preset | None:
        """What the quality stands for; None without one."""
        return None if self.quality is None else preset(self.quality)

    def starts_blind(self, sde: SDE) -> TypeGuard[DenoisingSDE]:
        """Whether sampling starts at the picture's noise level and the settings do not say where that is.

        Only models of a Denoising-SDE do.
        """
        return isinstance(sde, DenoisingSDE) and self.noise_level is None and self.t0 is None

    def _require_tiles(self) -> None:
        """Raise InvalidValueError where there are no such tiles."""
        require_tile(self.tile)
        if isinstance(self.tile, int):
            Tiling.of(self.tile, self.overlap)
        elif self.overlap is not None:
            if self.tile is None:
                raise InvalidValueError("`overlap` is that of tiles: give `tile` too, or leave it out")
            Tiling.of(max(SIDES), self.overlap)


_WHOLE_FROM = {"steps": 1, "t0": 1, "overlap": -math.inf}
"""Settings that are whole numbers, and the least that each can be; what tiles can overlap by, `Tiling` knows."""


def _whole(name: str, value: object, least: float) -> int:
    """A setting as a plain int, or InvalidValueError: Python takes True for 1, and nobody means that here."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < least:
        lowest = "" if least == -math.inf else f" from {least:g}"
        raise InvalidValueError(f"{name} must be a whole number{lowest}, not {shown(value)}")
    return int(value)


def _flag(name: str, value: object) -> bool:
    """A setting that is on or off, or InvalidValueError: any text would be on."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidValueError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


@dataclass(frozen=True, eq=False)
class Plan:
    """What a loop executes.

    Attributes:
        table: the step table.
        sampler: its name.
        clip: whether the predicted picture is kept within [0, 1] at each step.
        debias: whether the training target's bias is taken out in the table.
    """

    table: StepTable
    sampler: str
    clip: bool = False
    debias: bool = False

    def __len__(self) -> int:
        """The number of network evaluations."""
        return len(self.table)
