"""irsde-deploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, requires_extra
from ..samplers import SAMPLERS
from .common import DIVERGENCE, PATH, SEED, device_options, progress, require_rgb, say

if TYPE_CHECKING:
    from ..restorer import Restorer


@click.command()
@click.argument("engine", type=PATH)
@click.option("--against", type=PATH, required=True, help="The PyTorch checkpoint that it was exported from.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), default="posterior", show_default=True)
@click.option("--steps", type=int, help="[default: all timesteps]")
@click.option("--picture", type=PATH, help="Compare on this picture [default: a small example].")
@click.option("--seed", type=SEED, default=2023, show_default=True, help="Of the injected noise.")
@click.option(
    "--tolerance",
    type=float,
    help="Allowed error of a state, relative to the largest value [default: 1e-3, with FP16 inside 2e-2].",
)
@click.option("--csv", "csv_path", type=PATH, help="[default: ENGINE.parity.csv]")
@click.option("--plot", "plot_path", type=PATH, help="[default: ENGINE.parity.png]")
@device_options
def verify(
    engine: Path,
    against: Path,
    sampler: str,
    steps: int | None,
    picture: Path | None,
    seed: int,
    tolerance: float | None,
    csv_path: Path | None,
    plot_path: Path | None,
    device_settings: dict[str, Any],
) -> None:
    """Compare ENGINE with PyTorch: single evaluations, then a whole trajectory with the same noise.

    Writes the error of every state as CSV and as a plot. Exit code 3 where anything is out of tolerance.
    """
    with requires_extra("export", "comparing with PyTorch"):
        from ..export.checkpoints import read_checkpoint
        from ..export.parity import compare_evaluations, compare_trajectories, reference_engine, require
        from ..export.report import format_comparison, format_trajectory, write_csv, write_plot
    from ..restorer import load

    csv_path = csv_path or engine.with_suffix(".parity.csv")
    plot_path = plot_path or engine.with_suffix(".parity.png")
    if (csv_path.suffix.lower(), plot_path.suffix.lower()) != (".csv", ".png") or plot_path == picture:
        raise InvalidValueError(
            f"--csv must end in .csv and --plot in .png, and neither be an input, not {csv_path} and {plot_path}"
        )
    if tolerance is not None and not 0 < tolerance <= 1:
        raise InvalidValueError(f"--tolerance must be above 0 and at most 1, not {tolerance}")
    candidate = load(engine, **device_settings)
    checkpoint = read_checkpoint(against)
    if candidate.card.checkpoint_sha256 not in ("", checkpoint.sha256):
        say(f"note: {engine} says it was exported from another file than {against} (their SHA-256 differ)")
    reference = reference_engine(candidate.card, checkpoint)
    mu = None if picture is None else _read_network_input(candidate, engine, picture)
    table = candidate.plan(sampler, candidate.sde.T if steps is None else steps, t0=candidate.sde.T)
    evaluations = list(compare_evaluations(candidate.engine, reference))
    with progress(len(table), f"{sampler}, {len(table)} steps") as advance:
        trajectory = compare_trajectories(
            candidate.engine, reference, sampler, len(table), mu, seed, tolerance, on_step=advance
        )
    write_csv(trajectory, csv_path)
    write_plot(trajectory, plot_path, f"{engine.name}: {candidate.engine.name} against {reference.name}")
    click.echo("\n".join([format_trajectory(trajectory), *map(format_comparison, evaluations)]))
    click.echo(f"wrote {csv_path} and {plot_path}")
    if not trajectory.complete:
        say(f"note: {DIVERGENCE}")
    require([*evaluations, *trajectory.steps], str(engine))


def _read_network_input(restorer: Restorer, engine: Path, picture: Path) -> Any:
    from ..images import read_picture
    from ..runtimes.pictures import check_picture, to_network

    return to_network(check_picture(require_rgb(restorer, engine).card, read_picture(picture).rgb))
