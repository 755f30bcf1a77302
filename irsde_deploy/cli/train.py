"""irsde-deploy train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, requires_extra
from .common import KINDS, PATH, model_options, progress, read_sources

if TYPE_CHECKING:
    from ..networks.checkpoints import Checkpoint
    from ..training.plan import DataPlan, TrainingPlan
    from ..training.run import TrainingProgress
    from ..training.trainer import Process

DEFAULT_RECIPE = "small"


@click.command()
@click.option("-o", "--output", type=PATH, help="Folder of the new run: checkpoints, log, curve, sample sheets.")
@click.option("--resume", type=PATH, help="Continue the run in this folder; its settings stay as they are.")
@click.option("--gt", type=PATH, help="Folder of clean pictures.")
@click.option("--lq", type=PATH, help="Folder of degraded pictures, under the same names as the clean ones.")
@click.option("--degradation", metavar="KIND", help=f"Make degraded pictures on the fly: {KINDS}")
@click.option("--validation-gt", type=PATH, help="Clean pictures to validate on [default: some of --gt, held out].")
@click.option("--validation-lq", type=PATH, help="Degraded pictures to validate on.")
@click.option("--hold-out", multiple=True, metavar="NAME", help="Picture (without suffix) to validate on.")
@click.option("--validation-noise", type=float, help="Noise level to validate a denoising model at [default: 25].")
@click.option("--init", type=PATH, help="Checkpoint to take the first weights from; the reference's or ours.")
@model_options
@click.option("--objective", help="ml, ml-exact, noise or clean.")
@click.option("--loss", help="l1 or l2.")
@click.option("--iterations", type=int, help="Optimizer steps in all.")
@click.option("--batch", type=int, help="Samples an iteration, over all processes.")
@click.option("--patch", type=int, help="Side of a sample, pixels.")
@click.option("--learning-rate", type=float, help="At its highest.")
@click.option("--precision", help="fp32, bf16 or fp16 arithmetic.")
@click.option("--seed", type=int, help="Of initial weights and samples.")
@click.option("--set", "assigned", multiple=True, metavar="NAME=VALUE", help="Any other training setting.")
@click.option("--stop-at", type=click.IntRange(1), help="Stop after this iteration, as an interrupt would.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--workers", type=click.IntRange(0, 64), default=0, show_default=True, help="Data-loading processes.")
def train(
    output: Path | None,
    resume: Path | None,
    init: Path | None,
    stop_at: int | None,
    device: str,
    workers: int,
    **given: Any,
) -> None:
    """Train a model on pairs of pictures, or on clean pictures with a degradation made on the fly.

    Starts a run in the folder -o, or continues one with --resume. Ctrl-C stops after the iteration at hand and saves;
    many GPUs or machines: torchrun -m irsde_deploy train ...
    """
    with requires_extra("train", "training"):
        from ..networks.checkpoints import read_checkpoint
        from ..training.plan import TrainingPlan
        from ..training.run import Ending
        from ..training.run import train as train_run
        from ..training.run_folder import read_run
        from ..training.trainer import process_group

    if (output is None) == (resume is None):
        raise InvalidValueError("give either -o FOLDER for a new run or --resume FOLDER for one to continue")
    initial, resumed = None, None
    if resume is not None:
        _require_nothing_else(given, init)
        saved, resumed = read_run(resume)
        plan = TrainingPlan.from_dict(saved, given["iterations"])
        folder = resume if resume.is_dir() else resume.parent
    else:
        assert output is not None
        initial, folder = None if init is None else read_checkpoint(init), output
        plan = _new_plan(given, initial)
    with process_group(device) as process, _reporter(plan, process) as report:
        if process.first:
            click.echo("\n".join(plan.origins) or f"resumed at iteration {resumed['iteration'] if resumed else 0}")
        ending = train_run(plan, folder, process, initial, resumed, device, workers, stop_at, report)
    if process.first:
        written = [str(folder / name) for name in ("last.pt", "best.pt") if (folder / name).exists()]
        click.echo(f"wrote {' and '.join(written)}")
    if ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt


def _require_nothing_else(given: Mapping[str, Any], init: Path | None) -> None:
    surplus = [name for name, value in given.items() if value not in (None, ()) and name != "iterations"]
    if surplus or init is not None:
        surplus = ["set" if name == "assigned" else name for name in [*surplus, *(["init"] if init else [])]]
        names = ", ".join("--" + name.replace("_", "-") for name in surplus)
        raise InvalidValueError(
            f"a resumed run keeps its settings (only --iterations may change): leave out {names}, or start a new run "
            "with --init and -o"
        )


def _new_plan(given: dict[str, Any], initial: Checkpoint | None) -> TrainingPlan:
    from ..training.plan import make_plan

    model = {name: given.pop(name) for name in _MODEL_OPTIONS}
    if initial is None and model["opt"] is None and model["recipe"] is None:
        model["recipe"] = DEFAULT_RECIPE
        click.echo(f"neither --recipe, --opt nor --init: taking the recipe {DEFAULT_RECIPE}")
    sources = read_sources(model)
    data = _data_plan(given, [source.data for source in sources])
    for source in sources:
        if source.note:
            click.echo(f"note: {source.note}")
    assigned = dict(_assignment(text) for text in given.pop("assigned"))
    direct = {name: value for name, value in given.items() if value is not None}
    return make_plan(sources, data, {**assigned, **direct}, initial)


_MODEL_OPTIONS = ("opt", "recipe", "max_sigma", "timesteps", "schedule", "eps", "form", "task")
_FOLDERS = ("gt", "lq", "validation_gt", "validation_lq")
_DATA_OPTIONS = (*_FOLDERS, "degradation", "hold_out", "validation_noise")


def _data_plan(given: dict[str, Any], offered: list[Mapping[str, Any]]) -> DataPlan:
    """Folders from flags, else from an options file; a degradation from the flag, else from the recipe."""
    from ..training.plan import DataPlan

    flags = {name: given.pop(name) for name in _DATA_OPTIONS}
    chosen: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in flags.items()
        if value not in (None, ())
    }
    if isinstance(chosen.get("degradation"), str):
        chosen["degradation"] = {"kind": chosen["degradation"]}
    for source in offered:
        for name, value in source.items():
            if name == "degradation" and value.get("kind") == chosen.get("degradation", {}).get("kind"):
                chosen[name] = value  # the flag names the kind, the recipe its parameters
            other_folders = flags["gt"] is not None and name in _FOLDERS
            if name not in chosen and not other_folders:
                chosen[name] = value
    if "validation_noise" in chosen:
        chosen["noise_level"] = chosen.pop("validation_noise")
    if "lq" in chosen:
        if flags["degradation"]:
            raise InvalidValueError("give degraded pictures (--lq) or a --degradation to make them, not both")
        chosen.pop("degradation", None)
    if "gt" not in chosen:
        raise InvalidValueError("which pictures shall be trained on? give a folder of clean ones: --gt FOLDER")
    folders = {name: str(Path(chosen[name]).absolute()) for name in _FOLDERS if name in chosen}
    return DataPlan(**{**chosen, **folders})


def _assignment(text: str) -> tuple[str, Any]:
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
    with progress(plan.settings.iterations, "training") as advance:

        def report(state: TrainingProgress) -> None:
            psnr = "" if state.psnr is None else f", {state.psnr:.2f} dB"
            advance(state.iteration, f"{state.iteration}/{state.iterations}, loss {state.loss:.4g}{psnr}")
            if state.validated is not None:
                click.echo(_validation_line(state))

        yield report


def _validation_line(state: TrainingProgress) -> str:
    assert state.validated is not None
    before = sum(result.before for result in state.validated) / len(state.validated)
    return f"iteration {state.iteration}: loss {state.loss:.4g}, PSNR {before:.2f} -> {state.psnr:.2f} dB"
