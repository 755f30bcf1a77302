"""The quality of a candidate graph: PSNR of its restored pictures against the FP32 graph's.

What counts is the end of the trajectory, not one evaluation: errors of early steps are forgotten, those of late ones
stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import psnr
from ..core.example import SEED
from ..core.margin import surrounded
from ..core.noise import seeded_noise
from ..core.samplers import StepTable
from ..errors import NotFiniteError
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.loops.numpy_loop import restore
from ..runtimes.protocol import Engine
from .casts import lower
from .half_emulation import emulate_half

Candidate = Callable[[frozenset[str]], onnx.ModelProto]
"""Names kept in the higher precision -> a graph."""


@dataclass(frozen=True)
class TrajectoryQuality:
    """PSNR of a candidate graph's restored pictures against the FP32 graph's, on the CPU.

    Attributes:
        model: the FP32 graph. card: its card.
        pictures: degraded pictures, each (1, C, H, W).
        table: the sampler.
        reference: what the FP32 graph makes of them.
        candidate: names kept in the higher precision -> the graph to run, as ONNX Runtime's CPU provider takes it.
        clip: whether the predicted picture is kept within [0, 1] at each step.
    """

    model: onnx.ModelProto
    card: ModelCard
    pictures: Sequence[Float32]
    table: StepTable
    reference: Sequence[Float32]
    candidate: Candidate
    clip: bool = False

    @classmethod
    def of(
        cls,
        model: onnx.ModelProto,
        card: ModelCard,
        pictures: Sequence[Float32],
        table: StepTable,
        candidate: Candidate | None = None,
        clip: bool = False,
    ) -> TrajectoryQuality:
        """Run the FP32 graph on the pictures; by default candidates are FP16 but for the nodes that are kept."""
        engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
        reference = [restore_seeded(engine, mu, table, clip) for mu in pictures]
        candidate = candidate or (lambda keep: emulate_half(lower(model, keep)))
        return cls(model, card, pictures, table, reference, candidate, clip)

    def __call__(self, keep: frozenset[str]) -> float:
        """dB with these names kept; the worst picture's, -inf where it is not finite."""
        engine = OnnxEngine.from_bytes(self.candidate(keep).SerializeToString(), self.card)
        try:
            return self.worst([restore_seeded(engine, mu, self.table, self.clip) for mu in self.pictures])
        except NotFiniteError:
            return -np.inf

    def worst(self, restored: Sequence[Float32]) -> float:
        """dB of restored pictures against the FP32 graph's, the worst of them."""
        return min(psnr(mine, theirs, 1.0) for mine, theirs in zip(restored, self.reference, strict=True))


def restore_seeded(engine: Engine, mu: Float32, table: StepTable, clip: bool = False) -> Float32:
    """Degraded pictures restored with the noise that comparisons share."""
    batch, channels, height, width = mu.shape
    noise = seeded_noise(SEED, (batch, channels, *surrounded(height, width, engine.card.margin)))
    return restore(engine, mu, table, noise, clip)
