"""A training run from its plan to its checkpoints: builds what the plan names, trains, logs, validates and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidValueError, IrsdeError, MissingPackageError
from .checkpoints import Checkpoint
from .datasets import TrainingSamples
from .run_folder import RunFolder
from .training import Process, Trainer, batches, interrupts_noted, run_iterations
from .training_plan import TrainingPlan, initial_network
from .validation import Example, Validated, mean_psnr, read_examples, validate, write_sheet


class DivergedError(IrsdeError, ArithmeticError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, after one iteration.

    Attributes:
        iteration: done so far, of `iterations`.
        loss: mean since the last row of the log.
        psnr: of the latest validation, dB; None before the first.
        validated: the latest validation's results where it was just made.
    """

    iteration: int
    iterations: int
    loss: float
    psnr: float | None
    validated: list[Validated] | None = None


@dataclass
class _Tally:
    """What happened since the last row of the log; kept in checkpoints, so that a resumed log is the unbroken one's."""

    loss: float = 0.0
    count: int = 0
    seconds: float = 0.0
    psnr: float | None = None
    best: float = -math.inf
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def state(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "count": self.count,
            "seconds": self.elapsed,
            "psnr": self.psnr,
            "best": self.best,
        }


def train(
    plan: TrainingPlan,
    output: Path,
    process: Process,
    initial: Checkpoint | None = None,
    resumed: dict[str, Any] | None = None,
    device: str = "cpu",
    workers: int = 0,
    stop_at: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> bool:
    """Run a plan, writing into the folder `output` (see `run_folder`).

    Args:
        plan: the run.
        output: its folder.
        process: this process's place; the first one validates and writes.
        initial: checkpoint to take the first weights from.
        resumed: training state to continue from, out of `read_run`.
        device: `cpu` or `cuda`.
        workers: processes that prepare samples.
        stop_at: iteration to stop after, as an interrupt would.
        on_progress: called after every iteration.

    Returns:
        Whether the run is complete; False where it was interrupted or stopped.

    Raises:
        DivergedError: the loss or the weights are not finite; the last checkpoint stays.
        InvalidValueError: nothing is left to do.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPackageError("PyTorch sees no CUDA device: use --device cpu, or see 'irsde-deploy doctor'")
    session = _Session.open(plan, output, process, initial, resumed, device)
    settings = plan.settings
    training = session.training_pairs
    samples = TrainingSamples(training, settings.patch, plan.card.sde, settings.seed, settings.flip, settings.rotate)
    loader = batches(samples, settings, session.trainer.iteration, process, workers, stop_at)
    with interrupts_noted() as interrupted:

        def after(loss: float) -> None:
            on_progress(session.after_iteration(loss, lambda: not interrupted.is_set()))

        try:
            whole = run_iterations(session.trainer, loader, process, after, interrupted)
            if session.trainer.iteration > session.saved:
                session.save()
        finally:
            session.folder.close()
    return whole and session.trainer.iteration >= settings.iterations


@dataclass
class _Session:
    """A run in memory."""

    plan: TrainingPlan
    folder: RunFolder
    process: Process
    trainer: Trainer
    training_pairs: Any
    examples: list[Example]
    device: str
    tally: _Tally
    saved: int = -1

    @classmethod
    def open(
        cls,
        plan: TrainingPlan,
        output: Path,
        process: Process,
        initial: Checkpoint | None,
        resumed: dict[str, Any] | None,
        device: str,
    ) -> _Session:
        training_pairs, validation_pairs = plan.data.open()
        trainer = Trainer(initial_network(plan, initial), plan.card.sde, plan.settings, device)
        tally = _Tally()
        if resumed is not None:
            trainer.load_state(resumed)
            if trainer.iteration >= plan.settings.iterations:
                raise InvalidValueError(
                    f"{output}: all {trainer.iteration} iterations are done: give a larger --iterations to go on"
                )
            tally = _Tally(**resumed["tally"])
        examples: list[Example] = []
        folder = RunFolder(output)
        if process.first:
            examples = read_examples(validation_pairs, plan.card, plan.data.side, plan.data.noise_level)
            folder = RunFolder.create(output) if resumed is None else RunFolder.reopen(output, trainer.iteration)
        session = cls(plan, folder, process, trainer, training_pairs, examples, device, tally)
        if resumed is None:
            session.save()  # whatever happens from here on, there is a checkpoint
        else:
            session.saved = trainer.iteration
        return session

    def after_iteration(self, loss: float, keep_going: Callable[[], bool]) -> Progress:
        """Log, validate and save where it is time to."""
        settings, i = self.plan.settings, self.trainer.iteration
        if not math.isfinite(loss):
            raise self._diverged()
        self.tally.loss += loss
        self.tally.count += 1
        mean = self.tally.loss / self.tally.count
        last = i == settings.iterations
        validated = None
        if self.process.first and (i % settings.validate_every == 0 or last):
            validated = self._validate(keep_going)
        if i % settings.log_every == 0 or validated is not None:
            self._log(mean, validated)
        if i % settings.save_every == 0 or validated is not None or last:
            self.save()
        return Progress(i, settings.iterations, mean, self.tally.psnr, validated)

    def _diverged(self) -> DivergedError:
        return DivergedError(
            f"training has diverged at iteration {self.trainer.iteration}; {self.folder.last} holds iteration "
            f"{self.saved}: start anew with a smaller learning_rate, or with clip_norm"
        )

    def _validate(self, keep_going: Callable[[], bool]) -> list[Validated] | None:
        results = validate(
            self.trainer.averaged, self.plan.card, self.examples, self.plan.data.noise_level, self.device, keep_going
        )
        if results is None:
            return None
        write_sheet(self.folder.path / "samples" / f"{self.trainer.iteration:07d}.png", results)
        self.tally.psnr = mean_psnr(results)
        if self.tally.psnr > self.tally.best:
            self.tally.best = self.tally.psnr
            self._write(self.folder.best)
        return results

    def _log(self, loss: float, validated: list[Validated] | None) -> None:
        i = self.trainer.iteration
        rate = self.plan.settings.learning_rate_at(i - 1)
        values = {"iteration": i, "loss": loss, "learning_rate": rate, "seconds": self.tally.elapsed}
        if validated is not None and self.tally.psnr is not None:
            values["psnr"] = self.tally.psnr
        self.tally.loss, self.tally.count = 0.0, 0
        if self.process.first:
            self.folder.log(**values)
            if validated is not None:
                self.folder.write_curve()

    def save(self) -> None:
        """Write the last checkpoint."""
        if self.process.first:
            self._write(self.folder.last)
        self.saved = self.trainer.iteration

    def _write(self, path: Path) -> None:
        state = self.trainer.state()
        averaged = state.pop("averaged")
        if not all(bool(torch.isfinite(value).all()) for value in averaged.values()):
            raise self._diverged()
        training = {**state, "tally": self.tally.state(), "plan": self.plan.to_json()}
        self.folder.save(path, self.plan.card, averaged, training)
