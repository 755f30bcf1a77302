"""The closed forms: against the reference's float32 schedules, against each other, and against quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden_path, load_case

from irsde_deploy import DenoisingSDE, MeanRevertingSDE
from irsde_deploy.errors import InvalidValueError

SCHEDULES = [
    ("cosine", 100, 0.005, 10),
    ("linear", 100, 0.005, 10),
    ("constant", 100, 0.005, 10),
    ("cosine", 1000, 0.01, 50),
    ("linear", 10, 0.005, 0.5),
]


@pytest.fixture
def sde() -> MeanRevertingSDE:
    return MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)


@pytest.mark.parametrize(("schedule", "T", "eps", "max_sigma"), SCHEDULES)
def test_schedules_are_the_references(schedule: str, T: int, eps: float, max_sigma: float) -> None:
    sde = MeanRevertingSDE(max_sigma, T, schedule, eps)
    with np.load(golden_path("schedules.npz")) as arrays:
        golden = {k: arrays[f"{schedule}_T{T}_eps{eps}_sigma{max_sigma}/{k}"] for k in GOLDEN_ARRAYS}
    # The reference computes theta = 1 - abar in float32, so theta carries an absolute error of one unit of 1.0
    # (6e-8), a few where cosines and a division came before; everything else follows from theta.
    ulp = 2.0**-23
    assert np.abs(sde.theta - golden["thetas"]).max() < 3 * ulp * max(1, sde.theta.max())
    assert sde.dt == pytest.approx(float(golden["dt"]), rel=3 * ulp)
    cumulative = sde.theta_bar / sde.dt
    assert (
        np.abs(cumulative - golden["thetas_cumsum"]).max() < 3 * ulp * np.arange(1, T + 2).max() ** 0.5 * cumulative[-1]
    )
    # sigma^2 = lam^2 (1 - exp(-2 theta_bar)) is rounded near 1 as well
    assert np.abs(sde.sigma**2 - golden["sigma_bars"].astype(float) ** 2).max() < 10 * ulp * sde.lam**2
    assert sde.lam == pytest.approx(float(golden["max_sigma"]), rel=1e-15)
    # at t = 1 the reference clamps a variance of 0 to 1e-20 dt; s = 0 leaves no noise at all here
    posterior = np.array([sde.posterior(t - 1, t)[2] for t in range(1, T + 1)])
    assert posterior[0] == 0
    assert np.abs(posterior[1:] ** 2 - golden["posterior_std"][1:] ** 2).max() < 10 * ulp * sde.lam**2


GOLDEN_ARRAYS = ("thetas", "thetas_cumsum", "dt", "sigma_bars", "max_sigma", "posterior_std")


def test_theta_bar_runs_from_zero_to_minus_log_eps(sde: MeanRevertingSDE) -> None:
    assert sde.theta_bar[0] == 0
    assert sde.a[-1] == pytest.approx(0.005, rel=1e-12)
    np.testing.assert_allclose(np.diff(sde.theta_bar), sde.delta[1:], rtol=1e-12)


def test_marginal_solves_the_forward_sde(sde: MeanRevertingSDE) -> None:
    """Mean and variance by Euler integration of dy = -theta y dt + sigma dw, 2,000 substeps a timestep."""
    n = 2000
    mean, variance = 1.0, 0.0
    for t in range(1, 41):
        h = sde.delta[t] / n
        for _ in range(n):
            mean += -h * mean
            variance += -2 * h * variance + 2 * sde.lam**2 * h
    a, sigma = sde.marginal(40)
    error = sde.theta_bar[40] ** 2 / (40 * n)  # of Euler's method, first order
    assert mean == pytest.approx(a, rel=error)
    assert variance == pytest.approx(sigma**2, rel=10 * error)


def test_transitions_compose_into_the_marginal(sde: MeanRevertingSDE) -> None:
    a, sigma = sde.marginal(30)
    A, std = sde.transition(30, 77)
    assert (A * a, np.hypot(A * sigma, std)) == pytest.approx(sde.marginal(77), rel=1e-12)


def test_posterior_is_bayes_rule(sde: MeanRevertingSDE) -> None:
    """p(y_s | y_t, y_0) from the product of the two Gaussians p(y_t | y_s) p(y_s | y_0)."""
    s, t = 22, 61
    a_s, sigma_s = sde.marginal(s)
    A, std = sde.transition(s, t)
    precision = A**2 / std**2 + 1 / sigma_s**2
    expected = (A / std**2 / precision, a_s / sigma_s**2 / precision, precision**-0.5)
    assert sde.posterior(s, t) == pytest.approx(expected, rel=1e-10)


def test_posterior_composes_over_split_steps(sde: MeanRevertingSDE) -> None:
    """From 90 to 10 at once equals 90 -> 55 -> 10, in mean and in variance."""
    cy1, cq1, std1 = sde.posterior(55, 90)
    cy2, cq2, std2 = sde.posterior(10, 55)
    composed = (cy2 * cy1, cy2 * cq1 + cq2, np.hypot(cy2 * std1, std2))
    assert composed == pytest.approx(sde.posterior(10, 90), rel=1e-10)


def test_optimal_reverse_step_is_the_references() -> None:
    golden = load_case("unet_nf8_depth4")
    sde = MeanRevertingSDE(**golden.sde)
    e = golden.expected
    optimum = sde.optimal_reverse_step(e["train_state"] - e["lq"], e["gt"] - e["lq"], int(e["train_t"][0])) + e["lq"]
    np.testing.assert_allclose(optimum, e["train_optimum"], atol=1e-6)  # float32 in the reference


def test_conversions_are_inverse_and_agree(sde: MeanRevertingSDE) -> None:
    rng = np.random.default_rng(0)
    y0, eps = rng.normal(size=(2, 50))
    t = np.arange(1, 51)
    y = sde.a[t] * y0 + sde.sigma[t] * eps
    np.testing.assert_allclose(sde.noise_from_y0(y, y0, t), eps, rtol=1e-9)
    np.testing.assert_allclose(sde.y0_from_noise(y, eps, t), y0, rtol=1e-9)
    score = sde.score_from_noise(eps, t)
    np.testing.assert_allclose(sde.noise_from_score(score, t), eps, rtol=1e-12)
    np.testing.assert_allclose(sde.score_from_y0(y, y0, t), score, rtol=1e-9)
    np.testing.assert_allclose(sde.y0_from_score(y, score, t), y0, rtol=1e-9)


def test_bias_makes_the_euler_mean_optimal_and_debiasing_inverts_it(sde: MeanRevertingSDE) -> None:
    rng = np.random.default_rng(1)
    for t in (1, 2, 37, 99, 100):
        y0, eps = rng.normal(size=2)
        y = sde.a[t] * y0 + sde.sigma[t] * eps
        u, v = sde.likelihood_bias(t)
        eps_net = u * eps + v * y
        euler_mean = y * (1 + sde.delta[t]) - 2 * sde.lam**2 * sde.delta[t] / sde.sigma[t] * eps_net
        assert euler_mean == pytest.approx(sde.optimal_reverse_step(y, y0, t), rel=1e-10)
        u, v = sde.likelihood_debias(t)
        assert u * eps_net + v * y == pytest.approx(eps, rel=1e-9)


def test_slopes_of_the_bias(sde: MeanRevertingSDE) -> None:
    """The regression of eps_net on eps, given y_0 independent of eps: u + v sigma_t."""
    u, v = sde.likelihood_bias(np.array([100, 80, 60, 40, 20]))
    slopes = u + v * sde.sigma[[100, 80, 60, 40, 20]]
    np.testing.assert_allclose(slopes, [0.975, 0.977, 0.984, 0.994, 1.000], atol=5e-4)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"max_sigma": 0}, "max_sigma"),
        ({"max_sigma": float("nan")}, "max_sigma"),
        ({"max_sigma": 10**400}, "max_sigma"),
        ({"max_sigma": 255.5}, "max_sigma"),
        ({"max_sigma": True}, "max_sigma"),
        ({"schedule": ["cosine"]}, "schedule"),
        ({"T": True}, "T must"),
        ({"T": 100_001}, "T must be a whole number from 1 to 100000"),
        ({"T": 0}, "T must"),
        ({"T": 10.0}, "T must"),
        ({"schedule": "quadratic"}, "schedule"),
        ({"eps": 1}, "eps"),
        ({"eps": 0}, "eps"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, object], word: str) -> None:
    good = {"max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 0.005}
    with pytest.raises(InvalidValueError, match=word):
        MeanRevertingSDE(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(("max_sigma", "lam"), [(0.5, 0.5), (0.999, 0.999), (1, 1 / 255), (255, 1)])
def test_levels_from_1_on_are_of_255(max_sigma: float, lam: float) -> None:
    assert MeanRevertingSDE(max_sigma, 100_000, "constant", 0.005).lam == lam
    assert DenoisingSDE(max_sigma, 10, "constant").lam == lam


def test_the_arrays_of_an_sde_are_not_to_be_written_to(sde: MeanRevertingSDE) -> None:
    for name in ("theta", "theta_bar", "delta", "a", "sigma", "log_snr"):
        assert not getattr(sde, name).flags.writeable, name
