"""One iteration of training: a batch of samples in, an optimizer step and a step of the averaged weights.

A run is fixed by its settings and seed. All randomness is addressed by the sample's number (see `training.data`), the
learning rate is a function of the iteration, and a checkpoint holds weights, averaged weights and the optimizer's
state; so a resumed run continues bit for bit on the CPU, and N processes do together what one does alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..core.sde import SDE
from ..errors import CheckpointError, reason, requires_extra
from .data import Batch
from .objectives import LOSSES, Objective, at, make_objective
from .settings import TrainingSettings

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """A network with its optimizer, its averaged weights and the number of iterations done.

    Args:
        model: the score network, with initial or pretrained weights.
        sde: the process that it learns to reverse.
        settings: the settings of the run.
        device: `cpu` or `cuda`.

    Attributes:
        model: the network that is trained.
        averaged: a copy whose weights are an exponential moving average of the model's; what is validated and kept.
        iteration: how many iterations are done.
    """

    def __init__(self, model: nn.Module, sde: SDE, settings: TrainingSettings, device: str = "cpu") -> None:
        self.sde, self.settings, self.device = sde, settings, torch.device(device)
        self.model = model.to(self.device).train()
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.iteration = 0
        self._objective = make_objective(settings.objective, sde)
        self._optimizer = _make_optimizer(self.model, settings)
        # fp16 has no numbers below 6e-8: gradients are scaled up on the way. bf16 has the range of float32.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self._loss_module: nn.Module = _Loss(self.model, sde, settings, self._objective)
        if dist.is_initialized():
            self._loss_module = DistributedDataParallel(self._loss_module)

    def step(self, batch: Batch) -> float:
        """Do one iteration on this process's part of a batch.

        Returns:
            The loss before the step, the mean over the whole batch, of all processes.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.iteration)
        self._optimizer.zero_grad(set_to_none=True)
        parts = [part.to(self.device, non_blocking=True) for part in batch]
        loss = self._loss_module(*parts)
        self._scaler.scale(loss).backward()
        if self.settings.clip_norm:
            self._scaler.unscale_(self._optimizer)  # the limit is that of the gradients' own norm
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._scaler.step(self._optimizer)  # skipped where a gradient is beyond fp16: update() then scales by less
        self._scaler.update()
        self._average()
        self.iteration += 1
        return self._mean_over_processes(loss.detach())

    @staticmethod
    def _mean_over_processes(loss: Tensor) -> float:
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss = loss / dist.get_world_size()
        return float(loss)

    def _average(self) -> None:
        # Begins at 0.1 and grows, so that the initial weights, which are random, are soon left out of the average.
        decay = min(self.settings.ema, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    def state(self) -> dict[str, Any]:
        """Return all that is needed to continue, as plain containers and tensors."""
        return {
            "iteration": self.iteration,
            "weights": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`.

        Raises:
            CheckpointError: the state belongs to another network or optimizer.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch warns of what it then refuses
                self.model.load_state_dict(state["weights"])
                self.averaged.load_state_dict(state["averaged"])
                self._optimizer.load_state_dict(state["optimizer"])
                self._scaler.load_state_dict(state["scaler"])
            self.iteration = int(state["iteration"])
            usable = self.iteration >= 0 and all_finite(state["averaged"])
        except Exception as error:  # an edited file can hold anything
            raise CheckpointError(
                f"the training state does not fit this network and optimizer ({reason(error)})"
            ) from None
        if not usable:
            raise CheckpointError("the training state is not finite, or of no iteration: start anew with `init`")


def all_finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether no weight of a state dict is infinite or NaN."""
    return all(bool(torch.isfinite(values).all()) for values in weights.values())


class _Loss(nn.Module):
    """The objective as one module, so that DistributedDataParallel sees every use of the weights."""

    def __init__(self, model: nn.Module, sde: SDE, settings: TrainingSettings, objective: Objective) -> None:
        super().__init__()
        self.model, self._sde, self._settings, self._objective = model, sde, settings, objective

    def forward(self, gt: Tensor, mu: Tensor, t: Tensor, z: Tensor, left: Tensor) -> Tensor:
        """Return the loss, a scalar, of one batch; its parts are those of `Batch`."""
        y0 = gt - mu
        left = left.reshape(-1, 1, 1, 1)
        # y = a_t y_0 + sigma_t z, the marginal of the forward process in closed form; y = lam z where left is 0.
        sigma = left * at(self._sde.sigma, t, gt) + (1 - left) * self._sde.start
        y = left * at(self._sde.a, t, gt) * y0 + sigma * z
        kind = _AUTOCAST.get(self._settings.precision)
        arithmetic = torch.autocast(gt.device.type, kind) if kind else nullcontext()
        with arithmetic:
            output = self.model(y + mu, mu, t.to(gt.dtype))
        prediction = self._objective.prediction(y, output.float(), t)
        target = self._objective.target(y, y0, t)
        loss = LOSSES[self._settings.loss]
        if self._settings.weighted:  # as `is_weighted` of the reference: late states, of little signal, count less
            decay = torch.exp(-at(self._sde.theta_bar, t, gt))
            return (decay * loss(prediction, target, reduction="none")).mean()
        return loss(prediction, target)


def _make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    arguments: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": (settings.beta1, settings.beta2),
        "weight_decay": settings.weight_decay,
    }
    if settings.optimizer == "lion":
        with requires_extra("train", "the optimizer lion"):
            from lion_pytorch import Lion
        lion: torch.optim.Optimizer = Lion(model.parameters(), **arguments)
        return lion
    if settings.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **arguments)
    return torch.optim.AdamW(model.parameters(), **arguments)
