"""irsde-deploy train."""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..errors import InvalidValueError, requires_extra
from .command import Choice, command
from .common import KINDS, PATH, gathered, given_options, model_options, read_sources
from .output import inform, note, on_terminal, progress, tell

if TYPE_CHECKING:
    from ..networks.checkpoints import Checkpoint
    from ..training.plan import TrainingPlan
    from ..training.processes import Process
    from ..training.session import TrainingProgress

DEFAULT_RECIPE = "small"

PACE = 20.0
"""Seconds between two lines that say how far a run is, where there is no terminal for a progress bar."""

_DATA_OPTIONS = (
    click.option("--gt", type=PATH, help="Folder of clean pictures."),
    click.option("--lq", type=PATH, help="Folder of degraded pictures, under the same names as the clean ones."),
    click.option("--degradation", metavar="KIND", help=f"Make degraded pictures on the fly: {KINDS}"),
    click.option(
        "--validation-gt", type=PATH, help="Folder of clean pictures to validate on [default: some of --gt, held out]."
    ),
    click.option("--validation-lq", type=PATH, help="Folder of degraded pictures to validate on."),
    click.option(
        "--hold-out", multiple=True, metavar="NAME", help="Picture of --gt (without suffix) to validate on; repeatable."
    ),
    click.option(
        "--validation-noise",
        "noise_level",
        type=float,
        help="Noise level, 0..255, that a denoising model is validated at [default: 25].",
    ),
)
_DATA_SETTINGS = ("gt", "lq", "degradation", "validation_gt", "validation_lq", "hold_out", "noise_level")

_TRAINING_OPTIONS = (
    click.option("--objective", help="What the network is trained for: ml, ml-exact, noise or clean."),
    click.option("--loss", help="Norm of the error that is minimised: l1 or l2."),
    click.option("--iterations", type=int, help="Number of optimizer steps in all."),
    click.option("--batch", type=int, help="Samples an iteration, over all processes."),
    click.option("--patch", type=int, help="Side of the square samples, in pixels."),
    click.option("--learning-rate", type=float, help="Learning rate at its highest."),
    click.option("--precision", help="Arithmetic of the network: fp32, bf16 or fp16."),
    click.option("--seed", type=int, help="Seed of the initial weights and of the samples."),
)
_TRAINING_SETTINGS = ("objective", "loss", "iterations", "batch", "patch", "learning_rate", "precision", "seed")

_WITH_RESUME = {"output", "resume", "iterations", "stop_at", "device", "workers"}
"""What may be given for a run that is continued, which has the rest."""


@command(
    "irsde-deploy train --lq rainy/ --gt clean/ -o runs/derain --task derain",
    "irsde-deploy train --resume runs/derain",
)
@click.option("-o", "--output", type=PATH, help="Folder of the new run: checkpoints, log, curve, sample sheets.")
@click.option("--resume", type=PATH, help="Continue the run in this folder; its settings stay as they are.")
@gathered((option_group("Pictures", *_DATA_OPTIONS),), _DATA_SETTINGS, "data")
@click.option("--init", type=PATH, help="Checkpoint to take the first weights from; the reference's or ours.")
@model_options
@gathered((option_group("Training", *_TRAINING_OPTIONS),), _TRAINING_SETTINGS, "training")
@click.option("--set", "assigned", multiple=True, metavar="NAME=VALUE", help="Any other training setting; repeatable.")
@click.option("--stop-at", type=click.IntRange(1), help="Stop after this iteration, as an interrupt would.")
@click.option(
    "--device",
    type=Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the network is trained.",
)
@click.option("--workers", type=click.IntRange(0, 64), default=0, show_default=True, help="Data-loading processes.")
def train(
    output: Path | None,
    resume: Path | None,
    data: dict[str, Any],
    init: Path | None,
    model: dict[str, Any],
    training: dict[str, Any],
    assigned: tuple[str, ...],
    stop_at: int | None,
    device: str,
    workers: int,
) -> None:
    """Train a model on pairs of pictures, or on clean pictures with a degradation made on the fly.

    Starts a run in the folder -o, or continues one with --resume. Ctrl-C stops after the iteration at hand and saves;
    many GPUs or machines: torchrun -m irsde_deploy train ...
    """
    with requires_extra("train", "training"):
        from ..training.processes import process_group
        from ..training.run import Ending
        from ..training.run import train as train_run

    if resume is not None and output is None:
        start = _earlier_run(resume, training["iterations"])
    elif output is not None and resume is None:
        start = _new_run(output, init, model, data, _settings(training, assigned))
    else:
        raise InvalidValueError("give either -o FOLDER for a new run or --resume FOLDER for one to continue")
    with process_group(device) as process, _reporter(start.plan, process) as report:
        if process.first:
            tell(start.told)
        ending = train_run(
            start.plan, start.folder, process, start.initial, start.state, device, workers, stop_at, report
        )
    if process.first:
        tell(start.written())
        if ending is not Ending.COMPLETE:
            inform(start.continuing)
    if ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class _Start:
    """What a run begins with: its plan, its folder, and first weights or the training state to continue from."""

    plan: TrainingPlan
    folder: Path
    told: str
    initial: Checkpoint | None = None
    state: dict[str, Any] | None = None

    def written(self) -> str:
        """The checkpoints that are there by now, and what they are."""
        from ..training.run_folder import RunFolder

        folder = RunFolder(self.folder)
        last = f"wrote {folder.last}, the last iteration"
        best = folder.best_validation()
        if best is None or not folder.best.exists():
            first = self.plan.settings.validate_every
            return f"{last}; {folder.best} comes with the first validation, after {first} iterations or the last one"
        iteration, psnr = best
        return f"{last}, and {folder.best}, the best validation: iteration {iteration}, {psnr:.2f} dB"

    @property
    def continuing(self) -> str:
        """How the run is continued."""
        return f"'irsde-deploy train --resume {shlex.quote(str(self.folder))}' continues the run"


def _earlier_run(resume: Path, iterations: int | None) -> _Start:
    from ..training.plan import TrainingPlan
    from ..training.run_folder import read_run

    if surplus := given_options(lambda name: name not in _WITH_RESUME):
        raise InvalidValueError(
            f"a resumed run keeps its settings (only --iterations may change): leave out {', '.join(surplus)}, or "
            "start a new run with --init and -o"
        )
    saved, state = read_run(resume)
    folder = resume if resume.is_dir() else resume.parent
    plan = TrainingPlan.from_dict(saved, iterations)
    return _Start(plan, folder, f"resumed at iteration {state['iteration']}", state=state)


def _new_run(
    output: Path, init: Path | None, model: dict[str, Any], data: dict[str, Any], settings: dict[str, Any]
) -> _Start:
    from ..networks.checkpoints import read_checkpoint
    from ..training.data_plan import choose_data
    from ..training.plan import make_plan

    initial = None if init is None else read_checkpoint(init)
    sources = read_sources(model if initial else _with_recipe(model))
    pictures = choose_data(data, [source.data for source in sources])
    for source in sources:
        if source.note:
            note(source.note)
    plan = make_plan(sources, pictures, settings, initial)
    return _Start(plan, output, "\n".join(plan.origins), initial)


def _with_recipe(model: dict[str, Any]) -> dict[str, Any]:
    """The same, with the recipe to take where nothing names a network; says so."""
    if model["opt"] is not None or model["recipe"] is not None:
        return model
    tell(f"neither --recipe, --opt nor --init: taking the recipe {DEFAULT_RECIPE}")
    return {**model, "recipe": DEFAULT_RECIPE}


def _settings(training: Mapping[str, Any], assigned: Sequence[str]) -> dict[str, Any]:
    """Training settings: those of --set, and over them those that have an option of their own."""
    settings = dict(map(_assignment, assigned))
    for name, value in training.items():
        if value is not None:
            settings[name] = value
    return settings


def _assignment(text: str) -> tuple[str, Any]:
    """NAME=VALUE -> the name, and the value as a truth, as a list of the parts between commas, or as it is."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidValueError(f"--set takes NAME=VALUE, not {text!r}")
    if value.lower() in ("true", "false"):
        return name.strip(), value.lower() == "true"
    if "," in value:
        return name.strip(), [part for part in value.split(",") if part]
    return name.strip(), value


@contextmanager
def _reporter(plan: TrainingPlan, process: Process) -> Iterator[Callable[[TrainingProgress], None]]:
    """The function to call after every iteration: moves the bar and prints validations, in the first process."""
    if not process.first:
        yield lambda state: None
        return
    pace = _Pace()
    with progress(plan.settings.iterations, "training") as advance:

        def report(state: TrainingProgress) -> None:
            psnr = "" if state.psnr is None else f", {state.psnr:.2f} dB"
            advance(state.iteration, f"{state.iteration}/{state.iterations}, loss {state.loss:.4g}{psnr}")
            due = pace.due()
            if state.validated is not None:
                tell(_validation_line(state))
            elif due and not on_terminal():
                tell(pace.line(state))

        yield report


class _Pace:
    """When something is said of a run whose progress bar nobody sees, and what: how far it is, and the time left."""

    def __init__(self) -> None:
        self._started = self._said = time.monotonic()
        self._iterations = 0

    def due(self) -> bool:
        """Count an iteration; whether `PACE` seconds have gone by since the last line."""
        self._iterations += 1
        return time.monotonic() - self._said >= PACE

    def line(self, state: TrainingProgress) -> str:
        """The line."""
        self._said = time.monotonic()
        left = (self._said - self._started) / self._iterations * (state.iterations - state.iteration)
        return (
            f"iteration {state.iteration} of {state.iterations}: loss {state.loss:.4g}, "
            f"about {datetime.timedelta(seconds=round(left))} left"
        )


def _validation_line(state: TrainingProgress) -> str:
    assert state.validated is not None
    before = sum(result.before for result in state.validated) / len(state.validated)
    line = f"iteration {state.iteration}: loss {state.loss:.4g}, PSNR {before:.2f} -> {state.psnr:.2f} dB"
    return line if state.margins is None else f"{line}\n{state.margins}"
