"""The Denoising-SDE: against the reference's formulas written again in float64, and against exact solutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irsde_deploy import DenoisingSDE, ModelCard, Restorer, plan_steps
from irsde_deploy.errors import InvalidValueError

M, S = 0.4, 0.15
"""Mean and standard deviation of the clean value in the Gaussian problem."""


@pytest.fixture
def sde() -> DenoisingSDE:
    return DenoisingSDE(max_sigma=75, T=100, schedule="cosine")


class Reference:
    """What the reference's class computes for (max_sigma, T, schedule), its formulas in float64."""

    def __init__(self, max_sigma: float, T: int, schedule: str) -> None:
        if schedule == "cosine":
            n = T + 2
            x = np.linspace(0, n, n + 1)
            bar = np.cos((x / n + 0.008) / 1.008 * np.pi * 0.5) ** 2
            self.theta = 1 - (bar / bar[0])[1:-1]
        else:
            scale = 1000 / (T + 1)
            self.theta = np.linspace(scale * 0.0001, scale * 0.02, T + 1)
        self.cumulative = np.cumsum(self.theta) - self.theta[0]
        self.dt = -np.log(0.04) / self.cumulative[-1]
        self.max_sigma = max_sigma / 255
        self.g2 = self.max_sigma**2 * 2 * self.theta
        self.sigma_bar = np.sqrt(self.max_sigma**2 * (1 - np.exp(-2 * self.cumulative * self.dt)))

    def reverse_sde(self, x: np.ndarray, eps: np.ndarray, t: int, z: np.ndarray) -> np.ndarray:
        A = np.exp(-2 * self.cumulative[t] * self.dt)
        score = -eps / self.sigma_bar[t]
        drift = -0.5 * self.g2[t] * (1 + A) * score * self.dt
        return x - drift - np.sqrt(self.g2[t] * self.dt) * z

    def reverse_ode(self, x: np.ndarray, eps: np.ndarray, t: int) -> np.ndarray:
        A = np.exp(-2 * self.cumulative[t] * self.dt)
        return x - -0.5 * self.g2[t] * A * (-eps / self.sigma_bar[t]) * self.dt

    def optimum(self, x: np.ndarray, x0: np.ndarray, t: int) -> np.ndarray:
        A, B, C = (np.exp(-v * self.dt) for v in (self.theta[t], self.cumulative[t], self.cumulative[t - 1]))
        return A * (1 - C**2) / (1 - B**2) * (x - x0) + x0

    def optimal_timestep(self, sigma: float) -> int:
        hat = -1 / (2 * self.dt) * np.log(1 - (sigma / 255) ** 2 / self.max_sigma**2 + 1e-6)
        return int(np.abs(self.cumulative - hat).argmin())


@pytest.mark.parametrize(("max_sigma", "T", "schedule"), [(75, 100, "cosine"), (70, 1000, "linear")])
def test_schedule_and_steps_are_the_references(max_sigma: float, T: int, schedule: str) -> None:
    sde, reference = DenoisingSDE(max_sigma, T, schedule), Reference(max_sigma, T, schedule)
    np.testing.assert_allclose(sde.sigma, reference.sigma_bar, rtol=1e-9, atol=1e-12)
    assert sde.dt == pytest.approx(reference.dt, rel=1e-12)
    rng = np.random.default_rng(0)
    mu, x, eps, x0, z = rng.normal(size=(5, 40))
    euler, ode = plan_steps(sde, "euler", T), plan_steps(sde, "ode", T)
    for k in (0, T // 2, T - 1):
        t, y = int(euler.t[k]), x - mu
        stepped = euler.a[k] * y + euler.c[k] * eps + euler.s[k] * z + mu
        np.testing.assert_allclose(stepped, reference.reverse_sde(x, eps, t, z), rtol=1e-9)
        stepped = ode.a[k] * y + ode.c[k] * eps + mu
        np.testing.assert_allclose(stepped, reference.reverse_ode(x, eps, t), rtol=1e-9)
        optimum = sde.optimal_reverse_step(y, x0 - mu, t) + mu
        np.testing.assert_allclose(optimum, reference.optimum(x, x0, t), rtol=1e-9)


@pytest.mark.parametrize("sigma", [1e-3, 0.5, 5, 15, 25, 50, 74])
def test_the_start_is_where_the_noise_is_the_pictures(sde: DenoisingSDE, sigma: float) -> None:
    t = sde.timestep_of(sigma / 255)
    assert t == max(1, Reference(75, 100, "cosine").optimal_timestep(sigma))
    gaps = np.abs(sde.sigma[1:] - sigma / 255)
    assert abs(int(gaps.argmin()) + 1 - t) <= 1  # nearest in theta_bar and in sigma differ between two timesteps


@pytest.mark.parametrize("sigma", [0, -1, 76, float("nan")])
def test_noise_levels_out_of_range_are_refused(sde: DenoisingSDE, sigma: float) -> None:
    with pytest.raises(InvalidValueError, match="noise level must be above 0 and at most 75"):
        sde.timestep_of(sigma / 255)


@pytest.mark.parametrize("max_sigma", [75, 70, 25, 0.3])
def test_the_highest_level_is_the_last_timestep(max_sigma: float) -> None:
    """Computed either way: by rounding, a level may come out a little above what it was."""
    sde = DenoisingSDE(max_sigma, 100, "cosine")
    for sigma in (sde.lam, np.nextafter(sde.lam, 1), float(sde.sigma[-1])):
        assert sde.timestep_of(sigma) == 100


def test_marginal_solves_the_forward_sde(sde: DenoisingSDE) -> None:
    """The variance about x_0 by Euler integration of dx = theta (x_0 - x) dt + sigma dw."""
    variance, n = 0.0, 2000
    for t in range(1, 31):
        h = sde.delta[t] / n
        for _ in range(n):
            variance += -2 * h * variance + 2 * sde.lam**2 * h
    assert variance == pytest.approx(sde.sigma[30] ** 2, rel=10 * sde.theta_bar[30] ** 2 / (30 * n))


def test_posterior_is_bayes_rule_about_the_clean_picture(sde: DenoisingSDE) -> None:
    s, t = 22, 61
    D = sde.theta_bar[t] - sde.theta_bar[s]
    A, std = np.exp(-D), sde.lam * np.sqrt(1 - np.exp(-2 * D))
    precision = A**2 / std**2 + 1 / sde.sigma[s] ** 2
    weight = A / std**2 / precision
    assert sde.posterior(s, t) == pytest.approx((weight, 1 - weight, precision**-0.5), rel=1e-10)


def test_debiasing_makes_the_euler_mean_optimal(sde: DenoisingSDE) -> None:
    rng = np.random.default_rng(1)
    for t in (1, 2, 37, 100):
        x0, eps = rng.normal(size=2)
        x = x0 + sde.sigma[t] * eps
        u, v = sde.likelihood_bias(t)
        cy, cn, _ = sde.euler_step(t)
        assert cy * x + cn * (u * eps + v * x) == pytest.approx(sde.optimal_reverse_step(x, x0, t), rel=1e-10)
        u2, v2 = sde.likelihood_debias(t)
        assert u2 * (u * eps + v * x) + v2 * x == pytest.approx(eps, rel=1e-10)


def solve(sde: DenoisingSDE, sampler: str, timesteps: list[int], x: np.ndarray) -> np.ndarray:
    """The loop, up to the last of the timesteps, with the optimal network for clean values N(M, S^2)."""
    table = plan_steps(sde, sampler, sde.T if sampler == "ode" else timesteps)
    q_prev = np.zeros_like(x)
    for k, t in enumerate(timesteps[:-1]):
        eps = sde.sigma[t] * (x - M) / (S**2 + sde.sigma[t] ** 2)
        q = table.p[k] * x + table.r[k] * eps
        x = table.a[k] * x + table.c[k] * eps + table.d[k] * q_prev
        q_prev = q
    return x


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("ode-2m", 2)])
def test_order_of_convergence_to_the_exact_flow(sampler: str, order: int) -> None:
    """The probability flow carries x - M in proportion to the marginal's standard deviation."""
    sde = DenoisingSDE(max_sigma=0.3, T=6400, schedule="constant")
    end, x = 640, np.array([0.1, 0.9])

    def error(steps: int) -> float:
        timesteps = [round(v) for v in np.linspace(sde.T, end, steps + 1)]
        exact = M + (x - M) * np.sqrt((S**2 + sde.sigma[end] ** 2) / (S**2 + sde.sigma[sde.T] ** 2))
        return float(np.abs(solve(sde, sampler, timesteps, x) - exact).max())

    assert np.log2(error(160) / error(320)) == pytest.approx(order, abs=0.15)


def test_the_reference_ode_converges_to_the_exact_flow() -> None:
    def error(T: int) -> float:
        sde = DenoisingSDE(max_sigma=0.3, T=T, schedule="constant")
        end, x = T // 10, np.array([0.1, 0.9])
        exact = M + (x - M) * np.sqrt((S**2 + sde.sigma[end] ** 2) / (S**2 + sde.sigma[T] ** 2))
        return float(np.abs(solve(sde, "ode", list(range(T, end - 1, -1)), x) - exact).max())

    assert np.log2(error(800) / error(1600)) == pytest.approx(1, abs=0.1)


class KnownPicture:
    """An engine that knows the clean picture: its eps is the true noise of x."""

    name = "exact"

    def __init__(self, card: ModelCard, clean: np.ndarray) -> None:
        self.card, self.clean = card, clean

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return ((x - self.clean) / self.card.sde.sigma[int(t[0])]).astype(np.float32)


@pytest.mark.parametrize("sampler", ["posterior", "mean", "ddim", "sde-2m", "ode-2m"])
def test_restoring_starts_at_the_noisy_picture_and_ends_at_the_clean_one(sde: DenoisingSDE, sampler: str) -> None:
    rng = np.random.default_rng(3)
    clean = rng.uniform(0.2, 0.8, (1, 3, 8, 8)).astype(np.float32)
    noisy = (clean + 25 / 255 * rng.normal(size=clean.shape)).astype(np.float32)
    card = ModelCard("Exact", {"conditional": False}, 3, 1, "zero", sde, sampler=sampler, steps=8)
    restorer = Restorer(KnownPicture(card, clean))
    restored = restorer(noisy[0].transpose(1, 2, 0), noise_level=25)
    np.testing.assert_allclose(restored, clean[0].transpose(1, 2, 0), atol=2e-6)
    assert restorer.plan(noise_level=25).table.t[0] == sde.timestep_of(25 / 255)
    with pytest.raises(InvalidValueError, match="give `noise_level`"):
        restorer(noisy[0].transpose(1, 2, 0))


def test_a_card_keeps_the_process_and_refuses_a_network_that_sees_mu(sde: DenoisingSDE) -> None:
    card = ModelCard("ConditionalNAFNet", {"conditional": False}, 3, 16, "zero", sde)
    assert ModelCard.from_json(card.to_json()).sde == sde
    with pytest.raises(InvalidValueError, match="sees mu"):
        ModelCard("ConditionalNAFNet", {}, 3, 16, "zero", sde)
    with pytest.raises(InvalidValueError, match="its card has no t0"):
        replace(card, t0=50)
