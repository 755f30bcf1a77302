"""Proof that two engines are one network: single evaluations, then whole trajectories with the same noise.

The reference is eager PyTorch. Errors come from the order of float32 additions alone, about 1e-6 of the largest value
for one evaluation; the tolerances leave two orders of magnitude for wider networks and for the growth along a
trajectory, and are far below what a wrong weight, padding or timestep would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import DIVERGED, Comparison, compare, tolerance_of, worst_of
from ..core.example import SEED, example_picture, normals
from ..core.margin import surround
from ..core.noise import given_noise
from ..core.sampling import Sampling
from ..errors import ParityError
from ..networks.checkpoints import Checkpoint, naming
from ..networks.detection import build_network
from ..runtimes.engines.torch_engine import TorchEngine
from ..runtimes.loops.numpy_loop import padded_evaluation, states
from ..runtimes.protocol import Engine

EVALUATION_TOLERANCE = 1e-4
"""What one evaluation in FP32 may be off, relative to the largest value."""

TRAJECTORY_TOLERANCE = 1e-3
"""What any state of a trajectory in FP32 may be off, relative to the largest value: errors add up along the way."""


def reference_engine(card: ModelCard, checkpoint: Checkpoint) -> TorchEngine:
    """Build the PyTorch engine that an engine is compared with.

    Args:
        card: the engine's card.
        checkpoint: the weights that it was exported from.

    Raises:
        CheckpointError: the weights do not fit the network that the card names.
    """
    with naming(checkpoint.path):
        return TorchEngine(build_network(card.network, card.settings, checkpoint.weights), card)


def compare_evaluations(candidate: Engine, reference: Engine, tolerance: float | None = None) -> Iterator[Comparison]:
    """Compare single evaluations at several sizes, batches and timesteps.

    Not for INT8, whose ranges hold for the states of a trajectory alone.

    Args:
        candidate, reference: engines of one network.
        tolerance: relative to the largest value; by default that of the candidate's precision.

    Yields:
        A comparison of eps for each case.
    """
    card = reference.card
    if tolerance is None:
        tolerance = tolerance_of(candidate.card.precision, EVALUATION_TOLERANCE)
    m, T = card.multiple_of, card.sde.T
    middle = max(1, T // 2)
    cases: list[tuple[int, int, int, list[int]]] = [
        (1, m, m, [1]),  # the smallest input that there is
        (1, 3 * m, 2 * m, [T]),
        (2, 2 * m, 3 * m, [middle]),
        (3, m, 2 * m, [1, middle, T]),  # each entry of a batch must be given its own t
    ]
    for batch, height, width, timesteps in cases:
        mu = example_picture(card, batch, height, width)
        x = mu + card.sde.lam * normals(card, 1, batch, height, width)[0]
        t = np.resize(np.array(timesteps, dtype=np.float32), batch)  # a single one is that of every entry
        case = f"eps {batch}x{card.channels}x{height}x{width} t={','.join(map(str, timesteps))}"
        yield compare(case, candidate(x, mu, t), reference(x, mu, t), tolerance)


@dataclass(frozen=True)
class Trajectory:
    """Two engines along one reverse trajectory, each on its own states, with the same noise.

    Attributes:
        steps: a comparison of x after each step; the first entry is the start.
        t: the timestep that each state has reached; the first is t0, the last 0, unless PyTorch itself diverged.
    """

    steps: list[Comparison]
    t: list[int]

    @property
    def complete(self) -> bool:
        """Whether the restored picture was reached and compared."""
        return self.t[-1] == 0

    @property
    def worst(self) -> Comparison:
        """The state with the largest relative error; one that is not a number is worse than any."""
        return worst_of(self.steps)

    @property
    def passed(self) -> bool:
        """Whether every state is within tolerance, and at least one step was compared."""
        return len(self.steps) > 1 and all(step.passed for step in self.steps)

    @property
    def growth(self) -> float:
        """The largest error of any state over the error after the first step: how far errors add up."""
        after_first = self.steps[min(1, len(self.steps) - 1)].max_abs  # the start has none: it is the same noise
        if not after_first:
            return 1.0
        return max(step.max_abs for step in self.steps) / after_first


def compared_sampling(
    card: ModelCard, sampler: str | None = None, steps: int | None = None, seed: int = SEED
) -> Sampling:
    """Choose the trajectory that an engine is compared along, where the user leaves something open.

    It is all timesteps of the posterior, as the reference samples. An INT8 engine is calibrated for the states of one
    trajectory, and is compared along that one.

    Args:
        card: the engine's card.
        sampler, steps: what the user asks for, if anything.
        seed: what the noise is drawn from.
    """
    T = card.sde.T
    chosen = Sampling(sampler="posterior", steps=T, t0=T, seed=seed)
    if card.precision == "int8":
        first = card.t0
        if card.calibrated:
            first = card.calibrated[0]
        chosen = Sampling(sampler=card.sampler, steps=card.steps, t0=first or T, seed=seed)
    if sampler is not None:
        chosen = replace(chosen, sampler=sampler)
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    return chosen


def compare_trajectories(
    candidate: Engine,
    reference: Engine,
    sampling: Sampling | None = None,
    mu: Float32 | None = None,
    tolerance: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run both engines through a whole trajectory, with the same noise, and compare every state.

    Args:
        candidate, reference: engines of one network.
        sampling: the trajectory, and the seed of the noise; by default `compared_sampling` of the reference's card.
        mu: degraded pictures (B, C, H, W); by default a small example whose sides need padding. The card's margin is
            put around them, and compared too.
        tolerance: for every state, relative to its largest value; by default that of the candidate's precision.
        on_step: called with the number of steps done.

    Returns:
        The comparisons until the restored picture, or until the reference itself diverges.

    Raises:
        InvalidValueError: settings that do not fit the model.
    """
    card = reference.card
    if sampling is None:
        sampling = compared_sampling(card)
    if tolerance is None:
        tolerance = tolerance_of(candidate.card.precision, TRAJECTORY_TOLERANCE)
    plan = card.plan(sampling)
    table = plan.table
    if mu is None:
        mu = example_picture(card, 1, 2 * card.multiple_of - 1, max(1, 2 * card.multiple_of - 3))
    mu = surround(mu, card.margin)
    batch, _, height, width = mu.shape
    noise = given_noise(normals(card, len(table) + 1, batch, height, width, seed=sampling.seed), len(table), mu.shape)
    # Two generators, advanced in turn: each engine goes on from its own state, and none is kept for longer.
    candidates = states(padded_evaluation(candidate, mu), mu, table, noise)
    references = states(padded_evaluation(reference, mu), mu, table, noise)
    reached = [*table.t.tolist(), 0]
    comparisons: list[Comparison] = []
    for k, (mine, theirs) in enumerate(zip(candidates, references, strict=True)):
        if not np.abs(theirs).max() < DIVERGED:  # NaN is not below anything either
            break
        case = f"x_{reached[k]} {plan.sampler}, {len(table)} steps"
        comparisons.append(compare(case, mu + mine, mu + theirs, tolerance))
        if on_step is not None:
            on_step(k)
    return Trajectory(comparisons, reached[: len(comparisons)])


def require(comparisons: list[Comparison], what: str) -> None:
    """Raise ParityError where a comparison is out of tolerance, with the worst of them.

    Args:
        comparisons: what was compared with PyTorch.
        what: the candidate, in words that begin the sentence.
    """
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if failed:
        worst = worst_of(failed)
        raise ParityError(
            f"{what} differs from PyTorch: {worst.case} is off by {worst.relative:.2g} of the largest value, "
            f"and {worst.tolerance:.0e} is allowed"
        )
