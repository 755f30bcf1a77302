"""What every engine is, one evaluation of the score network, and what every loop is, many of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy.typing as npt

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.noise import NoiseSource
from ..core.sampling import Plan
from ..core.tiling import Tiling

DEVICES = ("cpu", "cuda", "auto")
"""Names of the places where an engine can run; `auto` is the GPU where one can be used, else the CPU."""


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


class Loop(Protocol):
    """The reverse SDE around one engine: it executes a plan on pictures (`runtimes.loops`)."""

    @property
    def engine(self) -> Engine:
        """The network that is evaluated at every step."""

    def __call__(
        self,
        batch: npt.NDArray[Any],
        plan: Plan,
        noise: NoiseSource,
        *,
        on_step: Callable[[int], None] | None = None,
        tiling: Tiling | None = None,
    ) -> npt.NDArray[Any]:
        """Restore a batch of pictures in host memory.

        Args:
            batch: degraded pictures (B, H, W, C), as `core.pixels.check_picture` returns them.
            plan: the step table, and whether the predicted picture is kept within [0, 1] at each step.
            noise: the standard normals of the initial state and of each step.
            on_step: called with the number of steps done, from 0 to N.
            tiling: the tiles that the network sees one by one; None: it sees whole pictures.

        Returns:
            The restored pictures, in the shape and type of the batch.

        Raises:
            EngineError: an evaluation failed.
            OutOfMemoryError: it failed for want of memory.
            NotFiniteError: a state has NaN or infinite values.
        """
