"""An engine verified against PyTorch in one call; the table, the CSV and the plot of its error that people read."""

from __future__ import annotations

import math
from pathlib import Path

from ..core.arrays import Float32
from ..core.calibrated import uncalibrated_words
from ..core.comparison import DIVERGENCE, Comparison, format_comparison, format_heading
from ..core.pixels import check_picture, require_rgb_pictures, to_network
from ..core.sampling import Sampling
from ..export.parity import (
    Trajectory,
    compare_evaluations,
    compare_trajectories,
    compared_sampling,
    reference_engine,
    require,
)
from ..networks.checkpoints import read_checkpoint
from ..pictures.files import read_picture
from ..restorer import Restorer
from ..system.figures import figure_file
from ..system.listener import SILENT, Listener
from ..system.tables import write_csv


def verify_engine(
    restorer: Restorer,
    against: Path,
    csv: Path,
    plot: Path,
    *,
    sampling: Sampling | None = None,
    picture: Path | None = None,
    tolerance: float | None = None,
    listener: Listener = SILENT,
) -> Trajectory:
    """Compare an engine with PyTorch: single evaluations, but for INT8, then every state of a trajectory.

    Both files are written before anything is judged, so that an engine out of tolerance can be looked at.

    Args:
        restorer: around the engine. A fallback of it does not count.
        against: the PyTorch checkpoint that the engine was exported from.
        csv: CSV file to write, a row a state. plot: PNG file to write. Existing ones are replaced.
        sampling: the trajectory, and the seed of its noise; by default `export.parity.compared_sampling` of the card.
        picture: file of a degraded picture to compare on; by default a small example.
        tolerance: for every state, relative to its largest value; by default that of the engine's precision. Single
            evaluations keep their own.
        listener: is told the comparisons and what was written, notes, and how far the trajectory is.

    Returns:
        The comparisons of the states; it ends early, with a note, where PyTorch itself diverges.

    Raises:
        ParityError: something is out of tolerance.
        InvalidValueError: settings that do not fit the model, or a picture for a network that takes none.
        CheckpointError, InputFileError: checkpoint or picture cannot be read, or the weights do not fit the engine.
        OutputFileError: a file cannot be written. MissingPackageError: PyTorch or Matplotlib is not installed.
    """
    card, engine = restorer.card, restorer.engine
    file = restorer.files[0] if restorer.files else Path(engine.name)
    sampling = sampling or compared_sampling(card)
    checkpoint = read_checkpoint(against)
    if card.checkpoint_sha256 not in ("", checkpoint.sha256):
        listener.note(f"{file} says it was exported from another file than {against} (their SHA-256 differ)")
    reference = reference_engine(card, checkpoint)
    mu = None if picture is None else _network_input(restorer, file, picture)
    plan = restorer.plan(sampling)
    uncalibrated = uncalibrated_words(card, plan.table.t)
    if uncalibrated is not None:
        listener.note(f"{file}: {uncalibrated}")
    evaluations = []
    if card.precision != "int8":  # whose ranges hold for the states of a trajectory alone
        evaluations = list(compare_evaluations(engine, reference))
    with listener.progress(len(plan), f"{plan.sampler}, {len(plan)} steps") as advance:
        trajectory = compare_trajectories(engine, reference, sampling, mu, tolerance, advance)
    write_trajectory_csv(trajectory, csv)
    write_trajectory_plot(trajectory, plot, f"{file.name}: {engine.name} against {reference.name}")
    listener.line("\n".join([format_trajectory(trajectory), *map(format_comparison, evaluations)]))
    listener.line(f"wrote {csv} and {plot}")
    if not trajectory.complete:
        listener.note(DIVERGENCE)
    require([*evaluations, *trajectory.steps], str(file))
    return trajectory


def _network_input(restorer: Restorer, file: Path, picture: Path) -> Float32:
    """The picture as the network takes it, (1, 3, H, W)."""
    require_rgb_pictures(restorer.card, file)
    return to_network(check_picture(restorer.card, read_picture(picture).rgb))


def format_trajectory(trajectory: Trajectory, rows: int = 6) -> str:
    """A few states along the way, the restored picture, and how the error grew."""
    last = len(trajectory.steps) - 1
    shown = {min(1, last)}
    shown.update(round(last * i / (rows - 1)) for i in range(1, rows))
    lines = [format_heading()]
    lines += [format_comparison(trajectory.steps[k]) for k in sorted(shown)]
    lines.append(f"largest error of any state: {trajectory.growth:.1f} times that after the first step")
    return "\n".join(lines)


def write_trajectory_csv(trajectory: Trajectory, path: Path) -> None:
    """Write one row a state: t, max_abs, mean_abs, relative, psnr_db."""
    rows = [
        (t, step.max_abs, step.mean_abs, step.relative, step.psnr)
        for t, step in zip(trajectory.t, trajectory.steps, strict=True)
    ]
    write_csv(path, ("t", "max_abs", "mean_abs", "relative", "psnr_db"), rows)


def write_trajectory_plot(trajectory: Trajectory, path: Path, title: str) -> None:
    """Draw the largest and mean error of the state against the timestep, with the tolerance, on a log scale."""
    largest = [step.max_abs for step in trajectory.steps]
    with figure_file(path, size=(7, 4), dpi=120) as figure:
        axes = figure.add_subplot()
        axes.plot(trajectory.t, largest, label="largest error of a pixel")
        axes.plot(trajectory.t, [step.mean_abs for step in trajectory.steps], label="mean error")
        if max(largest) > 0:
            axes.set_yscale("log")
        axes.plot(trajectory.t, list(map(_allowed, trajectory.steps)), "--", color="tab:red", label="allowed")
        axes.invert_xaxis()
        axes.set(xlabel="timestep t (clean picture at 0)", ylabel="difference from PyTorch", title=title)
        axes.grid(alpha=0.3)
        axes.legend()


def _allowed(c: Comparison) -> float:
    """The largest absolute error that the tolerance, a relative one, allows; not a number where nothing differs."""
    if c.relative == 0:
        return math.nan
    return c.tolerance * c.max_abs / c.relative
