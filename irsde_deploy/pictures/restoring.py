"""A restorer that keeps to one sampling, picture after picture.

What is left open (the noise level of a denoising model, tiles by memory) is settled where it first matters and then
stays: pictures of one size are cut alike, and a video's frames can share the level of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.sampling import Plan, Sampling
from ..core.tiling import Tiling
from ..restorer import Restorer
from ..runtimes.loops.tile_choice import choices
from .noise_level import estimate_start

Pixels = npt.NDArray[Any]


def settled_by(sampling: Sampling, restorer: Restorer, picture: Pixels) -> Sampling:
    """The sampling with the noise level of a picture (H, W, 3), where the model needs one and nobody has said it."""
    if sampling.starts_blind(restorer.sde):
        return replace(sampling, noise_level=estimate_start(picture, restorer.sde))
    return sampling


class Restoring:
    """A restorer that keeps to one sampling; it estimates noise levels picture by picture where a model needs one.

    Attributes:
        blind: whether noise levels are estimated.
        plan: what is executed; where noise levels are estimated, with as many steps as any picture can get.
        sampler: its name. steps: network evaluations a picture, at most.
        levels: lowest and highest noise level estimated so far; empty without any.
        tilings: how pictures were cut into tiles, each way once.
        uncalibrated: timesteps visited, or to be visited, outside of the span that an INT8 engine was calibrated for.

    Raises:
        InvalidValueError: settings that do not fit each other or the model.
    """

    def __init__(self, restorer: Restorer, sampling: Sampling) -> None:
        self.restorer, self.sampling = restorer, sampling
        self.blind = sampling.starts_blind(restorer.sde)
        self.plan = restorer.plan(replace(sampling, t0=restorer.sde.T) if self.blind else sampling)
        self.sampler, self.steps = self.plan.sampler, len(self.plan)
        self.levels: list[float] = []
        self.tilings: dict[str, None] = {}
        self.uncalibrated: set[int] = set()
        if not self.blind:
            self._note_timesteps(self.plan)
        self._ways: dict[tuple[int, ...], Tiling | None] = {}

    @property
    def about(self) -> dict[str, Any]:
        """The settings in force, for reports."""
        sampling = self.sampling
        about: dict[str, Any] = {"sampler": self.sampler, "quality": sampling.quality, "seed": sampling.seed}
        about |= {"debias": sampling.debias, "clip": sampling.clip}
        if self.restorer.sde.kind == "denoising":
            about["noise_level"] = "estimated" if self.blind else sampling.noise_level
        if not self.blind:
            about |= {"steps": self.steps, "t0": int(self.plan.table.t[0])}
        return about

    def __str__(self) -> str:
        words = f"{self.sampler}, {self.steps} step{'s' * (self.steps > 1)}, seed {self.sampling.seed}"
        if self.sampling.quality:
            words = f"{self.sampling.quality} = {words}"
        if self.blind:
            return f"{words}, noise level estimated"
        if self.sampling.noise_level is not None:
            return f"{words}, noise level {self.sampling.noise_level:.4g}"
        return words

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
        if not self.sampling.starts_blind(self.restorer.sde):
            return self._restored(pictures, self.sampling, on_step, frames)
        if pictures.ndim == 4:
            # Each picture has a noise level, hence a table, of its own.
            numbers = [None] * len(pictures) if frames is None else [[number] for number in frames]
            return np.stack([self(picture, on_step, k) for picture, k in zip(pictures, numbers, strict=True)])
        level = estimate_start(pictures, self.restorer.sde)
        self.levels = [min([level, *self.levels]), max([level, *self.levels])]
        sampling = replace(self.sampling, noise_level=level)
        self._note_timesteps(self.restorer.plan(sampling))
        return self._restored(pictures, sampling, on_step, frames)

    def _note_timesteps(self, plan: Plan) -> None:
        self.uncalibrated |= set(self.restorer.card.uncalibrated(plan.table.t))

    def _restored(
        self,
        pictures: Pixels,
        sampling: Sampling,
        on_step: Callable[[int], None] | None,
        frames: Sequence[int] | None,
    ) -> Pixels:
        shape = pictures.shape if pictures.ndim == 4 else (1, *pictures.shape)
        try:
            restored = self.restorer(pictures, self._pinned(sampling, shape), frames=frames, on_step=on_step)
        except MemoryError:
            if sampling.tile != "auto" or self._ways.pop(shape, None) is not None:
                raise
            # Pictures of this shape were restored whole until now, and memory has become short.
            restored = self.restorer(pictures, sampling, frames=frames, on_step=on_step)
        self._ways[shape] = self.restorer.tiling
        if self.restorer.tiling is not None:
            self.tilings[str(self.restorer.tiling)] = None
        return restored

    def _pinned(self, sampling: Sampling, shape: tuple[int, ...]) -> Sampling:
        """The sampling that cuts pictures of this shape as they were cut before, if any were."""
        if shape not in self._ways:
            return sampling
        way = self._ways[shape]
        if way is None:
            return replace(sampling, tile=None, overlap=None)
        return replace(sampling, tile=way.side, overlap=way.overlap)
