"""Parity for people: a table for the terminal, a CSV and a plot of the error along the trajectory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.comparison import Comparison, format_comparison, format_heading
from ..system import tables
from ..system.figures import figure_file

if TYPE_CHECKING:
    from ..export.parity import Trajectory


def format_trajectory(trajectory: Trajectory, rows: int = 6) -> str:
    """A few states along the way, the restored picture, and how the error grew."""
    last = len(trajectory.steps) - 1
    shown = {min(1, last)}
    shown.update(round(last * i / (rows - 1)) for i in range(1, rows))
    lines = [format_heading()]
    lines += [format_comparison(trajectory.steps[k]) for k in sorted(shown)]
    lines.append(f"largest error of any state: {trajectory.growth:.1f} times that after the first step")
    return "\n".join(lines)


def write_csv(trajectory: Trajectory, path: Path) -> None:
    """Write one row a state: t, max_abs, mean_abs, relative, psnr_db."""
    rows = [
        (t, step.max_abs, step.mean_abs, step.relative, step.psnr)
        for t, step in zip(trajectory.t, trajectory.steps, strict=True)
    ]
    tables.write_csv(path, ("t", "max_abs", "mean_abs", "relative", "psnr_db"), rows)


def write_plot(trajectory: Trajectory, path: Path, title: str) -> None:
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
