"""Range tables: what was measured of every activation, kept in a file whose name holds the hash of what went in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from ..core.card import ModelCard
from ..errors import InputFileError, InvalidValueError
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..system.files import file_sha256
from ..system.parsing import shown
from ..system.tables import write_json
from .data import CalibrationData
from .layers import Layer
from .manifest import FORMAT, CalibrationSettings, TableFile, read_ours, sde_of
from .ranges import METHODS, collect, summary_of, timestep_groups
from .recorder import Recorder
from .states import State, exact_states, recorded_states, visited_marginals

_LEAST = 1e-30
"""Ranges up to this are refused: their 127th part, the step, must be one that float32 holds."""
_ENTRIES = {"lowest", "highest", *METHODS}
"""What a table has of an activation."""


@dataclass(frozen=True)
class RangeTable:
    """Ranges of the activations of one graph.

    Attributes:
        key: hash of everything that was measured, see `table_key`.
        states: how many states were measured.
        stop: what decided on their number, in words, see `stop_of`.
        converged: whether the ranges had converged by then.
        rounds: how far the ranges moved from round to round, a sentence each.
        tensors: name of an activation -> its lowest and highest value, and its range by each method.

    Raises:
        InvalidValueError: an activation has others than these, or key and rule, of which the file's name is made, are
            not what a calibration writes.
    """

    key: str
    states: int
    stop: str
    converged: bool
    rounds: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-zA-Z]{1,64}", self.key):
            raise InvalidValueError(f"key must be a hash, in letters and digits, not {shown(self.key)}")
        if not re.fullmatch("given|[a-z]+ converged, or [0-9]+", self.stop):
            raise InvalidValueError(f"stop must be 'given' or such as 'mse converged, or 2048', not {shown(self.stop)}")
        for name, values in self.tensors.items():
            if values.keys() != _ENTRIES:
                raise InvalidValueError(f"{shown(name)} must have {', '.join(sorted(_ENTRIES))}, not {shown(values)}")

    def ranges(self, method: str) -> dict[str, float]:
        """Return each activation's range by a method of `METHODS`: the magnitude that becomes 127."""
        return {name: values[method] for name, values in self.tensors.items()}

    def serves(self, key: str, settings: CalibrationSettings) -> bool:
        """Whether a calibration with this key and these settings would measure the same table."""
        if settings.states is not None:
            return self.key == key and self.states == settings.states
        return self.key == key and self.stop == stop_of(settings)

    def covers(self, layers: Sequence[Layer]) -> bool:
        """Whether the table has usable ranges for the activations that these layers read, and for no others."""
        wanted = {name for layer in layers for name in layer.inputs}
        return set(self.tensors) == wanted and all(_usable(values) for values in self.tensors.values())

    @property
    def file_name(self) -> str:
        """The file's name. It holds key, number of states and stop rule, so that no run replaces another's table."""
        return f"ranges-{self.key[:16]}-{self.states}-{self.stop.replace(' converged, or ', '-to-')}.json"


def _usable(values: Mapping[str, float]) -> bool:
    """Whether one tensor's ranges are positive and no wider than what was seen (1 where it is always 0)."""
    lowest, highest = values["lowest"], values["highest"]
    largest = max(highest, -lowest) or 1.0
    return lowest <= highest and all(_LEAST < values[method] <= largest for method in METHODS)


def stop_of(settings: CalibrationSettings) -> str:
    """Return in words what decides on the number of states: the settings, or convergence of the ranges."""
    if settings.states is not None:
        return "given"
    return f"{settings.method} converged, or {settings.most_states}"


def graph_sha256(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of a model's graph, functions and opset, which neither card nor tool version changes."""
    bare = onnx.ModelProto(graph=model.graph, functions=model.functions, opset_import=model.opset_import)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def table_key(
    graph: str, card: ModelCard, layers: Sequence[Layer], data: CalibrationData, settings: CalibrationSettings
) -> str:
    """Return the hash of everything that ranges depend on, but for the number of states."""
    parts: dict[str, Any] = {
        "format": FORMAT,
        "graph": graph,
        "sde": sde_of(card),
        "multiple_of": card.multiple_of,
        "pad_mode": card.pad_mode,
        "tensors": sorted({name for layer in layers for name in layer.inputs}),
        "pictures": [asdict(picture) for picture in data.hashes],
        "timesteps": settings.timesteps,
        "seed": settings.seed,
        "crop": settings.crop,
        "sampler": settings.sampler,
        "debias": settings.debias,
        "clip": settings.clip,
    }
    if card.margin:  # which states have around them; without, the key is that of earlier versions
        parts["margin"] = card.margin
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_table(path: Path) -> RangeTable:
    """Read a table that `write_table` wrote.

    Raises:
        InputFileError: there is no such file, or it is not a range table.
    """
    return read_ours(path, RangeTable, "a range table", "remove it, and ranges are measured again")


def write_table(table: RangeTable, path: Path) -> None:
    """Write a table as JSON, whole or not at all."""
    write_json(path, {"format": FORMAT, **asdict(table)}, indent=1)


def states_of(
    model: onnx.ModelProto, card: ModelCard, data: CalibrationData, settings: CalibrationSettings
) -> Iterator[State]:
    """Return the states of a calibration, endless: exact ones with pairs, recorded ones without clean pictures."""
    sources = data.sources(card)
    table = settings.table(card.sde)
    if data.paired:
        return exact_states(sources, card, visited_marginals(table), settings.seed, settings.crop)
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    return recorded_states(sources, engine, table, settings.seed, settings.crop, settings.clip)


def measure_table(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    states: Iterator[State],
    settings: CalibrationSettings,
    key: str,
    on_state: Callable[[int], None] | None = None,
) -> RangeTable:
    """Run the graph on states and measure the activations that these layers read.

    Args:
        model: the FP32 graph.
        layers: from `quantisable`.
        states: endless, see `states_of`.
        settings: of the calibration.
        key: of the table, see `table_key`.
        on_state: called after each state with the number measured so far.

    Raises:
        EngineError: an evaluation failed, or an activation is not finite.
    """
    recorder = Recorder(model, (name for layer in layers for name in layer.inputs))
    groups, first = timestep_groups(settings.timesteps), settings.first_states
    most = settings.most_states
    if settings.states is not None:
        most = first
    statistics, rounds = collect(recorder, states, groups, settings.method, first, most, on_state)
    tensors: dict[str, dict[str, Any]] = summary_of(statistics)
    done = rounds[-1]
    return RangeTable(key, done.states, stop_of(settings), done.converged, tuple(map(str, rounds)), tensors)


def find_table(
    folder: Path,
    key: str,
    layers: Sequence[Layer],
    settings: CalibrationSettings,
    expected: TableFile | None = None,
    on_damaged: Callable[[str], None] | None = None,
) -> tuple[RangeTable, Path] | None:
    """Return the table in a folder that fits, and its file; None where there is none. Damaged files are passed over.

    Args:
        folder: where to look.
        key: see `table_key`.
        layers: those whose activations the table must have.
        settings: of the calibration.
        expected: the only file that will do, by its name and SHA-256; None: any file that fits.
        on_damaged: called with a sentence about each file that is passed over since it cannot be read.
    """
    paths = sorted(folder.glob(f"ranges-{key[:16]}-*.json"))
    if expected is not None:
        paths = [folder / expected.name]
    for path in paths:
        try:
            table = read_table(path)
            same = expected is None or file_sha256(path) == expected.sha256
        except (InputFileError, InvalidValueError) as error:
            if on_damaged is not None and path.exists():  # one that a manifest names may be gone
                on_damaged(str(error))
            continue
        if same and table.serves(key, settings) and table.covers(layers):
            return table, path
    return None
