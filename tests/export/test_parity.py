"""The proof that two engines are one network: what it looks at, what it allows, and that no fault passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.comparison import HALF_TOLERANCE, INT8_TOLERANCE, compare
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import ParityError
from irsde_deploy.export.parity import (
    Trajectory,
    compare_evaluations,
    compare_trajectories,
    compared_sampling,
    require,
)

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)
CARD = ModelCard("formula", {}, 3, 4, "reflect", SDE, sampler="mean", steps=5)
Change = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Formula:
    """eps = tanh(x - mu) + t / T, and what is changed of it."""

    name = "NumPy"

    def __init__(self, card: ModelCard = CARD, change: Change = lambda eps, x, mu, t: eps) -> None:
        self.card, self.change = card, change
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.shapes.append(x.shape)
        assert x.dtype == mu.dtype == t.dtype == np.float32
        assert t.shape == x.shape[:1]
        eps = np.tanh(x - mu) + t.reshape(-1, 1, 1, 1) / 20
        return self.change(eps, x, mu, t).astype(np.float32)


def test_single_evaluations_are_of_several_sizes_batches_and_timesteps() -> None:
    engine = Formula()
    found = list(compare_evaluations(engine, Formula()))
    assert [comparison.case for comparison in found] == [
        "eps 1x3x4x4 t=1", "eps 1x3x12x8 t=20", "eps 2x3x8x12 t=10", "eps 3x3x4x8 t=1,10,20",
    ]  # fmt: skip
    assert all(comparison.passed and comparison.tolerance == 1e-4 for comparison in found)
    assert engine.shapes == [(1, 3, 4, 4), (1, 3, 12, 8), (2, 3, 8, 12), (3, 3, 4, 8)]


FAULTS: dict[str, Change] = {
    "the first timestep for the whole batch": lambda eps, x, mu, t: np.tanh(x - mu) + t[0] / 20,
    "nothing but the first of a batch": lambda eps, x, mu, t: eps * (np.arange(len(t)) < 1).reshape(-1, 1, 1, 1),
    "width and height exchanged": lambda eps, x, mu, t: eps if x.shape[2] == x.shape[3] else eps[:, :, ::-1],
    "wrong where the input is smallest": lambda eps, x, mu, t: eps + (x.shape[2:] == (4, 4)),
    "the last timestep is that before it": lambda eps, x, mu, t: eps - (t == 20).reshape(-1, 1, 1, 1) / 20,
    "a thousandth too much": lambda eps, x, mu, t: eps * 1.001,
    "NaN in one place": lambda eps, x, mu, t: np.where(np.arange(eps.size).reshape(eps.shape) == 7, np.nan, eps),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_an_engine_are_found(fault: str) -> None:
    found = list(compare_evaluations(Formula(change=FAULTS[fault]), Formula()))
    assert not all(comparison.passed for comparison in found)
    with pytest.raises(ParityError, match="this differs from PyTorch: eps .* of the largest value, and 1e-04 is"):
        require(found, "this")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", HALF_TOLERANCE), ("int8", INT8_TOLERANCE)])
def test_tolerances_are_the_candidates(precision: str, tolerance: float) -> None:
    candidate = Formula(replace(CARD, precision=precision))
    assert next(compare_evaluations(candidate, Formula())).tolerance == tolerance
    assert next(compare_evaluations(Formula(), candidate)).tolerance == 1e-4
    assert next(compare_evaluations(candidate, Formula(), tolerance=3e-5)).tolerance == 3e-5
    sampling = Sampling(sampler="mean", steps=2)
    assert compare_trajectories(candidate, Formula(), sampling).steps[0].tolerance == tolerance
    assert compare_trajectories(Formula(), candidate, sampling).steps[0].tolerance == 1e-3
    assert compare_trajectories(candidate, Formula(), sampling, tolerance=3e-5).steps[0].tolerance == 3e-5


def test_a_trajectory_is_compared_with_the_cards_margin_at_every_state() -> None:
    candidate, told = Formula(replace(CARD, margin=8)), []
    found = compare_trajectories(candidate, Formula(replace(CARD, margin=8)), on_step=told.append)
    assert found.t == [*range(20, 0, -1), 0], "all timesteps of the posterior, as the reference samples"
    assert found.steps[0].case == "x_20 posterior, 20 steps"
    assert found.steps[-1].case == "x_0 posterior, 20 steps"
    assert set(candidate.shapes) == {(1, 3, 24, 24)}, "7 x 5 pixels, a margin of 8 around them, padded"
    assert told == list(range(21))
    assert (found.complete, found.passed, found.worst.max_abs) == (True, True, 0)
    assert found.growth == 1.0


def test_the_noise_is_the_seeds() -> None:
    """The same engines on other noise reach other states; and the example's sides need padding."""
    states: dict[int, np.ndarray] = {}
    for seed in (1, 2):
        engine = Formula(change=lambda eps, x, mu, t, seed=seed: states.setdefault(seed, x.copy()) * 0)
        compare_trajectories(engine, Formula(), Sampling(sampler="mean", steps=1, seed=seed))
        assert engine.shapes == [(1, 3, 8, 8)]
    assert not np.array_equal(states[1], states[2])
    np.testing.assert_array_equal(states[1][:, :, 7], states[1][:, :, 5])  # 7 x 5 pixels, reflected


def test_each_engine_goes_on_from_its_own_state() -> None:
    """Errors add up: an offset of eps moves the state by |c| of each step, and what came before by a."""
    shifted = Formula(change=lambda eps, x, mu, t: eps * 0 + 0.5)
    other = Formula(change=lambda eps, x, mu, t: eps * 0 + 0.25)
    found = compare_trajectories(shifted, other, Sampling(sampler="mean", steps=3))
    table = CARD.plan(Sampling(sampler="mean", steps=3)).table
    apart = [0.0]
    for k in range(3):
        apart.append(abs(table.a[k]) * apart[-1] + abs(table.c[k]) * 0.25)
    assert [step.max_abs for step in found.steps] == pytest.approx(apart, rel=1e-4)
    assert found.growth == pytest.approx(max(apart) / apart[1], rel=1e-4)
    assert not found.passed
    with pytest.raises(ParityError, match="x_"):
        require(found.steps, "this")


def test_nothing_is_compared_beyond_where_the_reference_diverges() -> None:
    def diverging(eps: np.ndarray, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return eps if t[0] > 15 else np.full_like(eps, np.nan if t[0] < 10 else 1e9)

    found = compare_trajectories(Formula(), Formula(change=diverging))
    assert found.t == [20, 19, 18, 17, 16, 15]
    assert len(found.steps) == 6
    assert (found.complete, found.passed) == (False, True)
    at_once = Formula(change=lambda eps, x, mu, t: eps * np.nan)
    nothing = compare_trajectories(Formula(), at_once)
    assert (nothing.t, nothing.passed) == ([20], False), "a start alone proves nothing"


def test_the_worst_state_is_named_and_nan_is_worse_than_any() -> None:
    one = np.ones(3)
    steps = [compare(str(by), one + by, one, 1e-3) for by in (0.0, 2e-4, 1e-2, 5e-2)]
    assert Trajectory(steps, [3, 2, 1, 0]).worst.case == "0.05"
    with pytest.raises(ParityError, match="0.05 is off by 0.05 of the largest value, and 1e-03 is allowed"):
        require(steps, "this")
    require(steps[:2], "this")
    assert Trajectory([*steps, compare("nan", one * np.nan, one, 1e-3)], [0]).worst.case == "nan"


def test_an_int8_engine_is_compared_along_what_it_was_calibrated_for() -> None:
    usual = compared_sampling(CARD)
    assert (usual.sampler, usual.steps, usual.t0) == ("posterior", 20, 20)
    asked = compared_sampling(CARD, "ddim", 4, seed=9)
    assert (asked.sampler, asked.steps, asked.t0, asked.seed) == ("ddim", 4, 20, 9)
    int8 = replace(CARD, precision="int8")
    chosen = compared_sampling(int8)
    assert (chosen.sampler, chosen.steps, chosen.t0) == ("mean", 5, 20)
    assert compared_sampling(replace(int8, t0=12)).t0 == 12
    assert compared_sampling(replace(int8, t0=12, calibrated=(9, 4))).t0 == 9
    assert compared_sampling(int8, steps=3).steps == 3
