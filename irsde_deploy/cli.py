"""The commands: options and printing only; the work is in the modules that each command calls.

Results go to stdout, notes and errors to stderr. `__main__.py` turns errors into sentences and exit codes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__
from .errors import InvalidValueError, OutputFileError, requires_extra
from .noise import MAX_SEED
from .runtimes.protocol import DEVICES
from .samplers import SAMPLERS
from .sde import SCHEDULES

if TYPE_CHECKING:
    from .batch import Job, Outcome
    from .export.checkpoints import Checkpoint
    from .export.parity import Comparison
    from .export.settings import Description
    from .restorer import Restorer

EXIT_SOME_FAILED = 4
DIVERGENCE = "PyTorch's own trajectory diverges on these weights, so it was compared only until then: are they trained?"

Command = TypeVar("Command", bound=Callable[..., Any])


class _PathType(click.Path):
    """A path; an empty one (an unset shell variable) would mean the current folder, and is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)
SEED = click.IntRange(0, MAX_SEED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="irsde-deploy")
def cli() -> None:
    """Deploy image restoration with mean-reverting SDEs: export, run and verify, without PyTorch at run time."""


# -- export ------------------------------------------------------------------------------------------------


def _model_options(command: Command) -> Command:
    """Where a checkpoint's settings come from; precedence: flags, --opt, --recipe, the checkpoint itself."""
    options = [
        click.option("--opt", type=PATH, help="The reference's YAML options file of this checkpoint."),
        click.option("--recipe", help="A recipe by name (derain, deblur-refusion, ...) or a .toml file."),
        click.option("--max-sigma", type=float, help="Of the SDE, on the 0..255 scale where it is 1 or more."),
        click.option("--timesteps", "-T", type=int, help="Number of timesteps T that the network was trained with."),
        click.option("--schedule", type=click.Choice(list(SCHEDULES)), help="Of theta."),
        click.option("--eps", type=float, help="exp(-theta_bar_T) of the SDE."),
        click.option("--form", type=click.Choice(["pixel", "latent"]), help="Of the network: pictures or latents."),
        click.option("--task", help="What the network removes; for the model card."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the checkpoint's name with .onnx].")
@_model_options
@click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 17..20.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def export(checkpoint: Path, output: Path | None, opset: int, overwrite: bool, **settings: Any) -> None:
    """Export CHECKPOINT (.pt, .pth, .safetensors) to ONNX and prove it equal to PyTorch.

    Exit code 3, and no file, where ONNX Runtime and PyTorch disagree.
    """
    output = output or checkpoint.with_suffix(".onnx")
    if output.suffix.lower() != ".onnx":
        raise InvalidValueError(f"{output}: the output must end in .onnx")
    if output.exists() and not overwrite:
        raise OutputFileError(f"{output}: exists already: pass --overwrite to replace it")
    with requires_extra("export", "exporting a checkpoint"):
        from .export.exporter import export_checkpoint
        from .export.report import format_comparison, format_heading
    loaded, description = _describe(checkpoint, settings)
    click.echo(f"opset = {opset}")
    comparisons: list[Comparison] = []
    try:
        with _progress(description.card.sde.T, "comparing with PyTorch") as advance:
            complete = export_checkpoint(loaded, description.card, output, opset, comparisons.append, advance)
    finally:
        if comparisons:
            click.echo("\n".join([format_heading(), *map(format_comparison, comparisons)]))
    if not complete:
        _say(f"note: {DIVERGENCE}")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _describe(path: Path, settings: dict[str, Any]) -> tuple[Checkpoint, Description]:
    """Read a checkpoint, settle its settings, and print what was taken from where."""
    from .export.checkpoints import read_checkpoint
    from .export.settings import describe, flags, read_options_file, read_recipe

    opt, recipe = settings.pop("opt"), settings.pop("recipe")
    sources = [flags(T=settings.pop("timesteps"), **settings)]
    if opt is not None:
        sources.append(read_options_file(opt))
    if recipe is not None:
        sources.append(read_recipe(recipe))
    loaded = read_checkpoint(path)
    description = describe(loaded, sources)
    for line in (*loaded.notes, *description.origins, *(f"note: {s.note}" for s in sources if s.note)):
        click.echo(line)
    return loaded, description


# -- run ---------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--engine", type=PATH, required=True, help="Model to run: .onnx, or a PyTorch checkpoint.")
@click.option("-o", "--output", type=PATH, required=True, help="Picture file for one input, else a folder.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), help="[default: the model card's]")
@click.option("--steps", type=int, help="Network evaluations a picture [default: the model card's].")
@click.option("--t0", type=int, help="First timestep [default: T].")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise; the same for every picture.")
@click.option(
    "--debias", is_flag=True, help="Take the bias of maximum-likelihood training out of the network's output."
)
@click.option("--clip", is_flag=True, help="Keep the predicted picture within [0, 1] at each step.")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)
@click.option(
    "--batch",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Pictures of one size at a time.",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["png", "jpg", "webp", "tiff"]),
    help="Of the outputs [default: the inputs'].",
)
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace existing outputs.")
@click.option("--skip-existing", "existing", flag_value="skip", help="Leave existing outputs alone.")
def run(
    inputs: tuple[str, ...],
    engine: Path,
    output: Path,
    sampler: str | None,
    steps: int | None,
    t0: int | None,
    seed: int,
    debias: bool,
    clip: bool,
    device: str,
    batch: int,
    suffix: str | None,
    existing: str | None,
) -> None:
    """Restore pictures: INPUTS are files, folders (with everything below) and glob patterns.

    PNG, JPEG, WebP and TIFF, 8 and 16 bit, any size. A broken picture is reported and the rest goes on (exit code 4).
    """
    from .batch import plan_jobs, restore_files
    from .restorer import load

    planned = plan_jobs(inputs, output, f".{suffix}" if suffix else None)
    jobs = _still_to_do(planned, existing)
    restorer = _require_rgb(load(engine, device), engine)
    table = restorer.plan(sampler, steps, debias, t0)
    name = sampler or restorer.card.sampler
    click.echo(f"{restorer.engine.name}: {name}, {len(table)} steps, seed {seed}")

    tally = _Tally(pictures=len(jobs), steps=len(table))
    with _progress(len(jobs) * len(table), "") as advance:

        def restore(pictures: Any) -> Any:
            def on_step(k: int) -> None:
                advance(tally.evaluations + k * len(pictures), tally.rate)

            return restorer(pictures, name, len(table), seed, debias=debias, t0=t0, clip=clip, on_step=on_step)

        for outcome in restore_files(restore, jobs, batch):
            tally.add(outcome)
            advance(tally.evaluations, tally.rate)
    click.echo(f"{tally.summary}, {len(planned) - len(jobs)} skipped" if len(jobs) < len(planned) else tally.summary)
    if tally.failed:
        sys.exit(EXIT_SOME_FAILED)


def _still_to_do(planned: list[Job], existing: str | None) -> list[Job]:
    """The jobs whose outputs are not there yet, or all; without a word from the user, existing outputs are an error."""
    if existing == "overwrite":
        return planned
    missing = [job for job in planned if not os.path.lexists(job.target)]
    if len(missing) < len(planned) and existing is None:
        first = next(job.target for job in planned if os.path.lexists(job.target))
        raise OutputFileError(f"{first}: exists already: pass --overwrite to replace or --skip-existing to keep it")
    return missing


@dataclass
class _Tally:
    """How far a run is; says what went wrong as it is counted."""

    pictures: int
    steps: int
    written: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.failed += 1
            _say(outcome.error)
            return
        self.written += 1
        if outcome.lost:
            _say(f"note: {outcome.job.target}: its format cannot hold {' and '.join(outcome.lost)}")

    @property
    def evaluations(self) -> int:
        return (self.written + self.failed) * self.steps

    @property
    def rate(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.written}/{self.pictures} pictures, {self.written / seconds:.2f} pictures/s"

    @property
    def summary(self) -> str:
        return f"{self.written} written, {self.failed} failed in {time.monotonic() - self.started:.1f} s"


def _require_rgb(restorer: Restorer, engine: Path) -> Restorer:
    if restorer.card.channels != 3 or restorer.card.value_range is None:
        raise InvalidValueError(
            f"{engine}: this network works on {restorer.card.channels}-channel "
            f"{'latents' if restorer.card.value_range is None else 'arrays'}, not on RGB pictures: "
            "use it from Python (irsde_deploy.load)"
        )
    return restorer


# -- verify, inspect, doctor -------------------------------------------------------------------------------


@cli.command()
@click.argument("engine", type=PATH)
@click.option("--against", type=PATH, required=True, help="The PyTorch checkpoint that it was exported from.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), default="posterior", show_default=True)
@click.option("--steps", type=int, help="[default: all timesteps]")
@click.option("--picture", type=PATH, help="Compare on this picture [default: a small example].")
@click.option("--seed", type=SEED, default=2023, show_default=True, help="Of the injected noise.")
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    show_default=True,
    help="Allowed error, relative to the largest value.",
)
@click.option("--csv", "csv_path", type=PATH, help="[default: ENGINE.parity.csv]")
@click.option("--plot", "plot_path", type=PATH, help="[default: ENGINE.parity.png]")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)
def verify(
    engine: Path,
    against: Path,
    sampler: str,
    steps: int | None,
    picture: Path | None,
    seed: int,
    tolerance: float,
    csv_path: Path | None,
    plot_path: Path | None,
    device: str,
) -> None:
    """Compare ENGINE with PyTorch: single evaluations, then a whole trajectory with the same noise.

    Writes the error of every state as CSV and as a plot. Exit code 3 where anything is out of tolerance.
    """
    with requires_extra("export", "comparing with PyTorch"):
        from .export.checkpoints import read_checkpoint
        from .export.parity import compare_evaluations, compare_trajectories, reference_engine, require
        from .export.report import format_comparison, format_trajectory, write_csv, write_plot
    from .restorer import load

    csv_path = csv_path or engine.with_suffix(".parity.csv")
    plot_path = plot_path or engine.with_suffix(".parity.png")
    if (csv_path.suffix.lower(), plot_path.suffix.lower()) != (".csv", ".png") or plot_path == picture:
        raise InvalidValueError(
            f"--csv must end in .csv and --plot in .png, and neither be an input, not {csv_path} and {plot_path}"
        )
    if not 0 < tolerance <= 1:
        raise InvalidValueError(f"--tolerance must be above 0 and at most 1, not {tolerance}")
    candidate = load(engine, device)
    checkpoint = read_checkpoint(against)
    if candidate.card.checkpoint_sha256 not in ("", checkpoint.sha256):
        _say(f"note: {engine} says it was exported from another file than {against} (their SHA-256 differ)")
    reference = reference_engine(candidate.card, checkpoint)
    mu = None if picture is None else _read_network_input(candidate, engine, picture)
    table = candidate.plan(sampler, candidate.sde.T if steps is None else steps)
    evaluations = list(compare_evaluations(candidate.engine, reference))
    with _progress(len(table), f"{sampler}, {len(table)} steps") as advance:
        trajectory = compare_trajectories(
            candidate.engine, reference, sampler, len(table), mu, seed, tolerance, on_step=advance
        )
    write_csv(trajectory, csv_path)
    write_plot(trajectory, plot_path, f"{engine.name}: {candidate.engine.name} against {reference.name}")
    click.echo("\n".join([format_trajectory(trajectory), *map(format_comparison, evaluations)]))
    click.echo(f"wrote {csv_path} and {plot_path}")
    if not trajectory.complete:
        _say(f"note: {DIVERGENCE}")
    require([*evaluations, *trajectory.steps], str(engine))


def _read_network_input(restorer: Restorer, engine: Path, picture: Path) -> Any:
    from .images import read_picture

    return _require_rgb(restorer, engine).to_network(read_picture(picture).rgb)


@cli.command()
@click.argument("file", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def inspect(file: Path, as_json: bool) -> None:
    """Show what a model FILE holds: its card, graph inputs and sizes."""
    from .inspection import format_inspection, inspect_file

    description = inspect_file(file)
    click.echo(json.dumps(description, indent=2) if as_json else format_inspection(description))


@cli.command()
def doctor() -> None:
    """Show what is installed, which providers and devices work, and the command that installs what is missing."""
    from .doctor import examine

    for finding in examine():
        mark = "ok     " if finding.found else "missing"
        click.echo(f"{mark}  {finding.what:<34} {finding.detail}")


# -- shared ------------------------------------------------------------------------------------------------


@contextmanager
def _progress(length: int, label: str) -> Iterator[Callable[..., None]]:
    """A progress bar with ETA on stderr, on a terminal only; gives advance(position, text)."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        hidden=hidden,
        show_pos=False,
        item_show_func=lambda text: text,
    ) as bar:

        def advance(position: int, text: str | None = None) -> None:
            bar.update(position - bar.pos, text)
            bar.render_progress()  # update() leaves out what changes the text alone

        yield advance


def _say(sentence: str) -> None:
    """One line on stderr."""
    click.echo(f"irsde-deploy: {sentence}", err=True)
