"""Padding against PyTorch's, and the loop against the same steps written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irsde_deploy import MeanRevertingSDE, plan_steps
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.runtimes.loops.numpy_loop import states
from irsde_deploy.runtimes.loops.padding import pad_to_multiple

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("mode", "theirs"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("size", [(9, 13), (16, 17), (31, 16), (32, 32)])
def test_padding_is_pytorchs(mode: str, theirs: str, size: tuple[int, int]) -> None:
    x = RNG.random((2, 3, *size), dtype=np.float32)
    height, width = size
    expected = torch.nn.functional.pad(torch.from_numpy(x), (0, -width % 16, 0, -height % 16), mode=theirs)
    np.testing.assert_array_equal(pad_to_multiple(x, 16, mode), expected.numpy())


@pytest.mark.parametrize("size", [(1, 1), (8, 3), (1, 40)])
def test_pictures_too_small_to_reflect_repeat_their_edge(size: tuple[int, int]) -> None:
    x = RNG.random((1, 2, *size), dtype=np.float32)
    padded = pad_to_multiple(x, 16, "reflect")
    height, width = size
    assert padded.shape[2] % 16 == padded.shape[3] % 16 == 0
    np.testing.assert_array_equal(padded[:, :, :height, :width], x)
    if height <= 8:
        np.testing.assert_array_equal(padded[:, :, height:, :width], np.repeat(x[:, :, -1:], 16 - height, axis=2))
    if width <= 8:
        np.testing.assert_array_equal(padded[:, :, :height, width:], np.repeat(x[..., -1:], 16 - width, axis=3))


@pytest.fixture
def sde() -> MeanRevertingSDE:
    return MeanRevertingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.005)


def network(y: np.ndarray, t: int) -> np.ndarray:
    return np.tanh(4 * y + t / 50, dtype=np.float32)


@pytest.mark.parametrize("sampler", ["euler", "posterior", "sde-2m", "ode-2m"])
def test_the_loop_does_what_the_table_says(sde: MeanRevertingSDE, sampler: str) -> None:
    """In float64, from the sampler's own formula for q, against the float32 loop."""
    shape = (2, 3, 4, 5)
    mu = RNG.random(shape, dtype=np.float32)
    draw = seeded_noise(3, shape)
    table = plan_steps(sde, sampler, 100 if sampler == "euler" else 9)
    *_, last = states(network, mu, table, draw)
    y, q_prev = sde.lam * draw(0).astype(float), np.zeros(shape)
    for k, t in enumerate(table.t):
        eps = network(y, int(t)).astype(float)
        q = sde.y0_from_noise(y, eps, int(t))
        y = table.a[k] * y + table.c[k] * eps + table.d[k] * q_prev + table.s[k] * draw(k + 1)
        q_prev = q
    # float32 rounding of each step, 6e-8 of the largest term (p = 1/a up to 200 at t = T), amplified by tanh's slope
    np.testing.assert_allclose(last, y, atol=2e-4 * np.abs(y).max())


def test_clipping_keeps_the_prediction_in_range_and_changes_nothing_where_it_already_is(
    sde: MeanRevertingSDE,
) -> None:
    shape = (1, 3, 8, 8)
    mu = RNG.random(shape, dtype=np.float32)
    table = plan_steps(sde, "sde-2m", 6)
    clipped, free = (
        [y.copy() for y in states(network, mu, table, seeded_noise(1, shape), clip=clip)] for clip in (True, False)
    )
    assert np.abs(mu + free[-1]).max() > 1.01, "the example must need clipping"
    assert (mu + clipped[-1]).min() >= -1e-6
    assert (mu + clipped[-1]).max() <= 1 + 1e-6

    def perfect(y: np.ndarray, t: int) -> np.ndarray:
        return sde.noise_from_y0(y, 0.5 - mu, t).astype(np.float32)  # leads to grey, well inside

    inside = [list(states(perfect, mu, table, seeded_noise(1, shape), clip=clip))[-1] for clip in (False, True)]
    np.testing.assert_allclose(inside[0], inside[1], atol=1e-4)
    np.testing.assert_allclose(mu + inside[1], 0.5, atol=1e-4)
