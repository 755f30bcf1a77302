"""From an FP32 graph and pictures to an INT8 graph: its ranges, which layers stay in floating point, what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import PIL

from .._version import __version__
from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import psnr
from ..core.samplers import ADJACENT_ONLY
from ..core.sde import DenoisingSDE
from ..errors import InvalidValueError
from ..graphs.metadata import INT8_KEY
from ..graphs.onnx_file import read_model, set_metadata, write_model
from ..precision.search import SearchResult, cheapest_set, operation_costs
from ..precision.trajectory import TrajectoryQuality, restore_seeded
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.engines.onnx_session import onnxruntime_for
from ..system.files import write_atomically
from .data import CalibrationData
from .layers import Layer, quantisable
from .manifest import CalibrationSettings, TableFile
from .quantise import as_computed, mixed
from .range_table import RangeTable, find_table, graph_sha256, measure_table, states_of, table_key, write_table

MEASURED, MEASURED_SIDE = 4, 192
"""How many pictures whole trajectories are measured on, spread over those given, and the largest side in pixels of the
middle that is cut out of each."""


@dataclass(frozen=True)
class Problem:
    """A calibration that is to be done: the FP32 graph, its layers, the pictures and the settings.

    Attributes:
        model: the FP32 graph.
        card: its model card.
        layers: the layers that may be quantised.
        data: the pictures to calibrate on.
        settings: how to calibrate.
    """

    model: onnx.ModelProto
    card: ModelCard
    layers: tuple[Layer, ...]
    data: CalibrationData
    settings: CalibrationSettings

    @classmethod
    def of(
        cls, model: onnx.ModelProto, card: ModelCard, data: CalibrationData, settings: CalibrationSettings
    ) -> Problem:
        """Find the layers that may be quantised; raises InvalidValueError where there is none or it is not FP32."""
        if card.precision != "fp32":
            raise InvalidValueError(
                f"the graph is {card.precision} already: calibrate the one that was exported with `precision` fp32"
            )
        return cls(model, card, tuple(quantisable(model, settings.residuals)), data, settings)

    def range_table(
        self,
        folder: Path,
        on_state: Callable[[int], None] | None = None,
        expected: TableFile | None = None,
        on_damaged: Callable[[str], None] | None = None,
    ) -> tuple[RangeTable, Path, bool]:
        """Take the range table from a folder, or measure it and write it there.

        Args:
            folder: where range tables are kept.
            on_state: called after each measured state with the number measured so far.
            expected: the table that a manifest names; no other file of the folder is used then.
            on_damaged: called with a sentence about each file of the folder that cannot be read.

        Returns:
            The table, its file, and whether that was there already.

        Raises:
            EngineError: an evaluation failed, or an activation is not finite.
        """
        key = table_key(graph_sha256(self.model), self.card, self.layers, self.data, self.settings)
        found = find_table(folder, key, self.layers, self.settings, expected, on_damaged)
        if found is not None:
            return *found, True
        states = states_of(self.model, self.card, self.data, self.settings)
        table = measure_table(self.model, self.layers, states, self.settings, key, on_state)
        path = folder / table.file_name
        write_table(table, path)
        return table, path, False

    def quantised(self, ranges: dict[str, float], float_layers: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """Return the graph with its layers in INT8, but for those named in `float_layers`."""
        layers = [layer for layer in self.layers if layer.name not in float_layers]
        return mixed(self.model, layers, ranges, self.settings.rest)

    def pictures(self) -> list[tuple[Float32, Float32 | None]]:
        """Return (degraded, clean) of each picture to measure on, (1, C, H, W); clean is None without pairs."""
        sources = self.data.sources(self.card)
        chosen = np.unique(np.linspace(0, len(sources) - 1, MEASURED).round().astype(int))
        cut = []
        for index in chosen:
            mu, y0 = sources[index].read()
            cut.append((_centre(mu), None if y0 is None else _centre(mu + y0)))
        return cut

    def quality(self, ranges: dict[str, float], pictures: Sequence[Float32]) -> TrajectoryQuality:
        """Return a function from the layers that stay in floating point to the PSNR of what is restored then.

        The PSNR, in dB, is that of restored pictures against the FP32 graph's.

        Args:
            ranges: name of an activation -> the magnitude that becomes 127.
            pictures: degraded pictures, each (1, C, H, W).
        """

        def candidate(kept: frozenset[str]) -> onnx.ModelProto:
            return as_computed(self.quantised(ranges, kept), self.settings.rest)

        table = self.settings.table(self.card.sde)
        return TrajectoryQuality.of(self.model, self.card, pictures, table, candidate, self.settings.clip)

    @property
    def int8_card(self) -> ModelCard:
        """The quantised graph's model card. Its sampler, steps and t0 are the trajectory that was calibrated for."""
        settings, sde = self.settings, self.card.sde
        first, steps = settings.timesteps[0], len(settings.timesteps)
        if isinstance(sde, DenoisingSDE):  # whose first timestep is the picture's own
            t0, steps = None, sde.T if settings.sampler in ADJACENT_ONLY else steps
        else:
            t0 = None if first == sde.T else first
        return replace(
            self.card,
            precision="int8",
            calibrated=(first, settings.timesteps[-1]),
            sampler=settings.sampler,
            steps=steps,
            t0=t0,
        )


def _centre(picture: Float32) -> Float32:
    """Return the middle of a picture (C, H, W), at most MEASURED_SIDE on each side, as (1, C, h, w)."""
    sides = [min(side, MEASURED_SIDE) for side in picture.shape[1:]]
    top, left = ((side - cut) // 2 for side, cut in zip(picture.shape[1:], sides, strict=True))
    return np.ascontiguousarray(picture[None, :, top : top + sides[0], left : left + sides[1]])


@dataclass(frozen=True)
class Cost:
    """What INT8 costs on whole trajectories.

    Attributes:
        psnr: PSNR in dB of the worst restored picture against FP32's.
        clean_fp32: mean PSNR in dB of FP32's restored pictures against the clean ones; None without clean ones.
        clean_int8: the same of INT8's restored pictures.
        case: what was restored, in words.
    """

    psnr: float
    clean_fp32: float | None
    clean_int8: float | None
    case: str

    def __str__(self) -> str:
        against = f"restored pictures have {self.psnr:.1f} dB against FP32's at the worst ({self.case})"
        if self.clean_fp32 is None or self.clean_int8 is None:
            return against
        return f"{against}; against the clean ones {self.clean_int8:.2f} dB, FP32 {self.clean_fp32:.2f} dB"


def search_float_layers(
    problem: Problem,
    ranges: dict[str, float],
    budget: float,
    on_trial: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """Find the layers to leave in floating point, so that restored pictures keep a budget.

    Of the sets of layers that the search tries and that keep the budget, the one with the fewest operations is taken.

    Args:
        problem: the graph, its layers and the pictures.
        ranges: name of an activation -> the magnitude that becomes 127.
        budget: PSNR in dB that every restored picture must have against FP32's.
        on_trial: as `cheapest_set` calls it.

    Returns:
        The search's result, with the layers that stay in floating point in the graph's order.

    Raises:
        InvalidValueError: the budget is not kept even with all of them in floating point, the rest being FP16.
    """
    quality = problem.quality(ranges, [mu for mu, _ in problem.pictures()])
    costs = operation_costs(problem.model, {layer.name: [layer.name] for layer in problem.layers})
    result = cheapest_set(costs, quality, budget, on_trial)
    return replace(result, kept=tuple(name for name in costs if name in set(result.kept)))


def write_int8(
    problem: Problem,
    table: RangeTable,
    float_layers: Sequence[str],
    path: Path,
    check: Callable[[Path], None] | None = None,
) -> Cost:
    """Write the quantised graph, whole or not at all, and measure what was written.

    Args:
        problem: the graph, its layers and the pictures.
        table: the ranges.
        float_layers: names of the layers that stay in floating point.
        path: file to write.
        check: called with the temporary file before that takes its name; it raises an error to prevent it.

    Raises:
        InvalidValueError: `float_layers` names a layer that the graph does not have.
        NotFiniteError: states of the quantised graph, or of the FP32 graph, are not finite.
    """
    settings = problem.settings
    if unknown := set(float_layers) - {layer.name for layer in problem.layers}:
        raise InvalidValueError(f"the graph has no layer {min(unknown)} that could be quantised")
    ranges = table.ranges(settings.method)
    model = problem.quantised(ranges, frozenset(float_layers))
    about = {
        "method": settings.method,
        "timesteps": settings.timesteps,
        "states": table.states,
        "residuals": settings.residuals,
        "rest": settings.rest,
        "float_layers": list(float_layers),
    }
    set_metadata(model, INT8_KEY, json.dumps(about))
    with write_atomically(path) as temporary:
        write_model(model, problem.int8_card, temporary)
        if check is not None:
            check(temporary)
        return measure_cost(problem, temporary)


def measure_cost(problem: Problem, path: Path) -> Cost:
    """Read a quantised file, restore the problem's pictures with it (ONNX Runtime, CPU) and return what it costs."""
    pictures = problem.pictures()
    quality = problem.quality({}, [mu for mu, _ in pictures])
    written, card = read_model(path)
    engine = OnnxEngine.from_bytes(as_computed(written, problem.settings.rest).SerializeToString(), card)
    restored = [restore_seeded(engine, mu, quality.table, quality.clip) for mu, _ in pictures]
    clean = [gt for _, gt in pictures if gt is not None]
    fp32, int8 = (_mean_psnr(pictures, clean) for pictures in (quality.reference, restored))
    what = f"{len(pictures)} of the {len(problem.data.entries)} pictures, middles of at most {MEASURED_SIDE} px"
    case = f"{what}, {len(quality.table)} steps of {problem.settings.sampler}"
    return Cost(quality.worst(restored), fp32, int8, case)


def _mean_psnr(restored: Sequence[Float32], clean: Sequence[Float32]) -> float | None:
    if not clean:
        return None
    return float(np.mean([psnr(np.clip(mine, 0, 1), gt, 1.0) for mine, gt in zip(restored, clean, strict=True)]))


def packages() -> dict[str, str]:
    """Return the name and version of each package on which the bytes of a result depend."""
    onnxruntime = onnxruntime_for("cpu")
    return {
        "irsde-deploy": __version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }
