"""Whole trajectories of the reference, noise injected, on PyTorch and on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden import GoldenCase, load_case

from irsde_deploy import plan_steps
from irsde_deploy.export.checkpoints import read_checkpoint
from irsde_deploy.export.settings import describe, flags
from irsde_deploy.noise import given_noise
from irsde_deploy.runtimes import Engine, open_engine
from irsde_deploy.runtimes.numpy_loop import padded_evaluation, states

SAMPLERS = {"sde": "euler", "posterior": "posterior", "ode": "ode"}
"""The reference's name -> ours."""

TOLERANCE = 1e-5
"""Relative to the largest value of x: 100 float32 steps, each with a network that agrees to about 1e-6."""

LAST_POSTERIOR_STEP = 2e-4
"""At t = 1 the reference multiplies q by (1 - A^2) / (1 - B^2), which is 1, in float32; both sides are 3.5e-4 (cosine),
where one unit in the last place of A is 1.7e-4 of them."""


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
            allowed = LAST_POSTERIOR_STEP if (ours, t) == ("posterior", 0) else TOLERANCE
            assert error < allowed, f"{ours} at t = {t}: {error:.1e}"


def test_pytorch_follows_the_reference(case: GoldenCase) -> None:
    checkpoint = read_checkpoint(case.weights)
    card = describe(checkpoint, [flags(form=case.settings.get("form"), **case.sde)]).card
    check(open_engine(case.weights, card=card), case)


def test_onnx_runtime_follows_the_reference(unet_onnx: Path) -> None:
    check(open_engine(unet_onnx), load_case("unet_nf8_depth4"))


def test_training_state_and_its_targets(case: GoldenCase) -> None:
    """The Euler mean with the network's noise, and its L1 distance from the optimal step."""
    e = case.expected
    checkpoint = read_checkpoint(case.weights)
    card = describe(checkpoint, [flags(form=case.settings.get("form"), **case.sde)]).card
    t = int(e["train_t"][0])
    mu, y = e["lq"], e["train_state"] - e["lq"]
    eps = padded_evaluation(open_engine(case.weights, card=card), mu)(y, t)
    table = plan_steps(card.sde, "euler", 100)
    k = 100 - t
    expectation = mu + np.float32(table.a[k]) * y + np.float32(table.c[k]) * eps
    np.testing.assert_allclose(expectation, e["train_expectation"], atol=2e-6)
    optimum = mu + card.sde.optimal_reverse_step(y, e["gt"] - mu, t)
    assert np.abs(expectation - optimum).mean() == pytest.approx(float(e["train_l1"]), rel=1e-4)
