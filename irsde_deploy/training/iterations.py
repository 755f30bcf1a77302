"""The iterations of a run: batches of samples in, an optimizer step for each, a whole end at an interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from ..errors import InputFileError, InvalidValueError
from .data import Batch, TrainingSamples
from .processes import Process, agree
from .settings import TrainingSettings
from .trainer import Trainer

WORKER_GRACE = 60
"""Seconds that a data-loading process lives on after SIGTERM."""

_WORKER_PREFIX = f"{InputFileError.__module__}.{InputFileError.__name__}: "


def batches(
    samples: TrainingSamples,
    settings: TrainingSettings,
    start: int,
    process: Process,
    workers: int = 0,
    stop_at: int | None = None,
) -> DataLoader[Batch]:
    """Load this process's part of every batch that is left.

    Args:
        samples: samples by number.
        settings: the settings of the run.
        start: how many iterations are done.
        process: this process's place.
        workers: data-loading processes; 0 loads in this one.
        stop_at: the iteration to end after, where that is before the run's last.

    Raises:
        InvalidValueError: the batch cannot be shared equally.
    """
    if settings.batch % process.count:
        raise InvalidValueError(f"a batch of {settings.batch} cannot be shared equally by {process.count} processes")
    end = settings.iterations
    if stop_at is not None:
        end = min(stop_at, end)
    return DataLoader(
        samples,
        batch_sampler=_SampleNumbers(settings, range(start, end), process),
        num_workers=workers,
        worker_init_fn=_outlive_interrupts,
        pin_memory=torch.cuda.is_available(),
    )


class _SampleNumbers(Sampler[list[int]]):
    """For each iteration, the numbers of this process's samples.

    Iteration i takes the numbers from i * batch on, in any number of processes: so they see together what one sees.
    """

    def __init__(self, settings: TrainingSettings, iterations: range, process: Process) -> None:
        self._batch, self._iterations = settings.batch, iterations
        share = settings.batch // process.count
        self._mine = range(process.rank * share, (process.rank + 1) * share)

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in self._iterations:
            first = iteration * self._batch
            yield [first + place for place in self._mine]

    def __len__(self) -> int:
        return len(self._iterations)


def _outlive_interrupts(worker: int) -> None:
    """Let a data-loading process live on until the main process has saved and ends it, but not for ever."""
    for name in _interrupts():
        signal.signal(name, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the main one alone decides
    if hasattr(signal, "alarm"):  # not on Windows
        # SIGALRM, which nobody handles, ends the process: should the main one be gone, none is left behind.
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(WORKER_GRACE))
    torch.set_num_threads(1)


def run_iterations(
    trainer: Trainer,
    loader: DataLoader[Batch],
    process: Process,
    after: Callable[[float], None],
    interrupted: threading.Event,
) -> None:
    """Train until the loader ends or an interrupt was noted in any of the processes.

    Args:
        trainer: does the iterations.
        loader: this process's part of each batch.
        process: this process's place.
        after: called after every iteration, with the loss of the whole batch.
        interrupted: set when the iteration at hand is to be the last.

    Raises:
        InputFileError: a picture cannot be read.
    """
    for batch in _read(loader):
        after(trainer.step(batch))
        # All end in the same iteration: one that went on would wait for the gradients of one that did not.
        if agree(interrupted.is_set(), process, trainer.device):
            return


def _read(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Yield the loader's batches; an error of a data-loading process is raised again in its own words."""
    iterator = iter(loader)
    try:
        yield from iterator
    except InputFileError as error:
        # PyTorch makes the process's traceback the message, which ends in "module.InputFileError: what it said".
        raise InputFileError(str(error).rpartition(_WORKER_PREFIX)[2].strip()) from None
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
    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
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
    """The signals that ask a program to end, of those that this system has: Windows has no SIGHUP."""
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
