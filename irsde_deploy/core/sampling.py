"""Everything that is said about how pictures are restored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .sde import SDE, DenoisingSDE
from .tiling import SIDES, Tile, Tiling


def blind_sde(sde: SDE, noise_level: float | None, t0: int | None) -> DenoisingSDE | None:
    """The SDE, where sampling it needs the picture's noise level and nobody has said it or the first timestep."""
    return sde if isinstance(sde, DenoisingSDE) and noise_level is None and t0 is None else None


@dataclass(frozen=True)
class Sampling:
    """Settings of `Restorer.__call__`, under its names.

    Raises:
        InvalidValueError: a tile or overlap out of range.
    """

    sampler: str | None = None
    steps: int | None = None
    quality: str | None = None
    t0: int | None = None
    noise_level: float | None = None
    seed: int = 0
    debias: bool = False
    clip: bool = False
    tile: Tile = "auto"
    overlap: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tile, int):
            Tiling.of(self.tile, self.overlap)  # raises where there are no such tiles
        elif self.overlap is not None:
            Tiling.of(max(SIDES), self.overlap)

    def of_quality(self, quality: str | None) -> Sampling:
        """The same with a quality chosen later."""
        return replace(self, quality=quality)
