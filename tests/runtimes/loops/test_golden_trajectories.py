"""Whole trajectories of the reference, noise injected, on PyTorch and on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import GoldenCase, golden_path, load_case, torch_engine

from irsde_deploy import StepTable, plan_steps
from irsde_deploy.core.noise import given_noise
from irsde_deploy.runtimes.loops.numpy_loop import padded_evaluation, states
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.runtimes.protocol import Engine

SAMPLERS = {"sde": "euler", "posterior": "posterior", "ode": "ode"}
"""The reference's name -> ours."""

TOLERANCE = 1e-5
"""Relative to the largest value of x: 100 float32 steps, each with a network that agrees to about 1e-6."""

FLOAT32_SCHEDULE = 2e-4
"""Of the last state of `posterior`. In its last steps the reference computes 1 - A^2, 1 - B^2 and 1 - C^2 in float32,
where they are a few 1e-4 and one unit in the last place of A is 1e-4 of them. With coefficients computed like that, the
golden state is met to TOLERANCE; see `test_posterior_with_the_references_float32_coefficients`."""


def check(engine: Engine, case: GoldenCase) -> None:
    e = case.expected
    mu = e["lq"]
    for theirs, ours in SAMPLERS.items():
        table = plan_steps(engine.card.sde, ours, 100)
        noise = given_noise(e["noise"], 100, mu.shape)
        path = [mu + y for y in states(padded_evaluation(engine, mu), mu, table, noise)]
        np.testing.assert_allclose(path[0], e["xT"], atol=1e-6)
        for t in (75, 50, 25, 0):
            golden = e[f"{theirs}_x{t}"]
            error = np.abs(path[100 - t] - golden).max() / np.abs(golden).max()
            allowed = FLOAT32_SCHEDULE if (ours, t) == ("posterior", 0) else TOLERANCE
            assert error < allowed, f"{ours} at t = {t}: {error:.1e}"


def test_pytorch_follows_the_reference(case: GoldenCase) -> None:
    check(torch_engine(case), case)


def float32_posterior(lam: float) -> StepTable:
    """The reference's posterior coefficients, in its own float32 arithmetic on its own float32 schedule."""
    key = "cosine_T100_eps0.005_sigma10"
    with np.load(golden_path("schedules.npz")) as arrays:
        theta, bar, dt, sigma, std, max_sigma = (
            arrays[f"{key}/{name}"]
            for name in ("thetas", "thetas_cumsum", "dt", "sigma_bars", "posterior_std", "max_sigma")
        )
    t = np.arange(100, 0, -1)
    dt32 = torch.tensor(dt, dtype=torch.float32)
    A, B, C = (torch.exp(-torch.from_numpy(v.copy()) * dt32) for v in (theta[t], bar[t], bar[t - 1]))
    cy, cq = ((x * (1 - y**2) / (1 - B**2)).double().numpy() for x, y in ((A, C), (C, A)))
    p = torch.exp(torch.from_numpy(bar[t].copy()) * dt32).double().numpy()
    r = -p * sigma[t] * lam / max_sigma
    s = std[t - 1] * lam / max_sigma
    return StepTable(t, cy + cq * p, cq * r, np.zeros(100), s, p, r, start=lam)


def test_posterior_with_the_references_float32_coefficients(case: GoldenCase) -> None:
    engine = torch_engine(case)
    e = case.expected
    evaluate = padded_evaluation(engine, e["lq"])
    *_, y = states(
        evaluate, e["lq"], float32_posterior(engine.card.sde.lam), given_noise(e["noise"], 100, e["lq"].shape)
    )
    golden = e["posterior_x0"]
    assert np.abs(e["lq"] + y - golden).max() < TOLERANCE * np.abs(golden).max()


def test_onnx_runtime_follows_the_reference(unet_onnx: Path) -> None:
    check(open_engine(unet_onnx), load_case("unet_nf8_depth4"))


def test_training_state_and_its_targets(case: GoldenCase) -> None:
    """The Euler mean with the network's noise, and its L1 distance from the optimal step."""
    e = case.expected
    engine = torch_engine(case)
    t = int(e["train_t"][0])
    mu, y = e["lq"], e["train_state"] - e["lq"]
    eps = padded_evaluation(engine, mu)(y, t)
    table = plan_steps(engine.card.sde, "euler", 100)
    k = 100 - t
    expectation = mu + np.float32(table.a[k]) * y + np.float32(table.c[k]) * eps
    np.testing.assert_allclose(expectation, e["train_expectation"], atol=2e-6)
    optimum = mu + engine.card.sde.optimal_reverse_step(y, e["gt"] - mu, t)
    assert np.abs(expectation - optimum).mean() == pytest.approx(float(e["train_l1"]), rel=1e-4)
