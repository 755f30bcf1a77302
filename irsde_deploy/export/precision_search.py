"""The cheapest set of nodes that must stay in the higher precision, by the restored picture that comes out.

What counts is the end of the trajectory, not one evaluation: errors of early steps are forgotten, those of late ones
stay. The quality of a candidate is the PSNR of its restored pictures against the FP32 graph's, the worst of the given
pictures. One search, two precisions: FP16, emulated on the CPU (`half_emulation`), over the modules of a graph; and
INT8 over its layers (`irsde_deploy.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from .flops import operations
from .half_emulation import emulate_half
from .precision import Group, groups, lower

Quality = Callable[[frozenset[str]], float]
"""Names kept in the higher precision -> dB; more is better."""

Candidate = Callable[[frozenset[str]], onnx.ModelProto]
"""Names kept in the higher precision -> a graph."""


_LEAST_POWER = 1e-30
COUNTED_SIDE = 256
"""Of the picture that operations, the cost of a search, are counted for."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        kept: names that must stay in the higher precision. Where the harm of a set grows with it, as roundings' does,
            none of them can be released alone.
        share: of the cost of all names, that of those kept; 0..1.
        quality: dB with exactly these kept.
        trials: number of qualities measured.
    """

    kept: tuple[str, ...]
    share: float
    quality: float
    trials: int


def cheapest_set(
    costs: Mapping[str, float],
    quality: Quality,
    budget: float,
    on_trial: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """The cheapest set found of names to keep so that the quality is at least `budget` dB.

    Lowers everything first, and is done if that is good enough. Otherwise measures the harm that lowering each alone
    does, as power; as if harms added up, finds the cheapest set for an allowed harm (a knapsack, solved by dynamic
    programming), and by bisection how much may be allowed so that the set's measured quality keeps the budget. Last it
    releases one by one, the dearest first, what turns out not to be needed. Needs about n + 10 + len(kept) trials for n
    names; `on_trial(done, about)` is called after each.

    Args:
        costs: name -> what keeping it costs, above 0.

    Raises:
        InvalidValueError: not even keeping all of them reaches the budget.
    """
    names = list(costs)
    measured: dict[frozenset[str], float] = {}

    def measure(kept: Sequence[str] | set[str]) -> float:
        key = frozenset(kept)
        if key not in measured:
            measured[key] = quality(key)
            if on_trial is not None:
                on_trial(len(measured), max(len(measured), 3 * len(names) // 2))
        return measured[key]

    if measure([]) >= budget:
        return SearchResult((), 0.0, measure([]), len(measured))
    if measure(names) < budget:
        raise InvalidValueError(
            f"even with nothing lowered restored pictures have {measure(names):.1f} dB, not {budget:g}: lower it"
        )
    everything = set(names)
    least = _power(measure(names))  # what is there with nothing lowered, as FP16 around layers that may be INT8
    harms = {name: max(_power(measure(everything - {name})) - least, 0.0) for name in names}
    budgeted = max(_power(budget) - least, _LEAST_POWER)
    kept, low, high = names, -10.0, 10.0  # of log2 of what is allowed over what the budget says
    while high - low > 0.05:
        middle = (low + high) / 2
        candidate = _cheapest_within(harms, costs, budgeted * 2**middle)
        if measure(candidate) >= budget:
            kept, low = candidate, middle
        else:
            high = middle
    for name in sorted(kept, key=costs.__getitem__, reverse=True):
        without = [other for other in kept if other != name]
        if measure(without) >= budget:
            kept = without
    share = sum(costs[name] for name in kept) / sum(costs.values())
    return SearchResult(tuple(kept), share, measure(kept), len(measured))


def _power(decibels: float) -> float:
    return float(np.power(10.0, -decibels / 10))


def _cheapest_within(harms: Mapping[str, float], costs: Mapping[str, float], allowed: float) -> list[str]:
    """The names to keep, at the least cost, so that the harms of all others sum up to no more than what is allowed.

    Harms are rounded up to whole parts of what is allowed.
    """
    parts = 2000
    units = {name: int(np.ceil(min(harm / allowed, 2.0) * parts)) for name, harm in harms.items()}
    spared = np.zeros(parts + 1)  # by harm spent, at most: the cost of what is lowered
    lowered = np.zeros((len(units), parts + 1), bool)
    for row, (name, unit) in enumerate(units.items()):
        if unit <= parts:
            with_it = spared[: parts + 1 - unit] + costs[name]
            lowered[row, unit:] = with_it > spared[unit:]
            spared[unit:] = np.maximum(spared[unit:], with_it)
    kept, left = [], parts
    for row, (name, unit) in reversed(list(enumerate(units.items()))):
        if lowered[row, left]:
            left -= unit
        else:
            kept.append(name)
    return kept[::-1]


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


def operation_costs(model: onnx.ModelProto, nodes_of: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Names of groups of nodes -> operations of each, at least 1, for `cheapest_set`."""
    of_node = operations(model, 1, COUNTED_SIDE, COUNTED_SIDE)
    return {name: max(1.0, sum(of_node[node] for node in nodes)) for name, nodes in nodes_of.items()}


def restore_seeded(engine: Engine, mu: Float32, table: StepTable, clip: bool = False) -> Float32:
    """Degraded pictures restored with the noise that comparisons share."""
    batch, channels, height, width = mu.shape
    return restore(engine, mu, table, seeded_noise(SEED, (batch, channels, height, width)), clip)


def search_precision(
    quality: TrajectoryQuality, budget: float, on_trial: Callable[[int, int], None] | None = None
) -> tuple[SearchResult, list[Group]]:
    """`cheapest_set` over the modules of a graph: the result, and the groups of nodes that it keeps."""
    by_name = {f"{group.name} ({group.kind})": group for group in groups(quality.model)}
    costs = operation_costs(quality.model, {name: group.nodes for name, group in by_name.items()})

    def of_modules(names: frozenset[str]) -> float:
        return quality(frozenset(node for name in names for node in by_name[name].nodes))

    result = cheapest_set(costs, of_modules, budget, on_trial)
    return result, [by_name[name] for name in result.kept]
