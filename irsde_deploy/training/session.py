"""A training run in memory: what the plan names, built, and what follows each iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from ..core.card import ModelCard
from ..errors import CheckpointError, InvalidValueError, IrsdeError
from ..networks.checkpoints import Checkpoint, naming
from .data import Batch, Pairs, TrainingSamples
from .iterations import batches
from .margins import Margins
from .plan import TrainingPlan, initial_network
from .processes import Process
from .run_folder import RunFolder
from .trainer import Trainer, all_finite
from .validation import Example, Validated, mean_psnr, read_examples, validate, validate_margins, write_sheet


class DivergedError(IrsdeError, ArithmeticError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is, after one iteration.

    Attributes:
        iteration: how many iterations are done.
        iterations: how many the run has in all.
        loss: the mean loss since the last row of the log.
        psnr: the mean PSNR of the latest validation in dB; None before the first.
        validated: the results of a validation where this iteration was followed by one.
        margins: what that validation measured at the border.
    """

    iteration: int
    iterations: int
    loss: float
    psnr: float | None
    validated: list[Validated] | None = None
    margins: Margins | None = None


@dataclass
class RunMemory:
    """What a run remembers between its iterations; kept in checkpoints, so that a resumed log is the unbroken one's.

    Attributes:
        loss: the sum of the losses since the last row of the log.
        count: how many losses that sum has.
        seconds: the time that training took before this process began.
        psnr: the mean PSNR of the latest validation in dB; None before the first.
        best: the highest PSNR of any validation in dB.
        margin: of the card, as the latest validation chose it.
        concluded: the last iteration that was validated, logged and saved as its number asks; an interrupt in the
            middle of a validation leaves that to the resumed run.
        started: when this process began, by the system's monotonic clock.
    """

    loss: float = 0.0
    count: int = 0
    seconds: float = 0.0
    psnr: float | None = None
    best: float = -math.inf
    margin: int = 0
    concluded: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def mean(self) -> float:
        """The mean loss since the last row of the log; 0 where there was none."""
        return self.loss / max(1, self.count)

    @property
    def elapsed(self) -> float:
        """The seconds that training has taken, in all processes that continued one another."""
        return self.seconds + time.monotonic() - self.started

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values by name."""
        kept = {**asdict(self), "seconds": self.elapsed}
        del kept["started"]  # a clock that means nothing to another process
        return kept


@dataclass
class Session:
    """A run in memory.

    Attributes:
        plan: what is trained on what, with the fingerprint of the pictures that were found.
        folder: where the run is written; the first process alone writes.
        process: this process's place.
        trainer: the network and its optimizer.
        pairs: the pictures to train on.
        examples: the held-out pairs; none in other processes than the first.
        device: `cpu` or `cuda`.
        memory: what is remembered between iterations.
        saved: what the last checkpoint holds, as (iterations done, iterations concluded).
    """

    plan: TrainingPlan
    folder: RunFolder
    process: Process
    trainer: Trainer
    pairs: Pairs
    examples: list[Example]
    device: str
    memory: RunMemory
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
    ) -> Session:
        """Build what the plan names; see `train` for the arguments."""
        plan.data.require_outside(output)
        pairs, validation_pairs = plan.data.open()
        plan = replace(plan, data=plan.data.fingerprinted(pairs, validation_pairs))
        trainer = Trainer(initial_network(plan, initial), plan.card.sde, plan.settings, device)
        folder = RunFolder(output)
        memory = RunMemory(margin=plan.card.margin)
        if resumed is not None:
            with naming(folder.last):
                memory = _restored(resumed, trainer)
        _require_work_left(output, plan.settings.iterations, trainer.iteration, memory.concluded)
        examples: list[Example] = []
        if process.first:
            examples = read_examples(validation_pairs, plan.card, plan.data)
            # Last, when nothing else can be refused any more: a refused run leaves no folder.
            folder = RunFolder.create(output) if resumed is None else RunFolder.reopen(output, memory.concluded)
        session = cls(plan, folder, process, trainer, pairs, examples, device, memory)
        if resumed is None:
            try:
                session.save()  # whatever happens from here on, there is a checkpoint
            except BaseException:
                folder.close()  # another run may try
                raise
        session.saved = session._position
        return session

    @property
    def _position(self) -> tuple[int, int]:
        """(iterations done, iterations concluded)."""
        return self.trainer.iteration, self.memory.concluded

    @property
    def done(self) -> bool:
        """Whether all iterations are done and concluded."""
        return self.memory.concluded == self.trainer.iteration >= self.plan.settings.iterations

    def loader(self, workers: int, stop_at: int | None) -> DataLoader[Batch]:
        """Load the batches that are left; `workers` and `stop_at` as for `train`."""
        s = self.plan.settings
        samples = TrainingSamples(self.pairs, s.patch, self.plan.card.sde, s.seed, s.flip, s.rotate, s.start_share)
        return batches(samples, s, self.trainer.iteration, self.process, workers, stop_at)

    def after_iteration(self, loss: float, keep_going: Callable[[], bool]) -> TrainingProgress:
        """Count the loss of an iteration, then validate, log and save where it is time to."""
        if not math.isfinite(loss):
            raise self._diverged()
        self.memory.loss += loss
        self.memory.count += 1
        mean = self.memory.mean  # a row of the log sets it back
        validated, margins = self._conclude(keep_going) or (None, None)
        return TrainingProgress(
            self.trainer.iteration, self.plan.settings.iterations, mean, self.memory.psnr, validated, margins
        )

    def catch_up(self, keep_going: Callable[[], bool]) -> None:
        """Make up for a validation that an interrupt cut short."""
        if self.memory.concluded < self.trainer.iteration:
            self._conclude(keep_going)

    def _conclude(self, keep_going: Callable[[], bool]) -> tuple[list[Validated], Margins] | None:
        """Validate, log and save where the number of the iteration asks for it; returns what was validated, if so.

        In this order: the log's row has the PSNR, and the checkpoint knows what is in the log.
        """
        settings = self.plan.settings
        validated = None
        if self.process.first and self._due(settings.validate_every):
            validated = self._validate(keep_going)
            if validated is None:
                return None  # interrupted: it counts as not concluded, and the resumed run does all of it
        self.memory.concluded = self.trainer.iteration
        validation = self._due(settings.validate_every)  # in every process, unlike what comes of it
        if validation or self._due(settings.log_every):
            self._log(None if validated is None else validated[1])
        if validated is not None:
            self._keep_best()
        if validation or self._due(settings.save_every):
            self.save()
        return validated

    def _due(self, every: int) -> bool:
        """Whether what is done every so many iterations is done now; after the last one everything is."""
        iteration = self.trainer.iteration
        return iteration % every == 0 or iteration == self.plan.settings.iterations

    def _keep_best(self) -> None:
        """Save the weights as the best ones where no validation has found better ones."""
        if self.memory.psnr is not None and self.memory.psnr > self.memory.best:
            self.memory.best = self.memory.psnr
            self._write(self.folder.best)

    def _diverged(self) -> DivergedError:
        return DivergedError(
            f"training has diverged at iteration {self.trainer.iteration}; {self.folder.last} holds iteration "
            f"{self.saved[0]}: start anew with a smaller `learning_rate`, or with the training setting clip_norm"
        )

    def _validate(self, keep_going: Callable[[], bool]) -> tuple[list[Validated], Margins] | None:
        """Validate the averaged weights and write the sample sheet; None where `keep_going` said no on the way."""
        level, averaged = self.plan.data.noise_level, self.trainer.averaged

        def restored_with(card: ModelCard) -> list[Validated] | None:
            return validate(averaged, card, self.examples, level, self.device, keep_going)

        found = validate_margins(restored_with, self.plan.card, self.plan.settings.margin)
        if found is not None:
            results, margins = found
            write_sheet(self.folder.path / "samples" / f"{self.trainer.iteration:07d}.png", results, str(margins))
            self.memory.psnr, self.memory.margin = mean_psnr(results), margins.chosen.margin
        return found

    def _log(self, margins: Margins | None) -> None:
        """Write a row of the log, and after a validation the curve; then begin the next mean of the losses."""
        i = self.trainer.iteration
        rate = self.plan.settings.learning_rate_at(i - 1)  # of the iteration just done, which is counted from 0
        values = {"iteration": i, "loss": self.memory.mean, "learning_rate": rate, "seconds": self.memory.elapsed}
        if margins is not None and self.memory.psnr is not None:
            values |= {"psnr": self.memory.psnr, **margins.columns}
        self.memory.loss, self.memory.count = 0.0, 0
        if self.process.first:
            self.folder.log(**values)
            if margins is not None:
                self.folder.write_curve()

    def save(self) -> None:
        """Write the last checkpoint, unless it holds this very state."""
        if self.saved == self._position:
            return
        if not all_finite(self.trainer.averaged.state_dict()):
            raise self._diverged()  # in every process, since all have the same weights
        if self.process.first:
            self._write(self.folder.last)
        self.saved = self._position

    def _write(self, path: Path) -> None:
        """Write a checkpoint of this state: averaged weights for whoever uses it, the rest for resuming."""
        state = self.trainer.state()
        averaged = state.pop("averaged")
        training = {**state, "tally": self.memory.state(), "plan": self.plan.to_json()}
        self.folder.save(path, replace(self.plan.card, margin=self.memory.margin), averaged, training)


def _restored(state: dict[str, Any], trainer: Trainer) -> RunMemory:
    """Load a training state into a trainer; returns the memory that was saved with it.

    Raises:
        CheckpointError: the state does not fit the trainer, or has no tally.
    """
    trainer.load_state(state)
    try:
        saved = state["tally"]
        return RunMemory(
            loss=float(saved["loss"]),
            count=int(saved["count"]),
            seconds=float(saved["seconds"]),
            psnr=None if saved["psnr"] is None else float(saved["psnr"]),
            best=float(saved["best"]),
            margin=int(saved.get("margin", 0)),  # runs of earlier versions have none
            concluded=int(saved["concluded"]),
        )
    except (KeyError, TypeError, ValueError):
        raise CheckpointError("the training state lacks its tally: start anew with `init`") from None


def _require_work_left(output: Path, planned: int, done: int, concluded: int) -> None:
    """Raise InvalidValueError where a run is complete, or longer than it is now planned to be."""
    if done > planned or done == planned == concluded:
        raise InvalidValueError(f"{output}: {done} iterations are done: give a larger `iterations` to go on")
