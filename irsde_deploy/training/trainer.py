"""The training loop: samples in, checkpoints out.

A run is fixed by its settings and seed. All randomness is addressed by the sample's number (see `training.data`), the
learning rate is a function of the iteration, and a checkpoint holds weights, averaged weights and the optimizer's
state; so a resumed run continues bit for bit on the CPU, and N processes do together what one does alone.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

from ..core.sde import SDE
from ..errors import CheckpointError, InputFileError, InvalidValueError, reason, requires_extra
from .data import Batch, TrainingSamples
from .objectives import LOSSES, Objective, at, make_objective
from .settings import TrainingSettings

LONGEST_VALIDATION = timedelta(hours=6)
"""How long processes wait for the first one, which validates."""

WORKER_GRACE = 60
"""Seconds that a data-loading process lives on after SIGTERM."""

_WORKER_PREFIX = f"{InputFileError.__module__}.{InputFileError.__name__}: "
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """A network with its optimizer, its averaged weights and the number of iterations done.

    Args:
        model: the score network, with initial or pretrained weights.
        sde: the process that it learns to reverse.
        settings: of the run.
        device: `cpu` or `cuda`.
    """

    def __init__(self, model: nn.Module, sde: SDE, settings: TrainingSettings, device: str = "cpu") -> None:
        self.sde, self.settings, self.device = sde, settings, torch.device(device)
        self.model = model.to(self.device).train()
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.iteration = 0
        self._objective = make_objective(settings.objective, sde)
        self._optimizer = _make_optimizer(self.model, settings)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self._loss_module: nn.Module = _Loss(self.model, sde, settings, self._objective)
        if dist.is_initialized():
            self._loss_module = DistributedDataParallel(self._loss_module)

    def step(self, batch: Batch) -> float:
        """One optimizer step on this process's part of a batch; returns the whole batch's loss before it."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.iteration)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_module(*(part.to(self.device, non_blocking=True) for part in batch))
        self._scaler.scale(loss).backward()
        if self.settings.clip_norm:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._scaler.step(self._optimizer)
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
        decay = min(self.settings.ema, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    def state(self) -> dict[str, Any]:
        """All that is needed to continue, as plain containers and tensors."""
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
            self.model.load_state_dict(state["weights"])
            self.averaged.load_state_dict(state["averaged"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.iteration = int(state["iteration"])
            whole = self.iteration >= 0 and all(bool(torch.isfinite(v).all()) for v in state["averaged"].values())
        except Exception as error:  # an edited file can hold anything
            raise CheckpointError(
                f"the training state does not fit this network and optimizer ({reason(error)})"
            ) from None
        if not whole:
            raise CheckpointError("the training state is not finite, or of no iteration: start anew with `init`")


class _Loss(nn.Module):
    """The objective as one module, so that DistributedDataParallel sees every use of the weights."""

    def __init__(self, model: nn.Module, sde: SDE, settings: TrainingSettings, objective: Objective) -> None:
        super().__init__()
        self.model, self._sde, self._settings, self._objective = model, sde, settings, objective

    def forward(self, gt: Tensor, mu: Tensor, t: Tensor, z: Tensor, left: Tensor) -> Tensor:
        y0, left = gt - mu, left.reshape(-1, 1, 1, 1)
        sigma = left * at(self._sde.sigma, t, gt) + (1 - left) * self._sde.start
        y = left * at(self._sde.a, t, gt) * y0 + sigma * z
        kind = _AUTOCAST.get(self._settings.precision)
        with torch.autocast(gt.device.type, kind) if kind else nullcontext():
            output = self.model(y + mu, mu, t.to(gt.dtype))
        prediction = self._objective.prediction(y, output.float(), t)
        target = self._objective.target(y, y0, t)
        loss = LOSSES[self._settings.loss]
        if self._settings.weighted:
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


# -- many processes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """One of the processes that train together: number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, logs and writes."""
        return self.rank == 0


@contextmanager
def process_group(device: str) -> Iterator[Process]:
    """Join the processes that torchrun started, if it did."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Process()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=LONGEST_VALIDATION)
    yield Process(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # after an error torchrun ends the others, which may be waiting for this one


def agree(flag: bool, process: Process, device: torch.device) -> bool:
    """Whether any of the processes says yes."""
    if process.count == 1:
        return flag
    answer = torch.tensor(float(flag), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


# -- the loop ----------------------------------------------------------------------------------------------


def batches(
    samples: TrainingSamples,
    settings: TrainingSettings,
    start: int,
    process: Process,
    workers: int = 0,
    stop_at: int | None = None,
) -> DataLoader[Batch]:
    """The part of this process in every batch, from iteration `start` on, up to `stop_at` at most.

    Raises:
        InvalidValueError: the batch cannot be shared equally.
    """
    if settings.batch % process.count:
        raise InvalidValueError(f"a batch of {settings.batch} cannot be shared equally by {process.count} processes")
    return DataLoader(
        samples,
        batch_sampler=_Numbers(
            settings, range(start, min(stop_at or settings.iterations, settings.iterations)), process
        ),
        num_workers=workers,
        worker_init_fn=_outlive_interrupts,
        pin_memory=torch.cuda.is_available(),
    )


class _Numbers(Sampler[list[int]]):
    """The numbers of the samples of each iteration."""

    def __init__(self, settings: TrainingSettings, iterations: range, process: Process) -> None:
        self._batch, self._iterations = settings.batch, iterations
        share = settings.batch // process.count
        self._mine = range(process.rank * share, (process.rank + 1) * share)

    def __iter__(self) -> Iterator[list[int]]:
        return ([i * self._batch + place for place in self._mine] for i in self._iterations)

    def __len__(self) -> int:
        return len(self._iterations)


def _outlive_interrupts(worker: int) -> None:
    """A worker process goes on until the main process has saved and ends it, but not for ever."""
    for name in _interrupts():
        signal.signal(name, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(WORKER_GRACE))
    torch.set_num_threads(1)


def run_iterations(
    trainer: Trainer,
    loader: DataLoader[Batch],
    process: Process,
    after: Callable[[float], None],
    interrupted: threading.Event,
) -> None:
    """Train until the loader ends or an interrupt was noted; `after(loss)` follows every iteration.

    Raises:
        InputFileError: a picture cannot be read.
    """
    for batch in _read(loader):
        after(trainer.step(batch))
        if agree(interrupted.is_set(), process, trainer.device):
            return


def _read(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The loader's batches; an error of a worker process in the words it was raised with."""
    iterator = iter(loader)
    try:
        yield from iterator
    except InputFileError as error:
        raise InputFileError(str(error).strip().splitlines()[-1].removeprefix(_WORKER_PREFIX)) from None
    finally:
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down is not None:  # at once: a traceback may keep the iterator, and with it its processes, alive
            shut_down()


@contextmanager
def interrupts_noted() -> Iterator[threading.Event]:
    """Note a first Ctrl-C, SIGTERM or SIGHUP instead of raising, so that the iteration at hand ends whole.

    A second one raises as before.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {name: signal.getsignal(name) for name in _interrupts()}

    def note(signum: int, frame: Any) -> None:
        noted.set()
        signal.signal(signum, before[signal.Signals(signum)])

    for name in before:
        signal.signal(name, note)
    try:
        yield noted
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _interrupts() -> list[signal.Signals]:
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
