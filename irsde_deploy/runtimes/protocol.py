"""What every engine is: one evaluation of the score network."""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt

from ..core.arrays import Float32
from ..core.card import ModelCard

DEVICES = ("cpu", "cuda", "auto")
"""Where an engine can run; `auto`: on the GPU where it can be used, else on the CPU."""


class Engine(Protocol):
    """A score network that can be evaluated, with the card that says how."""

    @property
    def card(self) -> ModelCard:
        """How pictures must be prepared, and the SDE."""

    @property
    def name(self) -> str:
        """Library, version and device, for people."""

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> npt.NDArray[Any]:
        """Predict the noise.

        Args:
            x: state (B, C, H, W), sides already multiples of `card.multiple_of`.
            mu: degraded picture, same shape.
            t: timestep of each entry, (B,).

        Returns:
            eps, same shape as x, float32.

        Raises:
            EngineError: the evaluation failed, for example for want of memory.
        """
