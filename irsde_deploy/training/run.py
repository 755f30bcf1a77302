"""A training run from its plan to its checkpoints: builds what the plan names, trains, logs, validates and saves."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from threading import Event
from typing import Any

import torch

from ..errors import InvalidValueError, MissingPackageError
from ..networks.checkpoints import Checkpoint
from ..system.figures import require_plotting
from .iterations import interrupts_noted, run_iterations
from .plan import TrainingPlan
from .processes import Process
from .session import DivergedError, Session, TrainingProgress


class Ending(Enum):
    """How a run ended for now."""

    COMPLETE = auto()
    STOPPED = auto()
    INTERRUPTED = auto()


def train(
    plan: TrainingPlan,
    output: Path,
    process: Process,
    initial: Checkpoint | None = None,
    resumed: dict[str, Any] | None = None,
    device: str = "cpu",
    workers: int = 0,
    stop_at: int | None = None,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
) -> Ending:
    """Run a plan, writing into the folder `output` (see `run_folder`).

    Args:
        plan: what to train on what.
        output: the run's folder.
        process: this process's place; the first one validates and writes.
        initial: the checkpoint to take the first weights from.
        resumed: the training state to continue from, out of `read_run`.
        device: `cpu` or `cuda`.
        workers: how many processes prepare samples; 0 prepares them in this one.
        stop_at: the iteration to stop after, as an interrupt would.
        on_progress: called after every iteration.

    Returns:
        How the run ended for now.

    Raises:
        DivergedError: the loss or the weights are not finite; the last checkpoint stays.
        InputFileError: a picture cannot be read; what was trained until then is saved.
        InvalidValueError: nothing is left to do, or the pictures are not those the run started with.
        MissingPackageError: there is no CUDA device, or no matplotlib.
        OutputFileError: the folder holds another run, or cannot be written.
    """
    _require_means(device)
    session = Session.open(plan, output, process, initial, resumed, device)
    try:
        if stop_at is not None and stop_at <= session.trainer.iteration:
            done = session.trainer.iteration
            raise InvalidValueError(f"{output}: {done} iterations are done: give a larger `stop_at`")
        with interrupts_noted() as interrupted:
            _train(session, workers, stop_at, on_progress, interrupted)
    finally:
        session.folder.close()
    if session.done:  # even where an interrupt came in the last iteration
        return Ending.COMPLETE
    if interrupted.is_set():
        return Ending.INTERRUPTED
    return Ending.STOPPED


def _train(
    session: Session,
    workers: int,
    stop_at: int | None,
    on_progress: Callable[[TrainingProgress], None],
    interrupted: Event,
) -> None:
    """Do the iterations that are left, or those until an interrupt is noted, and save, even if something goes wrong."""

    def keep_going() -> bool:
        return not interrupted.is_set()

    def after(loss: float) -> None:
        on_progress(session.after_iteration(loss, keep_going))

    try:
        session.catch_up(keep_going)
        run_iterations(session.trainer, session.loader(workers, stop_at), session.process, after, interrupted)
    except DivergedError:
        raise  # what it has now is not to replace the last checkpoint
    except Exception:
        session.save()  # between two iterations the state is whole
        raise
    session.save()


def _require_means(device: str) -> None:
    """Raise MissingPackageError where the device or matplotlib is missing: now, and not at the first validation."""
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPackageError("PyTorch sees no CUDA device: use `device` cpu, or see 'irsde-deploy doctor'")
    require_plotting()
