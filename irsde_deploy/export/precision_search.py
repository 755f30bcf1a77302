"""The smallest set of nodes that must stay in the higher precision, by the restored picture that comes out.

What counts is the end of the trajectory, not one evaluation: errors of early steps are forgotten, those of late ones
stay. The quality of a candidate is the PSNR of its restored pictures against the FP32 graph's, the worst of the given
pictures. One search, two precisions: FP16, emulated on the CPU (`half_emulation`), over the modules of a graph; and
INT8 over its layers (`irsde_deploy.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..card import ModelCard
from ..errors import InvalidValueError, NotFiniteError
from ..metrics import psnr
from ..noise import seeded_noise
from ..runtimes.numpy_loop import restore
from ..runtimes.onnx_engine import OnnxEngine
from ..runtimes.protocol import Engine, Float32
from ..samplers import StepTable
from .example import SEED
from .half_emulation import emulate_half
from .precision import Group, groups, lower

Quality = Callable[[frozenset[str]], float]
"""Names kept in the higher precision -> dB; more is better."""

Candidate = Callable[[frozenset[str]], onnx.ModelProto]
"""Names kept in the higher precision -> a graph."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        kept: names that must stay in the higher precision, most harmful first. Where the harm of a set grows with it,
            as roundings' does, none of them can be released alone.
        quality: dB with exactly these kept.
        trials: number of qualities measured.
    """

    kept: tuple[str, ...]
    quality: float
    trials: int


def smallest_set(
    names: Sequence[str], quality: Quality, budget: float, on_trial: Callable[[int, int], None] | None = None
) -> SearchResult:
    """The smallest set found of names to keep so that the quality is at least `budget` dB.

    Lowers everything first, and is done if that is good enough. Otherwise ranks the names by the harm that lowering
    each alone does, finds by bisection how many of the most harmful must be kept, and then releases one by one,
    the least harmful first, what turns out not to be needed. Needs about len(names) + log2(len(names)) + len(kept)
    trials; `on_trial(done, about)` is called after each.

    Raises:
        InvalidValueError: not even keeping all of them reaches the budget.
    """
    measured: dict[frozenset[str], float] = {}

    def measure(kept: Sequence[str] | set[str]) -> float:
        key = frozenset(kept)
        if key not in measured:
            measured[key] = quality(key)
            if on_trial is not None:
                on_trial(len(measured), max(len(measured), len(names) + 8))
        return measured[key]

    if measure([]) >= budget:
        return SearchResult((), measure([]), len(measured))
    if measure(names) < budget:
        raise InvalidValueError(
            f"even with nothing lowered the quality is {measure(names):.1f} dB, below {budget:g} dB"
        )
    everything = set(names)
    ranked = sorted(names, key=lambda name: measure(everything - {name}))
    enough = _fewest(len(ranked), lambda count: measure(ranked[:count]) >= budget)
    kept = ranked[:enough]
    for name in reversed(ranked[:enough]):
        without = [other for other in kept if other != name]
        if measure(without) >= budget:
            kept = without
    return SearchResult(tuple(kept), measure(kept), len(measured))


def _fewest(most: int, enough: Callable[[int], bool]) -> int:
    """The smallest count for which `enough` holds, by bisection; holds for `most`, does not for 0."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


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
    return restore(engine, mu, table, seeded_noise(SEED, (batch, channels, height, width)), clip)


def search_precision(
    quality: TrajectoryQuality, budget: float, on_trial: Callable[[int, int], None] | None = None
) -> tuple[SearchResult, list[Group]]:
    """`smallest_set` over the modules of a graph: the result, and the groups of nodes that it keeps."""
    by_name = {f"{group.name} ({group.kind})": group for group in groups(quality.model)}

    def of_modules(names: frozenset[str]) -> float:
        return quality(frozenset(node for name in names for node in by_name[name].nodes))

    result = smallest_set(list(by_name), of_modules, budget, on_trial)
    return result, [by_name[name] for name in result.kept]
