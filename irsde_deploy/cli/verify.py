"""irsde-deploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.comparison import DIVERGENCE, format_comparison
from ..core.samplers import SAMPLERS
from ..core.sampling import blind_sde
from ..core.tiling import Tiling
from ..errors import InvalidValueError, requires_extra
from .common import PATH, SEED, device_options, note_uncalibrated, progress, require_rgb, say

if TYPE_CHECKING:
    from ..restorer import Restorer


@click.command()
@click.argument("engine", type=PATH)
@click.option("--against", type=PATH, help="The PyTorch checkpoint that it was exported from.")
@click.option(
    "--tiled", type=click.IntRange(1), metavar="SIDE", help="Compare tiles of this side with the whole --picture."
)
@click.option("--overlap", type=int, help="Of the tiles, in pixels [default: 64, at most half a side].")
@click.option(
    "--sampler", type=click.Choice(list(SAMPLERS)), help="[default: posterior; with --tiled or INT8 the card's]"
)
@click.option("--steps", type=int, help="[default: all timesteps; with --tiled or INT8 the card's]")
@click.option("--picture", type=PATH, help="Compare on this picture [default: a small example].")
@click.option("--seed", type=SEED, default=2023, show_default=True, help="Of the injected noise.")
@click.option(
    "--tolerance",
    type=float,
    help="Allowed error of a state, relative to the largest value [default: 1e-3, with FP16 inside 2e-2, INT8 0.5].",
)
@click.option("--csv", "csv_path", type=PATH, help="[default: ENGINE.parity.csv or ENGINE.tiles.csv]")
@click.option("--plot", "plot_path", type=PATH, help="[default: ENGINE.parity.png or ENGINE.tiles.png]")
@device_options
def verify(
    engine: Path,
    against: Path | None,
    tiled: int | None,
    overlap: int | None,
    sampler: str | None,
    steps: int | None,
    picture: Path | None,
    seed: int,
    tolerance: float | None,
    csv_path: Path | None,
    plot_path: Path | None,
    device_settings: dict[str, Any],
) -> None:
    """Compare ENGINE with PyTorch (--against), or tiles with whole pictures (--tiled).

    With PyTorch: single evaluations, then a whole trajectory with the same noise; exit code 3 where anything is out of
    tolerance. Writes the error of every state, or along every row and column, as CSV and as a plot.
    """
    if (against is None) == (tiled is None):
        raise InvalidValueError("give --against CKPT to compare with PyTorch, or --tiled SIDE with the whole")
    kind = "parity" if tiled is None else "tiles"
    csv_path = csv_path or engine.with_suffix(f".{kind}.csv")
    plot_path = plot_path or engine.with_suffix(f".{kind}.png")
    if (csv_path.suffix.lower(), plot_path.suffix.lower()) != (".csv", ".png") or plot_path == picture:
        raise InvalidValueError(
            f"--csv must end in .csv and --plot in .png, and neither be an input, not {csv_path} and {plot_path}"
        )
    if tiled is not None:
        if picture is None:
            raise InvalidValueError("--tiled needs a picture larger than a tile: add --picture FILE")
        if tolerance is not None:
            raise InvalidValueError("--tolerance is for --against: leave it out with --tiled")
        tiling, options = Tiling.of(tiled, overlap), {"sampler": sampler, "steps": steps, "seed": seed}
        _verify_tiles(engine, device_settings, tiling, picture, options, csv_path, plot_path)
    elif against is not None:
        _verify_parity(
            engine,
            device_settings,
            against,
            sampler,
            steps,
            picture,
            seed,
            tolerance,
            csv_path,
            plot_path,
        )


def _verify_parity(
    engine: Path,
    device_settings: dict[str, Any],
    against: Path,
    sampler: str | None,
    steps: int | None,
    picture: Path | None,
    seed: int,
    tolerance: float | None,
    csv_path: Path,
    plot_path: Path,
) -> None:
    with requires_extra("export", "comparing with PyTorch"):
        from ..export.parity import compare_evaluations, compare_trajectories, reference_engine, require
        from ..networks.checkpoints import read_checkpoint
        from ..reports.parity import format_trajectory, write_csv, write_plot
    from ..restorer import load

    if tolerance is not None and not 0 < tolerance <= 1:
        raise InvalidValueError(f"--tolerance must be above 0 and at most 1, not {tolerance}")
    candidate = load(engine, **device_settings)
    checkpoint = read_checkpoint(against)
    if candidate.card.checkpoint_sha256 not in ("", checkpoint.sha256):
        say(f"note: {engine} says it was exported from another file than {against} (their SHA-256 differ)")
    reference = reference_engine(candidate.card, checkpoint)
    mu = None if picture is None else _read_network_input(candidate, engine, picture)
    int8 = candidate.card.precision == "int8"  # calibrated for the states of one trajectory, and compared there
    sampler = sampler or (candidate.card.sampler if int8 else "posterior")
    if steps is None:
        steps = candidate.card.steps if int8 else candidate.sde.T
    t0 = candidate.card.calibrated[0] if candidate.card.calibrated else candidate.card.t0 if int8 else None
    table = candidate.plan(sampler, steps, t0=t0 or candidate.sde.T)
    note_uncalibrated(engine, candidate.card, table.t)
    evaluations = [] if int8 else list(compare_evaluations(candidate.engine, reference))
    with progress(len(table), f"{sampler}, {len(table)} steps") as advance:
        trajectory = compare_trajectories(
            candidate.engine, reference, sampler, len(table), mu, seed, tolerance, advance, t0
        )
    write_csv(trajectory, csv_path)
    write_plot(trajectory, plot_path, f"{engine.name}: {candidate.engine.name} against {reference.name}")
    click.echo("\n".join([format_trajectory(trajectory), *map(format_comparison, evaluations)]))
    click.echo(f"wrote {csv_path} and {plot_path}")
    if not trajectory.complete:
        say(f"note: {DIVERGENCE}")
    require([*evaluations, *trajectory.steps], str(engine))


def _verify_tiles(
    engine: Path,
    device_settings: dict[str, Any],
    tiling: Tiling,
    picture: Path,
    options: dict[str, Any],
    csv_path: Path,
    plot_path: Path,
) -> None:
    from ..pictures.files import read_picture
    from ..reports.tiles import compare_tiled, format_report, write_csv, write_plot
    from ..restorer import load

    restorer = require_rgb(load(engine, **device_settings), engine)
    if blind_sde(restorer.sde, None, None):
        options = {**options, "t0": restorer.sde.T}
    table = restorer.plan(options["sampler"], options["steps"], t0=options.get("t0"))
    note_uncalibrated(engine, restorer.card, table.t)
    report = compare_tiled(restorer, read_picture(picture).rgb, tiling, **options)
    write_csv(report, csv_path)
    write_plot(report, plot_path, engine.name)
    click.echo(format_report(report))
    click.echo(f"wrote {csv_path} and {plot_path}")


def _read_network_input(restorer: Restorer, engine: Path, picture: Path) -> Any:
    from ..core.pixels import check_picture, to_network
    from ..pictures.files import read_picture

    return to_network(check_picture(require_rgb(restorer, engine).card, read_picture(picture).rgb))
