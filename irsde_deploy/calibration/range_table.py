"""Range tables: what was measured of every activation, kept in a file that is named by the hash of what went in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from ..core.card import ModelCard
from ..errors import InputFileError, InvalidValueError
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..system.files import file_sha256
from ..system.tables import write_json
from .data import CalibrationData
from .layers import Layer
from .manifest import (
    FORMAT,
    UNREADABLE,
    CalibrationSettings,
    TableFile,
    finite,
    read_json,
    require_fields,
    require_types,
    sde_of,
    texts,
)
from .ranges import METHODS, Recorder, collect, summary_of, timestep_groups
from .states import State, exact_states, recorded_states, visited_marginals

_LEAST = 1e-30
"""A range whose 127th part float32 still holds."""
_TYPES: dict[str, type] = {
    "key": str,
    "states": int,
    "stop": str,
    "converged": bool,
    "rounds": list,
    "tensors": dict,
}


@dataclass(frozen=True)
class RangeTable:
    """Ranges of the activations of one graph.

    Attributes:
        key: hash of what went in, see `table_key`.
        states: how many. stop: what decided on their number. converged: whether the ranges had.
        rounds: in words, how ranges moved from doubling to doubling.
        tensors: activation -> lowest, highest, and the range by each method.
    """

    key: str
    states: int
    stop: str
    converged: bool
    rounds: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, float]]

    def ranges(self, method: str) -> dict[str, float]:
        """Activation -> the magnitude that becomes 127."""
        return {name: values[method] for name, values in self.tensors.items()}

    def serves(self, key: str, settings: CalibrationSettings) -> bool:
        """Whether it is what a calibration with these settings would measure."""
        stops = self.stop == stop_of(settings) if settings.states is None else self.states == settings.states
        return self.key == key and stops

    def covers(self, layers: Sequence[Layer]) -> bool:
        """Whether it has a usable range by every method for just the activations that these layers read."""
        wanted = {name for layer in layers for name in layer.inputs}
        return set(self.tensors) == wanted and all(_usable(values) for values in self.tensors.values())

    @property
    def file_name(self) -> str:
        """Says the key, the number of states and what decided on it: no run replaces the table of another."""
        return f"ranges-{self.key[:16]}-{self.states}-{self.stop.replace(' converged, or ', '-to-')}.json"


def _usable(values: Mapping[str, float]) -> bool:
    """Whether ranges are positive and none is wider than what was seen; of a tensor that is always 0 they are 1."""
    lowest, highest = values["lowest"], values["highest"]
    largest = max(highest, -lowest) or 1.0
    return lowest <= highest and all(_LEAST < values[method] <= largest for method in METHODS)


def stop_of(settings: CalibrationSettings) -> str:
    """What decides on the number of states, in words."""
    return f"{settings.method} converged, or {settings.most_states}" if settings.states is None else "given"


def graph_sha256(model: onnx.ModelProto) -> str:
    """Of the graph, its functions and opset alone: whatever the card or the tool's version says."""
    bare = onnx.ModelProto(graph=model.graph, functions=model.functions, opset_import=model.opset_import)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def table_key(
    graph: str, card: ModelCard, layers: Sequence[Layer], data: CalibrationData, settings: CalibrationSettings
) -> str:
    """Hash of everything that ranges hang on, but for the number of states."""
    parts = {
        "format": FORMAT,
        "graph": graph,
        "sde": sde_of(card),
        "multiple_of": card.multiple_of,
        "pad_mode": card.pad_mode,
        "tensors": sorted({name for layer in layers for name in layer.inputs}),
        "pictures": data.hashes,
        "timesteps": settings.timesteps,
        "seed": settings.seed,
        "crop": settings.crop,
        "sampler": settings.sampler,
        "debias": settings.debias,
        "clip": settings.clip,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_table(path: Path) -> RangeTable:
    """Read what `write_table` wrote.

    Raises:
        InputFileError: no such file, or not a range table.
    """
    values = read_json(path, "a range table")
    try:
        require_fields(values, RangeTable)
        require_types(values, _TYPES)
        tensors = {
            name: {entry: finite(found[entry]) for entry in ("lowest", "highest", *METHODS)}
            for name, found in values.pop("tensors").items()
        }
        rounds = tuple(texts(values.pop("rounds")))
        return RangeTable(**values, rounds=rounds, tensors=tensors)
    except UNREADABLE as error:
        raise InputFileError(f"{path}: not a range table that this irsde-deploy can read ({error})") from None


def write_table(table: RangeTable, path: Path) -> None:
    """Write it as JSON, whole or not at all."""
    write_json(path, {"format": FORMAT, **asdict(table)}, indent=1)


def states_of(
    model: onnx.ModelProto, card: ModelCard, data: CalibrationData, settings: CalibrationSettings
) -> Iterator[State]:
    """The states of a calibration, endless: exact with pairs, recorded without."""
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
    """Run the graph on states and measure its activations; `on_state` is called with the number done."""
    recorder = Recorder(model, (name for layer in layers for name in layer.inputs))
    groups, first = timestep_groups(settings.timesteps), settings.first_states
    most = first if settings.states is not None else settings.most_states
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
) -> tuple[RangeTable, Path] | None:
    """The table in a folder that fits, and its file, if there is one; a damaged one is none.

    Args:
        expected: the one file that will do, with this SHA-256; None: any that fits.
    """
    paths = sorted(folder.glob(f"ranges-{key[:16]}-*.json")) if expected is None else [folder / expected.name]
    for path in paths:
        try:
            table = read_table(path)
            same = expected is None or file_sha256(path) == expected.sha256
        except (InputFileError, InvalidValueError):
            continue
        if same and table.serves(key, settings) and table.covers(layers):
            return table, path
    return None
