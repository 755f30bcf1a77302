"""One iteration: the loss in each form, every optimizer with its settings, gradients, a state that comes back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from irsde_deploy import MeanRevertingSDE
from irsde_deploy.errors import CheckpointError
from irsde_deploy.networks import ConditionalNAFNet
from irsde_deploy.training.data import Batch
from irsde_deploy.training.settings import TrainingSettings
from irsde_deploy.training.trainer import Trainer

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)


def trainer_of(**settings: Any) -> Trainer:
    torch.manual_seed(0)
    return Trainer(ConditionalNAFNet(4, [1], 1, [1]), SDE, TrainingSettings(warmup=0, **settings))


def batch(seed: int = 0) -> Batch:
    gt, mu, z = torch.rand(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(gt, mu, torch.tensor([3, 17]), z, torch.ones(2))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_is_the_mean_over_all_values_or_weighted_by_time(loss: str, weighted: bool) -> None:
    trainer, given = trainer_of(objective="noise", loss=loss, weighted=weighted), batch()
    a, sigma = (torch.tensor(column)[given.t].float().reshape(-1, 1, 1, 1) for column in (SDE.a, SDE.sigma))
    y0 = given.gt - given.mu
    with torch.no_grad():
        output = trainer.model(given.mu + a * y0 + sigma * given.z, given.mu, given.t.float())
    error = (output - given.z).abs() if loss == "l1" else (output - given.z) ** 2
    weights = torch.exp(-torch.tensor(SDE.theta_bar)[given.t]) if weighted else torch.ones(2)
    expected = (weights.reshape(-1, 1, 1, 1) * error).mean()
    assert trainer.step(given) == pytest.approx(float(expected), rel=1e-4)


def lion(parameters: Any, **settings: Any) -> torch.optim.Optimizer:
    from lion_pytorch import Lion

    made: torch.optim.Optimizer = Lion(parameters, **settings)
    return made


@pytest.mark.parametrize(
    ("name", "optimizer"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("lion", lion)]
)
def test_weights_move_as_the_optimizer_of_that_name_moves_them(
    name: str, optimizer: Callable[..., torch.optim.Optimizer]
) -> None:
    if name == "lion":
        pytest.importorskip("lion_pytorch")
    kept = {"learning_rate": 1e-2, "min_learning_rate": 1e-2, "weight_decay": 0.3, "beta1": 0.5, "beta2": 0.7}
    trainer = trainer_of(optimizer=name, **kept)
    own = copy.deepcopy(trainer.model)
    moving = optimizer(own.parameters(), lr=1e-2, betas=(0.5, 0.7), weight_decay=0.3)
    for seed in range(3):
        trainer.step(batch(seed))
        for mine, theirs in zip(own.parameters(), trainer.model.parameters(), strict=True):
            mine.grad = None if theirs.grad is None else theirs.grad.clone()
        moving.step()
    for mine, theirs in zip(own.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def norm_of_gradients(trainer: Trainer) -> float:
    return float(torch.sqrt(sum(((p.grad**2).sum() for p in trainer.model.parameters()), torch.zeros(()))))  # type: ignore


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_no_longer_than_clip_norm(precision: str) -> None:
    free, limited = trainer_of(precision=precision), trainer_of(precision=precision, clip_norm=1e-3)
    for trainer in (free, limited):
        trainer.step(batch())
    assert norm_of_gradients(free) > 0.01
    assert norm_of_gradients(limited) == pytest.approx(1e-3, rel=1e-3)


def test_gradients_are_those_of_one_batch_alone() -> None:
    twice, once = trainer_of(learning_rate=0, min_learning_rate=0), trainer_of(learning_rate=0, min_learning_rate=0)
    twice.step(batch(1))
    twice.step(batch(2))
    once.step(batch(2))
    assert norm_of_gradients(twice) == pytest.approx(norm_of_gradients(once), rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_state_comes_back_whole(precision: str) -> None:
    """Weights, averages, the optimizer's moments, the scale of fp16 gradients and the count."""
    first, second = trainer_of(precision=precision), trainer_of(precision=precision)
    for seed in range(2):
        first.step(batch(seed))
    if precision == "fp16":
        first._scaler.update(1024.0)
    second.load_state(copy.deepcopy(first.state()))
    assert second.iteration == 2
    assert second.state()["scaler"] == first.state()["scaler"]
    assert first.step(batch(5)) == second.step(batch(5))
    for kind in ("weights", "averaged"):
        for name, value in first.state()[kind].items():
            assert torch.equal(value, second.state()[kind][name]), name


@pytest.mark.parametrize("name", ["weights", "averaged", "optimizer", "scaler", "iteration"])
def test_a_state_that_lacks_something_is_refused(name: str) -> None:
    state = trainer_of().state()
    del state[name]
    with pytest.raises(CheckpointError, match="the training state does not fit this network and optimizer"):
        trainer_of().load_state(state)


def test_averages_that_are_not_finite_are_refused() -> None:
    state = copy.deepcopy(trainer_of().state())
    state["averaged"]["ending.bias"][0] = float("nan")
    with pytest.raises(CheckpointError, match="the training state is not finite"):
        trainer_of().load_state(state)


def test_weights_move_at_the_rate_of_their_iteration() -> None:
    """Adam's first step is of the learning rate, in every weight that has a gradient."""
    torch.manual_seed(0)
    settings = TrainingSettings(optimizer="adam", learning_rate=1e-2, warmup=10)
    trainer = Trainer(ConditionalNAFNet(4, [1], 1, [1]), SDE, settings)
    before = copy.deepcopy(trainer.model)
    trainer.step(batch())
    pairs = zip(before.parameters(), trainer.model.parameters(), strict=True)
    moved = max(float((one - other).detach().abs().max()) for one, other in pairs)
    assert moved == pytest.approx(1e-3, rel=1e-2)
