"""Parity for people: a table for the terminal, a CSV and a plot of the error along the trajectory."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.comparison import format_comparison, format_heading
from ..errors import requires_extra
from ..system.files import write_atomically

if TYPE_CHECKING:
    from ..export.parity import Trajectory


def format_trajectory(trajectory: Trajectory, rows: int = 6) -> str:
    """A few states along the way, the restored picture, and how the error grew."""
    last = len(trajectory.steps) - 1
    shown = sorted({round(last * i / (rows - 1)) for i in range(1, rows)} | {min(1, last)})
    lines = [format_heading(), *(format_comparison(trajectory.steps[k]) for k in shown)]
    return "\n".join([*lines, f"largest error of any state: {trajectory.growth:.1f} times that after the first step"])


def write_csv(trajectory: Trajectory, path: Path) -> None:
    """One row a state: t, max_abs, mean_abs, relative, psnr."""
    with write_atomically(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t", "max_abs", "mean_abs", "relative", "psnr_db"])
        for t, step in zip(trajectory.t, trajectory.steps, strict=True):
            writer.writerow([t, step.max_abs, step.mean_abs, step.relative, step.psnr])


def write_plot(trajectory: Trajectory, path: Path, title: str) -> None:
    """PNG: largest and mean error of the state against the timestep, with the tolerance, on a log scale."""
    with requires_extra("export", "plotting"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    largest, mean = ([getattr(step, name) for step in trajectory.steps] for name in ("max_abs", "mean_abs"))
    axes.plot(trajectory.t, largest, label="largest error of a pixel")
    axes.plot(trajectory.t, mean, label="mean error")
    if max(largest) > 0:
        axes.set_yscale("log")
    allowed = [
        step.tolerance * step.max_abs / step.relative if step.relative else math.nan for step in trajectory.steps
    ]
    axes.plot(trajectory.t, allowed, "--", color="tab:red", label="allowed")
    axes.invert_xaxis()
    axes.set(xlabel="timestep t (clean picture at 0)", ylabel="difference from PyTorch", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")
