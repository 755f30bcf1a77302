"""Restorer: degraded pictures in, restored pictures out, in the type they came in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import ModelCard
from .errors import InvalidValueError
from .noise import given_noise, seeded_noise
from .noise_level import blind_sde
from .runtimes import Engine, numpy_loop, open_engine
from .runtimes.protocol import Float32
from .samplers import StepTable
from .sde import DenoisingSDE, MeanRevertingSDE

FLOAT_LIMIT = 2.0
"""Float pictures are in [0, 1]; a value beyond this is taken for a wrong scale, not for an overshoot."""


class Restorer:
    """An engine and the reverse-SDE loop around it.

    Args:
        engine: any `Engine`; `load` makes one from a file.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def card(self) -> ModelCard:
        """What the engine is and how it wants its pictures."""
        return self.engine.card

    @property
    def sde(self) -> MeanRevertingSDE | DenoisingSDE:
        """The SDE that the network was trained with."""
        return self.card.sde

    def plan(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        debias: bool = False,
        t0: int | None = None,
        noise_level: float | None = None,
    ) -> StepTable:
        """The step table for these settings; what is left out comes from the card (`ModelCard.plan`)."""
        return self.card.plan(sampler, steps, debias, t0, noise_level)

    def __call__(
        self,
        picture: npt.NDArray[Any],
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        noise: npt.NDArray[Any] | None = None,
        debias: bool = False,
        t0: int | None = None,
        clip: bool = False,
        on_step: Callable[[int], None] | None = None,
        noise_level: float | None = None,
    ) -> npt.NDArray[Any]:
        """Restore one picture or a batch.

        Args:
            picture: (H, W, C) or (B, H, W, C), RGB; uint8, uint16, or floating point in [0, 1].
            sampler: one of `irsde_deploy.samplers.SAMPLERS`; the card's by default.
            steps: number of network evaluations; the card's by default.
            seed: of the noise field. Each picture of a batch gets the same field, alone or in a batch.
            noise: (steps+1, B, C, H, W) standard normals in place of the seed: [0] for the initial state, then one
                a step.
            debias: take the training target's bias out (see `plan_steps`).
            t0: first timestep; T by default.
            clip: keep the predicted picture within [0, 1] at each step.
            on_step: called with the number of steps done, 0..N.
            noise_level: for models of a Denoising-SDE, which need it or t0: standard deviation of the picture's
                noise on the 0..255 scale; `irsde_deploy.noise_level.estimate_noise` estimates it.

        Returns:
            The same shape and type. Integers are rounded and saturated; floating point is left as it comes, which
            can be slightly outside [0, 1].

        Raises:
            InvalidValueError: a shape, type or setting that does not fit.
            EngineError: the evaluation failed.
        """
        picture = np.asarray(picture)
        mu = self.to_network(picture)
        if blind_sde(self.sde, noise_level, t0):
            raise InvalidValueError(
                "this model starts at the timestep that matches the picture's noise: give noise_level (standard "
                "deviation on the 0..255 scale; irsde_deploy.noise_level.estimate_noise estimates it) or t0"
            )
        table = self.plan(sampler, steps, debias, t0, noise_level)
        draw = seeded_noise(seed, mu.shape) if noise is None else given_noise(noise, len(table), mu.shape)
        if clip and self.card.value_range is None:
            raise InvalidValueError("clip is for pictures; this network works on latents, which have no fixed range")
        restored = numpy_loop.restore(self.engine, mu, table, draw, clip, on_step)
        return _from_network(restored, picture.dtype).reshape(picture.shape)

    def to_network(self, picture: npt.NDArray[Any]) -> Float32:
        """(H, W, C) or (B, H, W, C) of any picture type -> mu (B, C, H, W) float32, pictures in [0, 1]."""
        batch = picture[None] if picture.ndim == 3 else picture
        channels = self.card.channels
        if batch.ndim != 4 or batch.shape[3] != channels or 0 in batch.shape:
            raise InvalidValueError(
                f"a picture must have the shape (H, W, {channels}) or (B, H, W, {channels}), not {picture.shape}"
            )
        values = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        latent = self.card.value_range is None
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2 and not latent:
            scaled: Float32 = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
            return scaled
        if not np.issubdtype(values.dtype, np.floating):
            expected = "a latent must be" if latent else "a picture must be uint8, uint16 or"
            raise InvalidValueError(f"{expected} floating point, not {values.dtype}")
        if not np.isfinite(values).all():
            raise InvalidValueError("the picture has NaN or infinite values: every value must be finite")
        if not latent and np.abs(values).max() > FLOAT_LIMIT:
            raise InvalidValueError(
                f"floating-point pictures are in [0, 1], and this one goes to {np.abs(values).max():g}: "
                "divide by its white value first"
            )
        return values.astype(np.float32)


def load(path: str | Path, device: str = "cpu", card: ModelCard | None = None) -> Restorer:
    """Open an engine file as a Restorer: `.onnx`, or a PyTorch checkpoint; see `irsde_deploy.runtimes.open_engine`."""
    return Restorer(open_engine(path, device, card))


def _from_network(restored: Float32, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(B, C, H, W) float32 -> (B, H, W, C) of the type that came in."""
    values = restored.transpose(0, 2, 3, 1)
    if not np.issubdtype(dtype, np.floating):
        values = np.rint(np.clip(values, 0, 1) * np.float32(np.iinfo(dtype).max))
    restored_type: npt.NDArray[Any] = values.astype(dtype)
    return restored_type
