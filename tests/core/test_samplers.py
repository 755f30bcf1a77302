"""Step tables: the exact Gaussian solution, orders of convergence, the grids, and what the formulas say by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from golden import golden_path

from irsde_deploy import MeanRevertingSDE, StepTable, plan_steps
from irsde_deploy.core.samplers import ADJACENT_ONLY, SAMPLERS, timestep_grid
from irsde_deploy.errors import InvalidValueError

M, S = 0.4, 0.15
"""Mean and standard deviation of the clean value in the Gaussian problem."""


@pytest.fixture
def sde() -> MeanRevertingSDE:
    return MeanRevertingSDE(max_sigma=30, T=100, schedule="cosine", eps=0.005)


def gaussian_moments(
    sde: MeanRevertingSDE, table: StepTable, mean: float, variance: float, stop_early: bool
) -> tuple[float, float]:
    """Mean and variance of y after the table, when y_0 ~ N(M, S^2) and the network is optimal.

    The optimal eps = sigma (y - a M) / (a^2 S^2 + sigma^2) is affine in y, so (y, q_prev) stays Gaussian and its
    moments follow exactly. With stop_early the last row is left out.
    """
    state_mean = np.array([mean, 0.0])
    cov = np.array([[variance, 0.0], [0.0, 0.0]])
    for k, t in enumerate(table.t[: len(table) - stop_early]):
        a_t, sigma_t = sde.marginal(int(t))
        slope = sigma_t / (a_t**2 * S**2 + sigma_t**2)
        offset = -slope * a_t * M
        step = np.array([[table.a[k] + table.c[k] * slope, table.d[k]], [table.p[k] + table.r[k] * slope, 0.0]])
        shift = np.array([table.c[k] * offset, table.r[k] * offset])
        state_mean = step @ state_mean + shift
        cov = step @ cov @ step.T + np.diag([table.s[k] ** 2, 0.0])
    return float(state_mean[0]), float(cov[0, 0])


def error_at(sampler: str, steps: int) -> float:
    """Distance from the exact marginal at t = T/10 after `steps` steps from T, for the Gaussian problem."""
    sde = MeanRevertingSDE(max_sigma=0.3, T=6400, schedule="constant", eps=0.05)
    end = 640
    timesteps = [round(v) for v in np.linspace(sde.T, end, steps + 1)]
    table = plan_steps(sde, sampler, timesteps)
    a, sigma = sde.marginal(sde.T)
    mean, variance = gaussian_moments(sde, table, a * M, a**2 * S**2 + sigma**2, stop_early=True)
    a, sigma = sde.marginal(end)
    exact = (a * M, a**2 * S**2 + sigma**2)
    return abs(mean - exact[0]) + abs(np.sqrt(variance) - np.sqrt(exact[1]))


@pytest.mark.parametrize(("sampler", "order"), [("posterior", 1), ("ddim", 1), ("sde-2m", 2), ("ode-2m", 2)])
def test_order_of_convergence(sampler: str, order: int) -> None:
    errors = [error_at(sampler, steps) for steps in (40, 80, 160, 320)]
    measured = np.log2(errors[-2] / errors[-1])
    assert measured == pytest.approx(order, abs=0.15), errors


@pytest.mark.parametrize("sampler", ["euler", "ode"])
def test_one_timestep_discretisations_converge_with_T(sampler: str) -> None:
    """Finer training schedules: first order too, in the Gaussian problem, down to the last timestep."""

    def error(T: int) -> float:
        sde = MeanRevertingSDE(max_sigma=0.3, T=T, schedule="constant", eps=0.05)
        table = plan_steps(sde, sampler, T)
        a, sigma = sde.marginal(T)
        cut = T // 10
        head = StepTable(
            *(getattr(table, f)[: T - cut] for f in ["t", "a", "c", "d", "s", "p", "r"]), start=table.start
        )
        mean, variance = gaussian_moments(sde, head, a * M, a**2 * S**2 + sigma**2, stop_early=False)
        a, sigma = sde.marginal(cut)
        return abs(mean - a * M) + abs(np.sqrt(variance) - np.sqrt(a**2 * S**2 + sigma**2))

    assert np.log2(error(800) / error(1600)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ADJACENT_ONLY])
def test_with_the_clean_picture_known_every_sampler_returns_it(sde: MeanRevertingSDE, sampler: str) -> None:
    """If the network's eps is exactly the one that leads from y_0 to y, the last step returns y_0."""
    rng = np.random.default_rng(2)
    y0 = rng.normal(size=200)
    y = sde.a[100] * y0 + sde.sigma[100] * rng.normal(size=200)
    y = run(sde, plan_steps(sde, sampler, 7), y, lambda y, t: sde.noise_from_y0(y, y0, t), rng)
    np.testing.assert_allclose(y, y0, atol=1e-9)


def run(sde, table, y, network, rng):  # type: ignore[no-untyped-def]
    """The design's loop, written again, on any arrays."""
    q_prev = 0.0
    for k, t in enumerate(table.t):
        eps = network(y, int(t))
        q = table.p[k] * y + table.r[k] * eps
        y = table.a[k] * y + table.c[k] * eps + table.d[k] * q_prev + table.s[k] * rng.normal(size=y.shape)
        q_prev = q
    return y


@pytest.mark.parametrize("sampler", ["ddim", "sde-2m"])
def test_marginals_are_kept_where_the_clean_value_is_known(sde: MeanRevertingSDE, sampler: str) -> None:
    """With y_0 given, DDIM and the SDE solvers carry N(a_t y_0, sigma_t^2) into N(a_s y_0, sigma_s^2) exactly."""
    table = plan_steps(sde, sampler, [80, 50, 20])
    mean, variance, q_mean = sde.a[80] * M, sde.sigma[80] ** 2, M
    for k, s in enumerate((50, 20)):
        t = int(table.t[k])
        # eps = (y - a M) / sigma
        slope, offset = 1 / sde.sigma[t], -sde.a[t] * M / sde.sigma[t]
        gain = table.a[k] + table.c[k] * slope
        mean = gain * mean + table.c[k] * offset + table.d[k] * q_mean
        variance = gain**2 * variance + table.s[k] ** 2
        assert mean == pytest.approx(sde.a[s] * M, rel=1e-9)
        assert variance == pytest.approx(sde.sigma[s] ** 2, rel=1e-9)


def test_euler_and_ode_rows_are_the_references_formulas(sde: MeanRevertingSDE) -> None:
    euler, ode = plan_steps(sde, "euler", 100), plan_steps(sde, "ode", 100)
    t = euler.t
    np.testing.assert_array_equal(t, np.arange(100, 0, -1))
    # reverse drift of the reference: (theta (mu - x) - g^2 score) dt, with score = -eps / sigma, g^2 = 2 lam^2 theta
    theta_dt, g2 = sde.theta[t] * sde.dt, 2 * sde.lam**2 * sde.theta[t]
    np.testing.assert_allclose(euler.a, 1 + theta_dt, rtol=1e-12)
    np.testing.assert_allclose(euler.c, -g2 * sde.dt / sde.sigma[t], rtol=1e-12)
    np.testing.assert_allclose(euler.s, -np.sqrt(g2 * sde.dt), rtol=1e-12)
    np.testing.assert_allclose(ode.c, -g2 * sde.dt / sde.sigma[t] / 2, rtol=1e-12)
    assert not ode.stochastic
    assert euler.stochastic
    assert plan_steps(sde, "posterior", 5).stochastic, "though its last step draws nothing"
    assert euler.s[-1] < 0, "the reference adds noise at t = 1 too"


@pytest.mark.parametrize(("sampler", "order"), [("sde-2m", 2), ("ode-2m", 1)])
def test_second_order_rows_are_the_papers_formulas_on_any_grid(sde: MeanRevertingSDE, sampler: str, order: int) -> None:
    """DPM-Solver++ 2M, stochastic and not: with g = (q - q_prev) / h_prev, a row of unequal steps."""
    t = [95, 60, 50, 4]
    table = plan_steps(sde, sampler, t)
    l_t, a, sigma = np.log(sde.a[t] * sde.lam / sde.sigma[t]), sde.a[t], sde.sigma[t]
    for k in (0, 1, 2):
        h = l_t[k + 1] - l_t[k]
        weight = a[k + 1] * (1 - np.exp(-order * h))
        along = weight * h / 2 / (l_t[k] - l_t[k - 1]) if k else 0.0
        y = sigma[k + 1] / sigma[k] * np.exp(-(order - 1) * h)
        assert table.d[k] == pytest.approx(-along, rel=1e-9)
        assert table.a[k] == pytest.approx(y + (weight + along) * table.p[k], rel=1e-9)
        assert table.c[k] == pytest.approx((weight + along) * table.r[k], rel=1e-9)
        assert table.s[k] == pytest.approx((order - 1) * sigma[k + 1] * np.sqrt(1 - np.exp(-2 * h)), rel=1e-9)


def test_posterior_with_adjacent_steps_is_the_references() -> None:
    """From the golden schedule's theta and its sums, by the reference's formulas, in float64."""
    sde = MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)
    with np.load(golden_path("schedules.npz")) as arrays:
        theta, bar, dt = (
            arrays[f"cosine_T100_eps0.005_sigma10/{k}"].astype(float) for k in ("thetas", "thetas_cumsum", "dt")
        )
    table = plan_steps(sde, "posterior", 100)
    t = table.t[:-1]
    A, B, C = np.exp(-theta[t] * dt), np.exp(-bar[t] * dt), np.exp(-bar[t - 1] * dt)
    cy, cq = A * (1 - C**2) / (1 - B**2), C * (1 - A**2) / (1 - B**2)
    std = 10 / 255 * np.sqrt((1 - A**2) * (1 - C**2) / (1 - B**2))
    p, r = 1 / B, -(10 / 255) * np.sqrt(1 - B**2) / B
    rtol = 2e-4  # the golden theta is float32: an error of 6e-8 in theta_2 = 3e-4
    np.testing.assert_allclose(table.a[:-1], cy + cq * p, rtol=rtol)
    np.testing.assert_allclose(table.c[:-1], cq * r, rtol=rtol)
    np.testing.assert_allclose(table.s[:-1], std, rtol=rtol)
    assert table.s[-1] == 0


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_debiased_table_undoes_the_bias_exactly(sde: MeanRevertingSDE, sampler: str) -> None:
    """The debiased table fed with a biased network equals the plain table fed with the unbiased one."""
    steps = 100 if sampler in ("euler", "ode") else 6
    y = np.random.default_rng(4).normal(size=30) * sde.lam

    def unbiased(y: np.ndarray, t: int) -> np.ndarray:
        return np.tanh(3 * y) + t / 100

    def biased(y: np.ndarray, t: int) -> np.ndarray:
        u, v = sde.likelihood_bias(t)
        return u * unbiased(y, t) + v * y

    plain = run(sde, plan_steps(sde, sampler, steps), y, unbiased, np.random.default_rng(5))
    debiased = run(sde, plan_steps(sde, sampler, steps, debias=True), y, biased, np.random.default_rng(5))
    np.testing.assert_allclose(debiased, plain, rtol=1e-9)


def test_grid_follows_its_formula_and_decreases() -> None:
    assert timestep_grid(100, 5, 1.0) == [100, 80, 60, 40, 20]
    assert timestep_grid(100, 10) == [100, 87, 75, 63, 51, 41, 30, 21, 12, 5]
    for t0 in (1, 7, 80, 100, 1000):
        for steps in {1, min(2, t0), t0 // 3 or 1, t0 - 1 or 1, t0}:
            grid = timestep_grid(t0, steps)
            assert len(grid) == steps
            assert grid[0] == t0
            assert grid[-1] >= 1
            assert all(a > b for a, b in itertools.pairwise(grid))


def test_timesteps_as_they_are_given_or_by_another_grid(sde: MeanRevertingSDE) -> None:
    assert plan_steps(sde, "ddim", [100, 7, 1]).t.tolist() == [100, 7, 1]
    assert plan_steps(sde, "ddim", np.array([80, 40]), t0=80).t.tolist() == [80, 40]
    assert plan_steps(sde, "ddim", 5, exponent=1.0).t.tolist() == [100, 80, 60, 40, 20]
    table = plan_steps(sde, "sde-2m", 3)
    for name in ("t", "a", "c", "d", "s", "p", "r"):
        assert not getattr(table, name).flags.writeable, name


def test_start_is_lam_whatever_t0(sde: MeanRevertingSDE) -> None:
    for t0 in (100, 80):
        table = plan_steps(sde, "posterior", 10, t0=t0)
        assert table.start == 30 / 255
        assert table.t[0] == t0


@pytest.mark.parametrize(
    ("sampler", "steps", "options", "message"),
    [
        ("heun", 10, {}, "sampler must be one of"),
        ("posterior", 0, {}, "steps must be from 1 to 100"),
        ("posterior", 101, {}, "steps must be from 1 to 100"),
        ("posterior", 90, {"t0": 80}, "steps must be from 1 to 80"),
        ("euler", 50, {}, "cannot skip timesteps"),
        ("ddim", 5, {"t0": 101}, "t0 must be"),
        ("ddim", [50, 50], {}, "strictly decrease"),
        ("ddim", [101, 50], {}, "strictly decrease"),
        ("ddim", [50, 0], {}, "strictly decrease within 1..100"),
        ("ddim", [], {}, "strictly decrease"),
        ("ddim", [80, 40], {"t0": 90}, "t0 = 90 contradicts the first timestep 80"),
        ("ddim", 5, {"exponent": 0}, "exponent must be above 0"),
        ("ddim", True, {}, "whole number"),
        ("ddim", [50.9, 20.2], {}, "whole numbers"),
        ("ddim", "10", {}, "whole number"),
    ],
)
def test_bad_plans_are_refused(sde: MeanRevertingSDE, sampler, steps, options, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidValueError, match=message):
        plan_steps(sde, sampler, steps, **options)
