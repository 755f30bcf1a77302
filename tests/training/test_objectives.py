"""Objectives: the reference's golden training values, and where each one's optimum lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import load_case, torch_engine

from irsde_deploy import DenoisingSDE, MeanRevertingSDE
from irsde_deploy.training.objectives import OBJECTIVES, make_objective

SDES = [
    MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005),
    DenoisingSDE(max_sigma=75, T=100, schedule="cosine"),
]


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
def test_maximum_likelihood_is_the_references(name: str) -> None:
    case = load_case(name)
    e, sde = case.expected, MeanRevertingSDE(**case.sde)
    t, mu = torch.from_numpy(e["train_t"].reshape(-1)), torch.from_numpy(e["lq"])
    y, y0 = torch.from_numpy(e["train_state"]) - mu, torch.from_numpy(e["gt"]) - mu
    output = torch.from_numpy(torch_engine(case)(*_padded(e["train_state"], e["lq"], name), t.float().numpy()))
    output = output[..., : y.shape[2], : y.shape[3]]
    objective = make_objective("ml", sde)
    prediction, target = objective.prediction(y, output, t) + mu, objective.target(y, y0, t) + mu
    np.testing.assert_allclose(prediction, e["train_expectation"], atol=2e-6)  # float32 in the reference
    np.testing.assert_allclose(target, e["train_optimum"], atol=2e-6)
    assert float((prediction - target).abs().mean()) == pytest.approx(float(e["train_l1"]), rel=1e-3)


def _padded(x: np.ndarray, mu: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    from irsde_deploy.runtimes.loops.padding import pad_to_multiple

    mode = "reflect" if "unet" in name else "zero"
    return pad_to_multiple(x, 16, mode), pad_to_multiple(mu, 16, mode)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.kind)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_optimum_is_the_noise_or_its_known_bias(name: str, sde: MeanRevertingSDE | DenoisingSDE) -> None:
    """Prediction and target agree exactly where the output is eps (ml: u eps + v y), at every timestep."""
    t = torch.arange(1, sde.T + 1)
    generator = torch.Generator().manual_seed(0)
    y0, eps = torch.randn(2, sde.T, 1, 1, 1, generator=generator, dtype=torch.float64)
    column = lambda values: torch.tensor(values)[t].reshape(-1, 1, 1, 1)  # noqa: E731
    y = column(sde.a) * y0 + column(sde.sigma) * eps
    output = eps
    if name == "ml":
        u, v = sde.likelihood_bias(t.numpy())
        output = torch.from_numpy(u).reshape(y.shape) * eps + torch.from_numpy(np.asarray(v)).reshape(y.shape) * y
    objective = make_objective(name, sde)
    prediction, target = objective.prediction(y, output, t), objective.target(y, y0, t)
    scale = float(target.abs().max())
    assert float((prediction - target).abs().max()) < 1e-9 * scale
    wrong = objective.prediction(y, output + 1, t) - target
    assert float(wrong.abs().min()) > 1e-6, "every timestep must tell a wrong output from a right one"


def test_exact_coefficients_are_the_exponential_and_hyperbolic_ones() -> None:
    sde = SDES[0]
    objective, d = make_objective("ml-exact", sde), sde.delta[1:]
    np.testing.assert_allclose(objective.py[1:], np.exp(d), rtol=1e-9)
    np.testing.assert_allclose(objective.pn[1:], -2 * np.sinh(d) * sde.lam**2 / sde.sigma[1:], rtol=1e-9)
