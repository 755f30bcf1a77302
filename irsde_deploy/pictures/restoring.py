"""Everything that is said about how pictures are restored, and a restorer that does so, picture after picture.

What is left open (the noise level of a denoising model, tiles by memory) is settled where it first matters and then
stays: pictures of one size are cut alike, and a video's frames can share the level of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.samplers import StepTable
from ..core.sampling import Sampling, blind_sde
from ..core.tiling import Tiling
from ..restorer import Restorer
from ..runtimes.loops.tile_choice import choices
from .noise_level import estimate_start

Pixels = npt.NDArray[Any]


def settled_by(sampling: Sampling, restorer: Restorer, picture: Pixels) -> Sampling:
    """The same with the noise level of a picture (H, W, 3), where the model needs one and nobody has said it."""
    blind = blind_sde(restorer.sde, sampling.noise_level, sampling.t0)
    return sampling if blind is None else replace(sampling, noise_level=estimate_start(picture, blind))


class Restoring:
    """A restorer with its sampling; noise levels are estimated picture by picture where a model needs one.

    Attributes:
        sampler: its name. steps: network evaluations a picture, at most.
        levels: lowest and highest noise level estimated so far; empty without any.
        tilings: how pictures were cut into tiles, each way once.
        uncalibrated: timesteps visited, or to be visited, outside of the span that an INT8 engine was calibrated for.

    Raises:
        InvalidValueError: settings that do not fit each other or the model.
    """

    def __init__(self, restorer: Restorer, sampling: Sampling) -> None:
        self.restorer, self.sampling = restorer, sampling
        self.blind = blind_sde(restorer.sde, sampling.noise_level, sampling.t0)
        self._table = self._plan(sampling.noise_level)
        self.sampler = restorer.card.sampler_of(sampling.sampler, sampling.quality)
        self.steps = len(self._table)
        self.levels: list[float] = []
        self.tilings: dict[str, None] = {}
        self.uncalibrated = set() if self.blind else set(restorer.card.uncalibrated(self._table.t))
        self._ways: dict[tuple[int, ...], Tiling | None] = {}

    @property
    def about(self) -> dict[str, Any]:
        """The settings in force, for reports."""
        sampling = self.sampling
        about: dict[str, Any] = {"sampler": self.sampler, "quality": sampling.quality, "seed": sampling.seed}
        about |= {"debias": sampling.debias, "clip": sampling.clip}
        if self.restorer.sde.kind == "denoising":
            about["noise_level"] = "estimated" if self.blind else sampling.noise_level
        return about if self.blind else about | {"steps": self.steps, "t0": int(self._table.t[0])}

    def __str__(self) -> str:
        level = self.sampling.noise_level
        noise = ", noise level estimated" if self.blind else "" if level is None else f", noise level {level:.4g}"
        quality = f"{self.sampling.quality} = " if self.sampling.quality else ""
        return f"{quality}{self.sampler}, {self.steps} step{'s' * (self.steps > 1)}, seed {self.sampling.seed}{noise}"

    def way(self, shape: tuple[int, ...]) -> Tiling | None:
        """How pictures (B, H, W, C) are cut, None: not at all; decided when it is first asked for.

        Raises:
            InvalidValueError: a tile or overlap out of range.
        """
        if shape not in self._ways:
            self._ways[shape] = choices(self.restorer.engine, shape, self.sampling.tile, self.sampling.overlap)[0]
        return self._ways[shape]

    def __call__(
        self, pictures: Pixels, on_step: Callable[[int], None] | None = None, frames: Sequence[int] | None = None
    ) -> Pixels:
        """A picture (H, W, 3) or a batch -> the same restored; `frames`: the number of each one's noise field."""
        if self.blind is None:
            return self._restored(pictures, self.sampling.noise_level, on_step, frames)
        if pictures.ndim == 4:
            numbers = [None] * len(pictures) if frames is None else [[number] for number in frames]
            return np.stack([self(picture, on_step, k) for picture, k in zip(pictures, numbers, strict=True)])
        level = estimate_start(pictures, self.blind)
        self.levels = [min([level, *self.levels]), max([level, *self.levels])]
        self.uncalibrated |= set(self.restorer.card.uncalibrated(self._plan(level).t))
        return self._restored(pictures, level, on_step, frames)

    def _plan(self, level: float | None) -> StepTable:
        s = self.sampling
        return self.restorer.plan(s.sampler, s.steps, s.debias, s.t0, level, s.quality)

    def _restored(
        self,
        pictures: Pixels,
        level: float | None,
        on_step: Callable[[int], None] | None,
        frames: Sequence[int] | None,
    ) -> Pixels:
        shape = pictures.shape if pictures.ndim == 4 else (1, *pictures.shape)
        options = {**vars(self.sampling), "noise_level": level, "frames": frames, "on_step": on_step}
        try:
            restored = self.restorer(pictures, **{**options, **self._pinned(shape)})
        except MemoryError:
            if self.sampling.tile != "auto" or self._ways.pop(shape, None) is not None:
                raise
            restored = self.restorer(pictures, **options)  # it was whole until now
        self._ways[shape] = self.restorer.tiling
        if self.restorer.tiling is not None:
            self.tilings[str(self.restorer.tiling)] = None
        return restored

    def _pinned(self, shape: tuple[int, ...]) -> dict[str, int | None]:
        """How pictures of this shape are cut, as a `Restorer` takes it; nothing where that is not decided yet."""
        if shape not in self._ways:
            return {}
        way = self._ways[shape]
        return {"tile": None, "overlap": None} if way is None else {"tile": way.side, "overlap": way.overlap}
