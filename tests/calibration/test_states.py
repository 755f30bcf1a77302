"""Calibration states: their distribution, what they are spread over, and that recorded ones are the sampler's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from forward_states import forward_marginals, noise_states
from small_quantisable import small_quantisable

from irsde_deploy.calibration.states import (
    PictureSource,
    exact_states,
    recorded_states,
    visited_marginals,
    window,
)
from irsde_deploy.core.noise import normal_field, seeded_noise
from irsde_deploy.core.samplers import StepTable
from irsde_deploy.errors import NotFiniteError
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.loops.numpy_loop import padded_evaluation, states

TIMESTEPS = (100, 69, 41, 16)


def flat(value: float, residual: float, shape: tuple[int, int] = (64, 64)) -> PictureSource:
    """A picture of one colour whose clean one is `residual` lighter."""
    planes = [np.full((3, *shape), level, np.float32) for level in (value, residual)]
    return PictureSource(str(value), shape, lambda: (planes[0], planes[1]))


@pytest.mark.parametrize("t", [1, 16, 41, 100])
def test_exact_states_have_the_closed_forms_mean_and_variance(t: int) -> None:
    _, card = small_quantisable()
    drawn = list(islice(exact_states([flat(0.3, 0.25)], card, forward_marginals(card.sde, [t]), 5, 64), 8))
    y = np.stack([state.x - state.mu for state in drawn]).astype(np.float64)
    a = np.exp(-card.sde.theta_bar[t])
    variance = (50 / 255) ** 2 * (1 - a**2)
    n = y.size
    assert abs(y.mean() - a * 0.25) < 5 * np.sqrt(variance / n)
    assert abs(y.var() / variance - 1) < 5 * np.sqrt(2 / n)
    assert all(state.t == t for state in drawn)
    assert abs(np.corrcoef(y[0].ravel(), y[1].ravel())[0, 1]) < 5 / np.sqrt(y[0].size), "each state has its own noise"


def test_each_timestep_meets_each_picture_equally_often() -> None:
    _, card = small_quantisable()
    marginals = forward_marginals(card.sde, TIMESTEPS)
    for pictures in (2, 3, 4):  # two and four share factors with the number of timesteps
        sources = [flat(0.1 * (k + 1), 0) for k in range(pictures)]
        drawn = islice(exact_states(sources, card, marginals, 0, 32), 3 * pictures * len(TIMESTEPS))
        met = Counter((state.t, round(float(state.mu[0, 0, 0, 0]), 3)) for state in drawn)
        assert set(met.values()) == {3}
        assert len(met) == pictures * len(TIMESTEPS)


def ramp() -> PictureSource:
    """A picture whose first two channels are row and column."""
    rows, columns = np.indices((300, 500), dtype=np.float32)
    planes = np.stack([rows, columns, 0 * rows])
    return PictureSource("ramp", (300, 500), lambda: (planes, 0 * planes))


@pytest.mark.parametrize("timesteps", [1, 3, 4, 8, 100])
@pytest.mark.parametrize("pictures", [1, 3, 4, 28])
def test_crops_of_each_timestep_spread_over_the_pictures(timesteps: int, pictures: int) -> None:
    """Of 64 crops every quarter of the places holds its 16, give or take what a low-discrepancy sequence allows."""
    _, card = small_quantisable()
    marginals = forward_marginals(card.sde, range(timesteps, 0, -1))
    tops = defaultdict(list)
    for state in islice(exact_states([ramp()] * pictures, card, marginals, 9, 4), 64 * timesteps):
        tops[state.t].append(state.mu[0, :2, 0, 0] / [296, 496])
    for places in map(np.array, tops.values()):
        assert len(places) == 64
        assert 0 <= places.min() <= places.max() <= 1
        quarters = Counter(map(tuple, (places >= 0.5).astype(int)))
        assert all(10 <= count <= 22 for count in quarters.values()), quarters
        for axis in (0, 1):
            gaps = np.diff(np.sort(np.concatenate([[0], places[:, axis], [1]])))
            assert gaps.max() < 0.12
    together = np.array([places[0] for places in tops.values()])
    assert len(np.unique(together, axis=0)) == timesteps, "timesteps begin elsewhere"


def test_crops_of_trajectories_spread_over_each_picture() -> None:
    """With four pictures too, whose every fourth trajectory it is; R2's rows come back near after four steps."""
    for pictures in (1, 4):
        tops = [window((300, 500), visit, pictures - 1, 0, 9, 100)[0].start / 200 for visit in range(32)]
        assert np.diff(np.sort([0, *tops, 1])).max() < 0.15
    assert window((20, 30), 7, 0, 0, 0, 100) == (slice(0, 20), slice(0, 30))
    crops = [window((20, 18), visit, 0, 0, 9, 16) for visit in range(32)]
    assert {rows.start for rows, _ in crops} == {0, 1, 2, 3, 4}, "to the last row"
    assert {columns.stop for _, columns in crops} == {16, 17, 18}


def test_a_state_hangs_on_seed_and_number_alone() -> None:
    _, card = small_quantisable()
    sources = [flat(0.2, 0.1), flat(0.6, -0.1)]
    marginals = forward_marginals(card.sde, TIMESTEPS)
    few = list(islice(exact_states(sources, card, marginals, 1, 32), 4))
    more = list(islice(exact_states(sources, card, marginals, 1, 32), 8))
    for mine, theirs in zip(few, more, strict=False):
        np.testing.assert_array_equal(mine.x, theirs.x)
    other = next(exact_states(sources, card, marginals, 2, 32))
    assert np.abs(other.x - few[0].x).max() > 0.1


def test_recorded_states_are_the_samplers_own(tmp_path: Path) -> None:
    """Against the recurrence written out in float64, on a picture that needs padding; states are float32, up to 16."""
    model, card = small_quantisable()
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    picture = np.random.default_rng(0).random((3, 18, 21), dtype=np.float32)
    table = card.plan(sampler="sde-2m", steps=3).table
    recorded = list(
        islice(recorded_states([PictureSource("a", (18, 21), lambda: (picture, None))], engine, table, 4, 64), 4)
    )

    def padded(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, 0), (0, 0), (0, 2), (0, 3)], mode="reflect")

    mu = picture[None]
    y, before = table.start * normal_field(4, 0, (3, 18, 21))[None], 0
    for k, t in enumerate(table.t):
        np.testing.assert_allclose(recorded[k].x, padded(mu + y), rtol=2e-5, atol=2e-5)
        np.testing.assert_array_equal(recorded[k].mu, padded(mu))
        assert recorded[k].t == t
        eps = engine(padded(mu + y).astype(np.float32), padded(mu), np.array([t], np.float32))[:, :, :18, :21]
        q = table.p[k] * y + table.r[k] * eps
        z = normal_field(4, k + 1, (3, 18, 21))[None]
        y, before = table.a[k] * y + table.c[k] * eps + table.d[k] * before + table.s[k] * z, q
    assert recorded[3].t == table.t[0], "the next trajectory starts"
    assert np.abs(recorded[3].x - recorded[0].x).max() > 0.1, "with other noise"


def test_recorded_states_are_clipped_where_it_is_asked_for() -> None:
    model, card = small_quantisable()
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    picture = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32)
    source, table = PictureSource("a", (16, 16), lambda: (picture, None)), card.plan(sampler="mean", steps=3).table
    for clip in (False, True):
        recorded = islice(recorded_states([source], engine, table, 4, 64, clip), 3)
        visited = states(
            padded_evaluation(engine, picture[None]), picture[None], table,
            lambda k: normal_field(4, k, (3, 16, 16))[None], clip,
        )  # fmt: skip
        for state, y in zip(recorded, visited, strict=False):
            np.testing.assert_array_equal(state.x, picture[None] + y)
        assert (np.abs(state.x - 0.5).max() <= 0.6) == clip, "within [0, 1], and a little noise"


def test_states_that_are_not_finite_are_no_states() -> None:
    _, card = small_quantisable()

    class Untrained:
        """An engine whose eps is infinite in one pixel."""

        name = "untrained"

        def __init__(self) -> None:
            self.card = card

        def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
            eps = 0 * x
            eps[0, 0, 3, 3] = np.inf
            return eps

    table = card.plan(sampler="mean", steps=3).table
    recorded = recorded_states([flat(0.3, 0)], Untrained(), table, 0, 64)
    next(recorded)
    with pytest.raises(NotFiniteError, match=rf"state at t = {table.t[1]} is not finite: are its weights trained"):
        next(recorded)


@pytest.mark.parametrize(("sampler", "steps", "debias"), [("mean", 4, False), ("ddim", 5, True), ("ode-2m", 4, True)])
def test_visited_marginals_are_those_of_the_loop(sampler: str, steps: int, debias: bool) -> None:
    """Without noise between the steps, a network that predicts y_0 exactly goes through signal y_0 + noise z itself."""
    _, card = small_quantisable()
    table = card.plan(sampler=sampler, steps=steps, debias=debias).table
    mu, y0 = (np.random.default_rng(k).random((1, 3, 16, 16), dtype=np.float32) for k in (0, 1))
    z = normal_field(3, 0, (3, 16, 16))[None]
    visited = states(exact_network(table, y0), mu, table, lambda k: z)
    for marginal, t, y in zip(visited_marginals(table), table.t, visited, strict=False):
        assert marginal.t == t
        np.testing.assert_allclose(y, marginal.signal * y0 + marginal.noise * z, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("sampler", ["posterior", "euler", "sde-2m"])
def test_visited_marginals_have_the_variance_of_drawn_noise(sampler: str) -> None:
    _, card = small_quantisable()
    table = card.plan(sampler=sampler, steps=100 if sampler == "euler" else 6).table
    y0 = np.full((1, 3, 64, 64), 0.3, np.float32)
    visited = states(exact_network(table, y0), np.zeros_like(y0), table, seeded_noise(2, y0.shape))
    for marginal, y in zip(visited_marginals(table), visited, strict=False):
        off = 5 * marginal.noise / np.sqrt(y.size)
        assert abs(y.mean(dtype=np.float64) - 0.3 * marginal.signal) < off + 1e-6
        assert abs(y.std(dtype=np.float64) / marginal.noise - 1) < 5 / np.sqrt(2 * y.size)


def exact_network(table: StepTable, y0: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """(x - mu, step's timestep) -> the eps with which y_0 is predicted exactly."""
    rows = dict(zip(table.t.tolist(), zip(table.p, table.r, strict=True), strict=True))

    def evaluate(y: np.ndarray, t: int) -> np.ndarray:
        p, r = rows[t]
        return ((y0 - p * y) / r).astype(np.float32)

    return evaluate


def test_noise_states_hold_no_picture() -> None:
    _, card = small_quantisable()
    state = next(noise_states(card, TIMESTEPS, 0, 64))
    for array in (state.x, state.mu):
        assert abs(array.mean()) < 5 / np.sqrt(array.size)
        assert abs(array.std() - 1) < 5 / np.sqrt(2 * array.size)


def test_states_are_of_pictures_with_their_margin() -> None:
    """A crop of a whole surrounded picture is what a loop restores, its noise drawn for all of it."""
    model, card = small_quantisable()
    card = replace(card, margin=6)
    picture = np.random.default_rng(0).random((3, 20, 28), dtype=np.float32)
    source = PictureSource("a", (20, 28), lambda: (picture, 0 * picture))
    around = np.pad(picture, [(0, 0), (6, 6), (6, 6)], mode="reflect")
    exact = next(exact_states([source], card, forward_marginals(card.sde, [40]), 3, 64))
    np.testing.assert_array_equal(exact.mu[0, :, :32, :40], around)
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    table = card.plan(sampler="mean", steps=3).table
    recorded = next(recorded_states([source], engine, table, 3, 64))
    np.testing.assert_array_equal(recorded.mu, exact.mu)
    expected = table.start * normal_field(3, 0, (3, 32, 40), frame=0)
    np.testing.assert_allclose((recorded.x - recorded.mu)[0, :, :32, :40], expected, atol=1e-6)
