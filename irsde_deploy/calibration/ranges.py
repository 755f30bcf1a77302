"""Ranges of activations, measured state by state in memory that does not grow with the number of states.

For each tensor the least and the largest value are kept, and a histogram of magnitudes whose range is a power of two.
When a value exceeds that range, it is doubled and bins are merged in pairs, so that the order of the states does not
matter. Each group of timesteps is measured by itself, since activations change along the trajectory, and the widest of
the groups' ranges is taken: in one histogram the wide values of a few timesteps are rare and cut off (docs/int8.md).

A range is one number: the magnitude that becomes 127. Larger magnitudes saturate (symmetric quantisation with zero
point 0, as TensorRT has it). There are four ways to choose it:

    minmax      the largest magnitude
    percentile  what 99.99 % of the magnitudes do not exceed
    entropy     where the distribution in 128 levels is nearest to the original one by Kullback and Leibler (Migacz,
                "8-bit inference with TensorRT", GTC 2017)
    mse         where the mean square error of saturating and rounding together is least
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.arrays import Float32
from ..errors import EngineError, NotFiniteError
from .states import State

BINS = 8192
"""Bins of a histogram; a power of two, so that they can be merged in pairs and into coarser ones."""

LEVELS = 127
"""The integer that the end of a range becomes."""

PERCENTILE = 99.99
"""The share of magnitudes, in percent, that the method `percentile` keeps."""

_TINY = 2.0**-100
"""The range that a histogram begins with, below that of any tensor that matters."""

MOST_GROUPS = 8
"""Most groups of timesteps that are measured by themselves; each takes 64 kB for every tensor."""


class Magnitudes:
    """The least and the largest of all values that were added, and the histogram of their magnitudes.

    Attributes:
        lowest: the least value; infinite before any was added.
        highest: the largest value; minus infinity before any was added.
        counts: (BINS,), how many magnitudes lie in each of the equal bins of [0, limit).
        limit: a power of two above every magnitude.
    """

    def __init__(self) -> None:
        self.lowest, self.highest = np.inf, -np.inf
        self.limit = _TINY
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: Float32) -> None:
        """Add values of any shape; raises NotFiniteError where one of them is not finite."""
        magnitudes = np.abs(values).ravel()
        top = float(magnitudes.max())  # NaN where there is one
        if not np.isfinite(top):
            raise NotFiniteError("not finite")
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        while self.limit <= top:
            self.limit *= 2
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
        # The factor is a power of two, so that the product is exact, and below BINS, as magnitudes are below the limit.
        bins = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)
        self.counts += np.bincount(bins, minlength=BINS)

    @property
    def largest(self) -> float:
        """The largest magnitude that was added."""
        return max(self.highest, -self.lowest)


def _minmax(of: Magnitudes) -> float:
    return float(of.largest)


def _percentile(of: Magnitudes) -> float:
    share = np.cumsum(of.counts) / of.counts.sum()
    last = np.searchsorted(share, PERCENTILE / 100)  # the bin with which the share is reached
    return min(of.largest, float((last + 1) * of.limit / BINS))


def _entropy(of: Magnitudes, levels: int = LEVELS + 1) -> float:
    """Candidates end at bin i of 2048, i from 128 on, as in TensorRT's calibrator; here i goes in steps of 8."""
    histogram = of.counts.reshape(2048, -1).sum(axis=1).astype(np.float64)
    used = int(np.flatnonzero(histogram).max()) + 1
    candidates = sorted({*range(levels, used, 8), max(used, levels)})  # the last one cuts nothing off
    divergences = [_divergence(histogram, i, levels) for i in candidates]
    best: float = candidates[int(np.argmin(divergences))] * of.limit / len(histogram)
    return min(best, of.largest)


def _divergence(histogram: npt.NDArray[np.float64], count: int, levels: int) -> float:
    """Return the divergence (Kullback-Leibler) that saturating and rounding cause when `count` bins are kept.

    The reference is the first `count` bins, with all that lies beyond added to the last one. It is compared with the
    same bins, their counts averaged within each of `levels` equal stretches.
    """
    kept = histogram[:count]
    reference = kept.copy()
    reference[-1] += histogram[count:].sum()
    starts = np.arange(levels) * count // levels
    # An empty bin stays empty: a level's count is shared among those of its bins that have any, as in Migacz's talk.
    filled = np.add.reduceat((reference > 0).astype(np.float64), starts)
    level = np.add.reduceat(kept, starts) / np.maximum(filled, 1)
    widths = np.diff(np.append(starts, count))
    quantised = np.where(reference > 0, np.repeat(level, widths), 0)
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1)
    inside = p > 0  # where p is 0, so is p log(p/q)
    return float(np.sum(p[inside] * np.log(p[inside] / np.maximum(q[inside], 1e-12))))


def _mse(of: Magnitudes) -> float:
    """Candidates are 1/16 of the largest magnitude and up, in steps of 2^(1/8); then steps of 1 % around the best."""
    used = int(np.flatnonzero(of.counts).max()) + 1
    centres = (np.arange(used) + 0.5) * of.limit / BINS
    weights = of.counts[:used].astype(np.float64)

    def best(candidates: npt.NDArray[np.float64]) -> float:
        return float(min(candidates, key=lambda top: _square_error(centres, weights, top)))

    coarse = best(of.largest * 2 ** (-np.arange(33) / 8))
    # No further than the largest magnitude: a wider range only makes the steps coarser.
    return best(np.minimum(coarse * 1.01 ** np.arange(-8, 9), of.largest))


def _square_error(magnitudes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], top: float) -> float:
    """Return the sum, over weighted magnitudes, of the squared change by saturating at `top` and rounding."""
    step = top / LEVELS
    return float(weights @ (np.minimum(np.rint(magnitudes / step), LEVELS) * step - magnitudes) ** 2)


METHODS: dict[str, Callable[[Magnitudes], float]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
"""Name of a method -> function that chooses the range of the magnitudes that were seen."""


def timestep_groups(timesteps: Sequence[int], most: int = MOST_GROUPS) -> dict[int, int]:
    """Return each timestep with the number of its group: at most `most` groups of neighbours, as equal as can be."""
    groups = min(most, len(timesteps))
    return {int(t): k * groups // len(timesteps) for k, t in enumerate(timesteps)}


@dataclass
class Statistics:
    """`Magnitudes` of every tensor in every group of timesteps.

    Attributes:
        groups: timestep -> number of its group, see `timestep_groups`.
        of: (tensor, group) -> what was seen of it.
        states: how many states were added.
    """

    groups: Mapping[int, int]
    of: dict[tuple[str, int], Magnitudes] = field(default_factory=dict)
    states: int = 0

    def add(self, recorded: Mapping[str, Float32], t: int) -> None:
        """Add what a recorder read from a state at timestep t; raises EngineError where a value is not finite."""
        for name, values in recorded.items():
            try:
                self.of.setdefault((name, self.groups[t]), Magnitudes()).add(values)
            except NotFiniteError:
                raise EngineError(
                    f"the FP32 graph's tensor {name} is not finite on state {self.states + 1}: are its weights trained?"
                ) from None
        self.states += 1

    def ranges(self, method: str) -> dict[str, float]:
        """Return each tensor's range by one of `METHODS`: the widest of its groups'; 1 where it is always 0."""
        choose = METHODS[method]
        found: dict[str, float] = {}
        for (name, _), seen in self.of.items():
            top = 0.0
            if seen.largest > 0:  # the methods would divide by 0
                top = choose(seen)
            found[name] = max(found.get(name, 0.0), top)
        for name, top in found.items():
            if not top:  # any range holds what is always 0, but a step of 0 would divide by it
                found[name] = 1.0
        return found

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Return each tensor's least and largest value."""
        found: dict[str, tuple[float, float]] = {}
        for (name, _), seen in self.of.items():
            lowest, highest = found.get(name, (np.inf, -np.inf))
            found[name] = min(lowest, seen.lowest), max(highest, seen.highest)
        return found


@dataclass(frozen=True)
class Round:
    """One round of measuring, after each of which the number of states is doubled.

    Attributes:
        states: how many states there were in the end.
        median: the median, over tensors, of how far a range moved since the round before, as a share of it, or None.
        largest: the largest such share; None, as the median is, in the first round.
    """

    states: int
    median: float | None = None
    largest: float | None = None

    @property
    def converged(self) -> bool:
        """Whether the ranges moved by no more than `MEDIAN_CHANGE` and `LARGEST_CHANGE`."""
        return self.median is not None and self.median <= MEDIAN_CHANGE and (self.largest or 0) <= LARGEST_CHANGE

    def __str__(self) -> str:
        if self.median is None:
            return f"{self.states} states"
        return f"{self.states} states: ranges moved by {self.median:.2%} (median), {self.largest:.1%} (most)"


MEDIAN_CHANGE, LARGEST_CHANGE = 0.01, 0.1
"""Ranges have converged when doubling the states moves them no further than this. Tensors with heavy tails take longest
and matter least: the square error is flat around its minimum, so that a tenth more or less hardly changes it."""


def collect(
    record: Callable[[State], Mapping[str, Float32]],
    states: Iterable[State],
    groups: Mapping[int, int],
    method: str,
    first: int,
    most: int,
    on_state: Callable[[int], None] | None = None,
) -> tuple[Statistics, list[Round]]:
    """Measure states, twice as many in each round, until the ranges of a method have converged.

    Args:
        record: reads tensors from a state, as a `Recorder` does.
        states: what to measure; endless.
        groups: see `timestep_groups`.
        method: the one of `METHODS` whose ranges must converge.
        first, most: states of the first round, and the most that a round may take.
        on_state: called after each state with the number measured so far.

    Returns:
        The statistics of all states, and the rounds, first to last.
    """
    statistics, rounds, wanted = Statistics(groups), list[Round](), first
    before: dict[str, float] = {}
    for state in states:
        statistics.add(record(state), state.t)
        if on_state is not None:
            on_state(statistics.states)
        if statistics.states < wanted:
            continue
        now = statistics.ranges(method)
        rounds.append(_round(wanted, before, now))
        if rounds[-1].converged or 2 * wanted > most:  # a round is never cut short
            break
        before, wanted = now, 2 * wanted
    return statistics, rounds


def _round(states: int, before: Mapping[str, float], now: Mapping[str, float]) -> Round:
    """Say how far ranges moved since the round before, of which `before` is empty for the first."""
    if not before:
        return Round(states)
    moved = np.array([abs(now[name] / before[name] - 1) for name in before])
    return Round(states, float(np.median(moved)), float(moved.max()))


def summary_of(statistics: Statistics) -> dict[str, dict[str, Any]]:
    """Return for each tensor its lowest and highest value and its range by every method: what a range table holds."""
    summary: dict[str, dict[str, Any]] = {}
    for name, (lowest, highest) in statistics.bounds().items():
        summary[name] = {"lowest": lowest, "highest": highest}
    for method in METHODS:
        for name, top in statistics.ranges(method).items():
            summary[name][method] = top
    return summary
