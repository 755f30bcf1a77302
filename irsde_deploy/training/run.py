"""A training run from its plan to its checkpoints: builds what the plan names, trains, logs, validates and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..errors import CheckpointError, InvalidValueError, IrsdeError, MissingPackageError
from ..networks.checkpoints import Checkpoint, naming
from ..system.figures import require_plotting
from .data import Batch, Pairs, TrainingSamples
from .plan import TrainingPlan, initial_network
from .run_folder import RunFolder
from .trainer import Process, Trainer, batches, interrupts_noted, run_iterations
from .validation import Example, Validated, mean_psnr, read_examples, validate, write_sheet


class DivergedError(IrsdeError, ArithmeticError):
    """The loss or the weights are no longer finite."""


class Ending(Enum):
    """How a run ended for now."""

    COMPLETE = "complete"
    STOPPED = "stopped where `stop_at` said"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TrainingProgress:
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
    """What happened since the last row of the log; kept in checkpoints, so that a resumed log is the unbroken one's.

    `concluded` is the last iteration that was logged, validated and saved as its number asks; an interrupt in the
    middle of a validation leaves that to the resumed run.
    """

    loss: float = 0.0
    count: int = 0
    seconds: float = 0.0
    psnr: float | None = None
    best: float = -math.inf
    concluded: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def mean(self) -> float:
        return self.loss / max(1, self.count)

    @property
    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def state(self) -> dict[str, Any]:
        kept = {**asdict(self), "seconds": self.elapsed}
        del kept["started"]
        return kept


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
        plan: the run.
        output: its folder.
        process: this process's place; the first one validates and writes.
        initial: checkpoint to take the first weights from.
        resumed: training state to continue from, out of `read_run`.
        device: `cpu` or `cuda`.
        workers: processes that prepare samples.
        stop_at: iteration to stop after, as an interrupt would.
        on_progress: called after every iteration.

    Raises:
        DivergedError: the loss or the weights are not finite; the last checkpoint stays.
        InputFileError: a picture cannot be read; what was trained until then is saved.
        InvalidValueError: nothing is left to do, or the pictures are not those the run started with.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPackageError("PyTorch sees no CUDA device: use `device` cpu, or see 'irsde-deploy doctor'")
    require_plotting()  # for the training curve; said before anything long starts
    session = _Session.open(plan, output, process, initial, resumed, device)
    if stop_at is not None and stop_at <= session.trainer.iteration:
        raise InvalidValueError(f"{output}: {session.trainer.iteration} iterations are done: give a larger `stop_at`")
    with interrupts_noted() as interrupted:

        def keep_going() -> bool:
            return not interrupted.is_set()

        def after(loss: float) -> None:
            on_progress(session.after_iteration(loss, keep_going))

        try:
            session.catch_up(keep_going)
            loader = session.loader(workers, stop_at)
            run_iterations(session.trainer, loader, process, after, interrupted)
        except DivergedError:
            raise
        except Exception:
            session.save()  # between two iterations the state is whole
            raise
        finally:
            session.folder.close()
        session.save()
        if session.done:
            return Ending.COMPLETE
        return Ending.INTERRUPTED if interrupted.is_set() else Ending.STOPPED


@dataclass
class _Session:
    """A run in memory."""

    plan: TrainingPlan
    folder: RunFolder
    process: Process
    trainer: Trainer
    pairs: Pairs
    examples: list[Example]
    device: str
    tally: _Tally
    saved: tuple[int, int] = (-1, -1)

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
        plan.data.require_outside(output)
        pairs, validation_pairs = plan.data.open()
        plan = replace(plan, data=plan.data.fingerprinted(pairs, validation_pairs))
        trainer = Trainer(initial_network(plan, initial), plan.card.sde, plan.settings, device)
        folder = RunFolder(output)
        with naming(folder.last):
            tally = _Tally() if resumed is None else _restored(resumed, trainer)
        _require_work_left(output, plan.settings.iterations, trainer.iteration, tally.concluded)
        examples: list[Example] = []
        if process.first:
            examples = read_examples(validation_pairs, plan.card, plan.data)
            folder = RunFolder.create(output) if resumed is None else RunFolder.reopen(output, tally.concluded)
        session = cls(plan, folder, process, trainer, pairs, examples, device, tally)
        if resumed is None:
            session.save()  # whatever happens from here on, there is a checkpoint
        session.saved = session._position
        return session

    @property
    def _position(self) -> tuple[int, int]:
        """(iterations done, iterations concluded)."""
        return self.trainer.iteration, self.tally.concluded

    @property
    def done(self) -> bool:
        """Whether all iterations are done, and concluded."""
        return self.tally.concluded == self.trainer.iteration >= self.plan.settings.iterations

    def loader(self, workers: int, stop_at: int | None) -> DataLoader[Batch]:
        """The batches that are left."""
        s = self.plan.settings
        samples = TrainingSamples(self.pairs, s.patch, self.plan.card.sde, s.seed, s.flip, s.rotate, s.start_share)
        return batches(samples, s, self.trainer.iteration, self.process, workers, stop_at)

    def after_iteration(self, loss: float, keep_going: Callable[[], bool]) -> TrainingProgress:
        """Count the loss, then log, validate and save where it is time to."""
        if not math.isfinite(loss):
            raise self._diverged()
        self.tally.loss += loss
        self.tally.count += 1
        mean = self.tally.mean
        validated = self._conclude(keep_going)
        return TrainingProgress(self.trainer.iteration, self.plan.settings.iterations, mean, self.tally.psnr, validated)

    def catch_up(self, keep_going: Callable[[], bool]) -> None:
        """Make up for a validation that an interrupt cut short."""
        if self.tally.concluded < self.trainer.iteration:
            self._conclude(keep_going)

    def _conclude(self, keep_going: Callable[[], bool]) -> list[Validated] | None:
        settings, i = self.plan.settings, self.trainer.iteration
        last = i == settings.iterations
        due = i % settings.validate_every == 0 or last
        validated = self._validate(keep_going) if due and self.process.first else None
        if due and self.process.first and validated is None:
            return None  # interrupted: the resumed run does it
        self.tally.concluded = i
        if due or i % settings.log_every == 0:
            self._log(validated)
        if validated is not None and self.tally.psnr is not None and self.tally.psnr > self.tally.best:
            self.tally.best = self.tally.psnr
            self._write(self.folder.best)
        if due or i % settings.save_every == 0:
            self.save()
        return validated

    def _diverged(self) -> DivergedError:
        return DivergedError(
            f"training has diverged at iteration {self.trainer.iteration}; {self.folder.last} holds iteration "
            f"{self.saved[0]}: start anew with a smaller learning_rate, or with clip_norm"
        )

    def _validate(self, keep_going: Callable[[], bool]) -> list[Validated] | None:
        results = validate(
            self.trainer.averaged, self.plan.card, self.examples, self.plan.data.noise_level, self.device, keep_going
        )
        if results is not None:
            write_sheet(self.folder.path / "samples" / f"{self.trainer.iteration:07d}.png", results)
            self.tally.psnr = mean_psnr(results)
        return results

    def _log(self, validated: list[Validated] | None) -> None:
        i = self.trainer.iteration
        rate = self.plan.settings.learning_rate_at(i - 1)
        values = {"iteration": i, "loss": self.tally.mean, "learning_rate": rate, "seconds": self.tally.elapsed}
        if validated is not None and self.tally.psnr is not None:
            values["psnr"] = self.tally.psnr
        self.tally.loss, self.tally.count = 0.0, 0
        if self.process.first:
            self.folder.log(**values)
            if validated is not None:
                self.folder.write_curve()

    def save(self) -> None:
        """Write the last checkpoint, unless it holds this very state."""
        if self.saved == self._position:
            return
        if not all(bool(torch.isfinite(value).all()) for value in self.trainer.averaged.state_dict().values()):
            raise self._diverged()  # in every process, since all have the same weights
        if self.process.first:
            self._write(self.folder.last)
        self.saved = self._position

    def _write(self, path: Path) -> None:
        state = self.trainer.state()
        averaged = state.pop("averaged")
        training = {**state, "tally": self.tally.state(), "plan": self.plan.to_json()}
        self.folder.save(path, self.plan.card, averaged, training)


def _restored(state: dict[str, Any], trainer: Trainer) -> _Tally:
    """Load a training state; returns the tally in it."""
    trainer.load_state(state)
    try:
        saved = state["tally"]
        psnr = None if saved["psnr"] is None else float(saved["psnr"])
        loss, seconds, best = (float(saved[name]) for name in ("loss", "seconds", "best"))
        return _Tally(loss, int(saved["count"]), seconds, psnr, best, int(saved["concluded"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError("the training state lacks its tally: start anew with `init`") from None


def _require_work_left(output: Path, planned: int, done: int, concluded: int) -> None:
    if done > planned or done == planned == concluded:
        raise InvalidValueError(f"{output}: {done} iterations are done: give a larger `iterations` to go on")
