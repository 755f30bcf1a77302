"""Calibration states: their distribution, what they are spread over, and that recorded ones are the sampler's."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from small_quantisable import small_quantisable

from irsde_deploy.calibration.states import Source, exact_states, noise_states, recorded_states, window
from irsde_deploy.noise import normal_field
from irsde_deploy.runtimes.onnx_engine import OnnxEngine

TIMESTEPS = (100, 69, 41, 16)


def flat(value: float, residual: float, shape: tuple[int, int] = (64, 64)) -> Source:
    """A picture of one colour whose clean one is `residual` lighter."""
    planes = [np.full((3, *shape), level, np.float32) for level in (value, residual)]
    return Source(str(value), shape, lambda: (planes[0], planes[1]))


@pytest.mark.parametrize("t", [1, 16, 41, 100])
def test_exact_states_have_the_closed_forms_mean_and_variance(t: int) -> None:
    _, card = small_quantisable()
    states = list(islice(exact_states([flat(0.3, 0.25)], card, [t], 5, 64), 8))
    y = np.stack([state.x - state.mu for state in states]).astype(np.float64)
    a = np.exp(-card.sde.theta_bar[t])
    variance = (50 / 255) ** 2 * (1 - a**2)
    n = y.size
    assert abs(y.mean() - a * 0.25) < 5 * np.sqrt(variance / n)
    assert abs(y.var() / variance - 1) < 5 * np.sqrt(2 / n)
    assert all(state.t == t for state in states)
    assert abs(np.corrcoef(y[0].ravel(), y[1].ravel())[0, 1]) < 5 / np.sqrt(y[0].size), "each state has its own noise"


def test_each_timestep_meets_each_picture_equally_often() -> None:
    _, card = small_quantisable()
    for pictures in (2, 3, 4):  # two and four share factors with the number of timesteps
        sources = [flat(0.1 * (k + 1), 0) for k in range(pictures)]
        states = islice(exact_states(sources, card, TIMESTEPS, 0, 32), 3 * pictures * len(TIMESTEPS))
        met = Counter((state.t, round(float(state.mu[0, 0, 0, 0]), 3)) for state in states)
        assert set(met.values()) == {3}
        assert len(met) == pictures * len(TIMESTEPS)


def test_crops_spread_over_the_picture() -> None:
    """Of 32 crops every quarter of the places holds its share, give or take what a low-discrepancy sequence allows."""
    tops = np.array([[axis.start for axis in window((300, 500), k, 9, 100)] for k in range(32)]) / [200, 400]
    assert tops.min() >= 0
    assert tops.max() <= 1
    quarters = Counter(map(tuple, (tops >= 0.5).astype(int)))
    assert all(6 <= count <= 10 for count in quarters.values())
    assert window((20, 30), 7, 0, 100) == (slice(0, 20), slice(0, 30))


def test_a_state_hangs_on_seed_and_number_alone() -> None:
    _, card = small_quantisable()
    sources = [flat(0.2, 0.1), flat(0.6, -0.1)]
    few = list(islice(exact_states(sources, card, TIMESTEPS, 1, 32), 4))
    more = list(islice(exact_states(sources, card, TIMESTEPS, 1, 32), 8))
    for mine, theirs in zip(few, more, strict=False):
        np.testing.assert_array_equal(mine.x, theirs.x)
    other = next(exact_states(sources, card, TIMESTEPS, 2, 32))
    assert np.abs(other.x - few[0].x).max() > 0.1


def test_recorded_states_are_the_samplers_own(tmp_path: Path) -> None:
    """Against the recurrence written out in float64, on a picture that needs padding; states are float32, up to 16."""
    model, card = small_quantisable()
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    picture = np.random.default_rng(0).random((3, 18, 21), dtype=np.float32)
    table = card.plan("sde-2m", 3)
    recorded = list(islice(recorded_states([Source("a", (18, 21), lambda: (picture, None))], engine, table, 4, 64), 4))

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


def test_noise_states_hold_no_picture() -> None:
    _, card = small_quantisable()
    state = next(noise_states(card, TIMESTEPS, 0, 64))
    for array in (state.x, state.mu):
        assert abs(array.mean()) < 5 / np.sqrt(array.size)
        assert abs(array.std() - 1) < 5 / np.sqrt(2 * array.size)
