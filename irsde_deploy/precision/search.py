"""The cheapest set of nodes that must stay in the higher precision, by the restored picture that comes out.

What counts is the end of the trajectory, not one evaluation: errors of early steps are forgotten, those of late ones
stay. The quality of a candidate is the PSNR of its restored pictures against the FP32 graph's, the worst of the given
pictures. One search, two precisions: FP16, emulated on the CPU (`half_emulation`), over the modules of a graph; and
INT8 over its layers (`irsde_deploy.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ..errors import InvalidValueError
from ..graphs.flops import operations

Quality = Callable[[frozenset[str]], float]
"""Names kept in the higher precision -> dB; more is better."""

COUNTED_SIDE = 256
"""Side of the picture that operations, the cost of a search, are counted for."""

_LEAST_POWER = 1e-30
"""A mean square error that is as good as none, but can be divided by."""


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
        quality: measures a set. budget: dB.

    Raises:
        InvalidValueError: not even keeping all of them reaches the budget.
    """
    names = list(costs)
    measure = _Trials(quality, 3 * len(names) // 2, on_trial)
    if measure([]) >= budget:
        return SearchResult((), 0.0, measure([]), measure.count)
    if measure(names) < budget:
        raise InvalidValueError(
            f"even with nothing lowered restored pictures have {measure(names):.1f} dB, not {budget:g}: lower it"
        )
    kept = _by_bisection(measure, costs, budget)
    kept = _without_needless(measure, costs, budget, kept)
    share = sum(costs[name] for name in kept) / sum(costs.values())
    return SearchResult(tuple(kept), share, measure(kept), measure.count)


class _Trials:
    """A quality that is measured once for each set.

    Attributes:
        count: how many sets have been measured.
    """

    def __init__(self, quality: Quality, expected: int, on_trial: Callable[[int, int], None] | None) -> None:
        self._quality, self._expected, self._on_trial = quality, expected, on_trial
        self._measured: dict[frozenset[str], float] = {}

    @property
    def count(self) -> int:
        return len(self._measured)

    def __call__(self, kept: Iterable[str]) -> float:
        key = frozenset(kept)
        if key not in self._measured:
            self._measured[key] = self._quality(key)
            if self._on_trial is not None:
                self._on_trial(self.count, max(self.count, self._expected))
        return self._measured[key]


def _by_bisection(measure: _Trials, costs: Mapping[str, float], budget: float) -> list[str]:
    """The cheapest set by single harms, for the largest allowance with which the measured quality keeps the budget.

    Harms do not quite add up, so what may be allowed is not what the budget says: up to 2^10 times as much or as little
    is tried, to a twentieth of a power of two.
    """
    names = list(costs)
    everything = set(names)
    least = _power(measure(names))  # what is there with nothing lowered, as FP16 around layers that may be INT8
    harms = {}
    for name in names:
        harms[name] = max(_power(measure(everything - {name})) - least, 0.0)
    budgeted = max(_power(budget) - least, _LEAST_POWER)
    kept, low, high = names, -10.0, 10.0  # of log2 of what is allowed over what the budget says
    while high - low > 0.05:
        middle = (low + high) / 2
        candidate = _cheapest_within(harms, costs, budgeted * 2**middle)
        if measure(candidate) >= budget:
            kept, low = candidate, middle
        else:
            high = middle
    return kept


def _without_needless(measure: _Trials, costs: Mapping[str, float], budget: float, kept: list[str]) -> list[str]:
    """What is left of a set when each name, the dearest first, goes if the rest keeps the budget."""
    for name in sorted(kept, key=costs.__getitem__, reverse=True):
        without = [other for other in kept if other != name]
        if measure(without) >= budget:
            kept = without
    return kept


def _power(decibels: float) -> float:
    """The mean square error that a PSNR in dB stands for."""
    return float(np.power(10.0, -decibels / 10))


_PARTS = 2000
"""How finely harms are counted, in parts of what is allowed."""


def _cheapest_within(harms: Mapping[str, float], costs: Mapping[str, float], allowed: float) -> list[str]:
    """The names to keep, at the least cost, so that the harms of all others sum up to no more than what is allowed.

    A knapsack: what is lowered fills it by its harm, in whole parts rounded up, and is worth the cost that it spares.
    """
    names = list(harms)
    units = []
    for name in names:
        of_allowed = min(harms[name] / allowed, 2.0)  # 2: does not fit, however far beyond
        units.append(int(np.ceil(of_allowed * _PARTS)))
    spared = np.zeros(_PARTS + 1)  # by harm spent, at most: the cost of what is lowered
    lowered = np.zeros((len(names), _PARTS + 1), bool)
    for row, (name, unit) in enumerate(zip(names, units, strict=True)):
        if unit <= _PARTS:
            with_it = spared[: _PARTS + 1 - unit] + costs[name]
            lowered[row, unit:] = with_it > spared[unit:]
            spared[unit:] = np.maximum(spared[unit:], with_it)
    kept, left = [], _PARTS
    for row in reversed(range(len(names))):
        if lowered[row, left]:
            left -= units[row]
        else:
            kept.append(names[row])
    return kept[::-1]


def operation_costs(model: onnx.ModelProto, nodes_of: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Names of groups of nodes -> operations of each, at least 1, for `cheapest_set`."""
    of_node = operations(model, 1, COUNTED_SIDE, COUNTED_SIDE)
    costs = {}
    for name, nodes in nodes_of.items():
        costs[name] = max(1.0, sum(of_node[node] for node in nodes))
    return costs
