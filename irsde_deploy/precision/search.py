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

from ..errors import InvalidValueError
from ..graphs.flops import operations

Quality = Callable[[frozenset[str]], float]
"""Names kept in the higher precision -> dB; more is better."""

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


def operation_costs(model: onnx.ModelProto, nodes_of: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Names of groups of nodes -> operations of each, at least 1, for `cheapest_set`."""
    of_node = operations(model, 1, COUNTED_SIDE, COUNTED_SIDE)
    return {name: max(1.0, sum(of_node[node] for node in nodes)) for name, nodes in nodes_of.items()}
