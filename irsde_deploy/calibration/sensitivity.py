"""What each layer costs at each timestep: the error that quantising this layer alone makes, in this step alone.

The error of eps is the root mean square of its change over the root mean square of eps itself, on calibration states of
that timestep. The error of the restored picture is its PSNR against FP32's when the layer is in INT8 for one step of
the trajectory and everything else is in FP32: later steps take back a part of what early ones did wrong, and nothing of
what the last one did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.arrays import Float32
from ..core.comparison import psnr
from ..precision.trajectory import restore_seeded
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.protocol import Engine
from ..system.figures import figure_file
from ..system.tables import markdown_table, write_csv, write_text
from .problem import Problem
from .quantise import quantise
from .range_table import states_of
from .states import State

STATES_EACH = 4
"""How many states of each timestep the error of eps is measured on."""

PICTURES, SIDE = 2, 128
"""How many pictures are restored for each layer and timestep, and their largest side in pixels."""

MOST_TIMESTEPS = 10
"""How many steps of a longer trajectory are measured: spread evenly, the first and the last among them."""

REPORTS = ("sensitivity.csv", "sensitivity.png", "ranking.md")
"""Files of a report: every error, the same as a map of layer by timestep, and the tables that are printed."""

Grid = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What each layer costs at each timestep.

    Attributes:
        layers: names of the layers.
        timesteps: those that were measured, first to last.
        steps: number of steps of the whole trajectory.
        eps_error: (layers, timesteps), relative root mean square error of eps.
        restored_psnr: (layers, timesteps), PSNR in dB of the restored picture against FP32's; infinite where the two
            are equal.
    """

    layers: tuple[str, ...]
    timesteps: tuple[int, ...]
    steps: int
    eps_error: Grid
    restored_psnr: Grid

    @property
    def harms(self) -> Grid:
        """Mean square error of the restored picture, (layers, timesteps)."""
        power: Grid = 10 ** (-self.restored_psnr / 10)
        return power

    @property
    def harm(self) -> Grid:
        """Mean square error of the restored picture, summed over the timesteps that were measured: (layers,)."""
        total: Grid = self.harms.sum(axis=1)
        return total

    @property
    def ranking(self) -> list[int]:
        """Indices into `layers`, the most harmful layer first."""
        return [int(number) for number in np.argsort(-self.harm, kind="stable")]


class _Evaluations:
    """An engine for one trajectory that differs from FP32's in a single step.

    Before that step it repeats answers of the FP32 graph that are known already, in that step it asks the other engine,
    and after it the FP32 graph.

    Args:
        fp32: the FP32 graph's engine.
        known: its answers on the same trajectory, one for each step.
        at: the step, from 0, in which the other engine answers.
        other: the engine with one layer in INT8.
    """

    def __init__(self, fp32: Engine, known: Sequence[Float32], at: int, other: Engine) -> None:
        self.card, self.name = fp32.card, other.name
        self._fp32, self._known, self._at, self._other = fp32, known, at, other
        self._step = -1

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """Answer as an `Engine` does; the k-th call is taken for step k of the trajectory."""
        self._step += 1
        if self._step < self._at:
            return self._known[self._step]
        if self._step == self._at:
            return self._other(x, mu, t)
        return self._fp32(x, mu, t)


class _Recording:
    """An engine that keeps its answers, which `_Evaluations` repeats."""

    def __init__(self, engine: Engine) -> None:
        self.card, self.name, self._engine = engine.card, engine.name, engine
        self.answers: list[Float32] = []

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """Answer as an `Engine` does."""
        self.answers.append(self._engine(x, mu, t))
        return self.answers[-1]


def measure_sensitivity(
    problem: Problem, ranges: dict[str, float], on_layer: Callable[[int], None] | None = None
) -> Sensitivity:
    """Quantise each layer alone and measure what that costs.

    Args:
        problem: the graph, its layers and the pictures.
        ranges: activation -> magnitude that becomes 127.
        on_layer: called after each layer with the number of layers done.

    Raises:
        EngineError: an evaluation failed.
    """
    everywhere = problem.settings.timesteps
    steps = _measured_steps(len(everywhere))
    timesteps = tuple(everywhere[step] for step in steps)
    fp32 = OnnxEngine.from_bytes(problem.model.SerializeToString(), problem.card)
    states = _states(problem, timesteps)
    expected = [_eps(fp32, state) for state in states]
    trajectories = [_Trajectory(problem, fp32, mu[:, :, :SIDE, :SIDE]) for mu, _ in problem.pictures()[:PICTURES]]
    eps_error = np.empty((len(problem.layers), len(steps)))
    restored = np.empty_like(eps_error)
    for row, layer in enumerate(problem.layers):
        graph = quantise(problem.model, [layer], ranges)  # in the FP32 graph, whatever the rest will be
        engine = OnnxEngine.from_bytes(graph.SerializeToString(), problem.card)
        eps_error[row] = _eps_errors(engine, states, expected, timesteps)
        for column, step in enumerate(steps):
            restored[row, column] = min(trajectory.psnr_with(engine, step) for trajectory in trajectories)
        if on_layer is not None:
            on_layer(row + 1)
    names = tuple(layer.name for layer in problem.layers)
    return Sensitivity(names, timesteps, len(everywhere), eps_error, restored)


def _measured_steps(count: int) -> list[int]:
    """Return which of so many steps are measured, from 0: all, or `MOST_TIMESTEPS` spread evenly with both ends."""
    spread = np.linspace(0, count - 1, MOST_TIMESTEPS).round().astype(int)
    steps: list[int] = np.unique(spread).tolist()
    return steps


def _states(problem: Problem, timesteps: Sequence[int]) -> list[State]:
    """Return the calibration's own first states at these timesteps, `STATES_EACH` of each."""
    stream = states_of(problem.model, problem.card, problem.data, problem.settings)
    first = itertools.islice(stream, STATES_EACH * len(problem.settings.timesteps))
    return [state for state in first if state.t in timesteps]


def _eps(engine: Engine, state: State) -> Float32:
    eps: Float32 = engine(state.x, state.mu, np.full(1, state.t, np.float32))
    return eps


def _eps_errors(
    engine: Engine, states: Sequence[State], expected: Sequence[Float32], timesteps: Sequence[int]
) -> list[float]:
    """Return the relative root mean square error of eps at each timestep."""
    off = dict.fromkeys(timesteps, 0.0)
    size = dict.fromkeys(timesteps, 0.0)
    for state, eps in zip(states, expected, strict=True):
        off[state.t] += float(np.sum(np.square(_eps(engine, state) - eps, dtype=np.float64)))
        size[state.t] += float(np.sum(np.square(eps, dtype=np.float64)))
    errors = []
    for t in timesteps:
        errors.append(float(np.sqrt(off[t] / size[t])) if size[t] else 0.0)
    return errors


class _Trajectory:
    """The FP32 trajectory of one picture, and the PSNR that is left when another engine does one of its steps."""

    def __init__(self, problem: Problem, fp32: Engine, mu: Float32) -> None:
        self._fp32, self._mu, self._table = fp32, mu, problem.settings.table(problem.card.sde)
        self._clip = problem.settings.clip
        recording = _Recording(fp32)
        self._restored = restore_seeded(recording, mu, self._table, self._clip)
        self._answers = recording.answers

    def psnr_with(self, engine: Engine, step: int) -> float:
        """Return the PSNR in dB of the picture that this engine at this step (0..N-1) leads to, against FP32's."""
        switching = _Evaluations(self._fp32, self._answers, step, engine)
        return psnr(restore_seeded(switching, self._mu, self._table, self._clip), self._restored, 1.0)


# -- reports -----------------------------------------------------------------------------------------------


def write_reports(sensitivity: Sensitivity, folder: Path, title: str) -> list[Path]:
    """Write the files of `REPORTS` into a folder, the map with this title, and return their paths."""
    table, heat_map, ranking = (folder / name for name in REPORTS)
    _write_csv(sensitivity, table)
    _write_heat_map(sensitivity, heat_map, title)
    write_text(ranking, f"{format_timesteps(sensitivity)}\n\n{format_ranking(sensitivity)}\n")
    return [table, heat_map, ranking]


def format_timesteps(sensitivity: Sensitivity) -> str:
    """Return a Markdown table of what quantising costs at each timestep, over all layers."""
    harms = sensitivity.harms
    whole = harms.sum() or 1.0
    rows = []
    for column, t in enumerate(sensitivity.timesteps):
        error = np.median(sensitivity.eps_error[:, column])
        share = harms[:, column].sum() / whole
        rows.append((str(t), f"{error:.3%}", f"{share:.0%}"))
    table = markdown_table(("timestep", "eps error of a layer, median", "share of the harm"), rows)
    total = sensitivity.harm.sum()
    if not total > 0:
        return table
    measured = len(sensitivity.timesteps)
    of = f" (at {measured} of {sensitivity.steps} steps)" if measured < sensitivity.steps else ""
    return f"{table}\n\nSingle harms{of} add up to {-10 * np.log10(total):.1f} dB."


_RANKING = ("rank", "layer", "restored, dB (steps above)", "share of the harm", "worst step", "eps error there")


def format_ranking(sensitivity: Sensitivity, most: int | None = None) -> str:
    """Return a Markdown table of the layers, the most harmful first; `most` of them, or all."""
    whole = sensitivity.harm.sum() or 1.0
    rows = []
    for rank, row in enumerate(sensitivity.ranking[:most], start=1):
        harm = sensitivity.harm[row]
        decibels = f"{-10 * np.log10(harm):.1f}" if harm > 0 else "equal"
        worst = int(np.argmin(sensitivity.restored_psnr[row]))
        step = f"t = {sensitivity.timesteps[worst]}"
        error = f"{sensitivity.eps_error[row, worst]:.2%}"
        rows.append((str(rank), f"`{sensitivity.layers[row]}`", decibels, f"{harm / whole:.1%}", step, error))
    return markdown_table(_RANKING, rows)


def _write_csv(sensitivity: Sensitivity, path: Path) -> None:
    rows = []
    for row, layer in enumerate(sensitivity.layers):
        for column, t in enumerate(sensitivity.timesteps):
            error, decibels = sensitivity.eps_error[row, column], sensitivity.restored_psnr[row, column]
            rows.append((layer, t, f"{error:.6g}", f"{decibels:.4f}"))
    write_csv(path, ("layer", "t", "eps_error", "restored_psnr_db"), rows)


_MOST_UPRIGHT = 8
"""Timesteps whose numbers have room side by side below the map; more of them are turned by 90 degrees."""


def _write_heat_map(sensitivity: Sensitivity, path: Path, title: str) -> None:
    rows, columns = sensitivity.eps_error.shape
    rotation = 90 if columns > _MOST_UPRIGHT else 0
    panels = (
        (np.log10(np.maximum(sensitivity.eps_error, 1e-6)), "log10 of the relative error of eps", "magma"),
        (np.minimum(sensitivity.restored_psnr, 120), "restored picture against FP32, dB", "magma_r"),
    )
    size = (7 + 0.25 * columns, 1.8 + 0.16 * rows)
    with figure_file(path, size, dpi=110, software=False) as figure:  # equal runs write equal bytes
        both = figure.subplots(1, 2, sharey=True)
        for axes, (values, label, colours) in zip(both, panels, strict=True):
            image = axes.imshow(values, aspect="auto", cmap=colours, interpolation="nearest")
            figure.colorbar(image, ax=axes, label=label)
            axes.set_xticks(range(columns), [str(t) for t in sensitivity.timesteps], rotation=rotation)
            axes.set_xlabel("timestep t")
        both[0].set_yticks(range(rows), [name.strip("/") for name in sensitivity.layers], fontsize=7)
        figure.suptitle(title)
