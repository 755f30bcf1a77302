"""The faster of several engines of one model, for each input size, by a short measurement that is remembered.

Which library is faster depends on the network, the size and the processor (benchmarks/engines.py); nobody should have
to believe anything. The choice is kept in the user's cache folder, so that the same file on the same machine always
takes the same engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..._version import __version__
from ...core.arrays import Float32
from ...core.card import ModelCard
from ...errors import EngineError, InvalidValueError, OutOfMemoryError, OutputFileError
from ...graphs.cpu_rewrites import REWRITES
from ...system.cache import cache_folder
from ...system.decoding import convert
from ...system.files import file_sha256, write_atomically
from ...system.parsing import parse_json, read_text
from ...system.threads import usable_threads
from ..protocol import Engine
from .openvino_engine import OpenVinoEngine

REPEATS = 3
"""Timed evaluations of each engine, after one that warms up; the engines take turns."""


_MAX_CHOICE = 4096
"""Bytes of the file that keeps a choice."""


@dataclass(frozen=True)
class _Choice:
    """What is kept of a choice: the number of the engine, and its name for people."""

    engine: int
    name: str


class _Race(NamedTuple):
    """What a measurement found: the best time of each engine in seconds, and the errors of those that failed."""

    best: list[float]
    failures: dict[int, EngineError]


class AutoEngine:
    """An engine that evaluates each input size with the fastest of several engines.

    Args:
        engines: engines of one model, the preferred first where they take the same time.
        key: what identifies the model, such as its file's SHA-256.
    """

    def __init__(self, engines: Sequence[Engine], key: str) -> None:
        self._engines = list(engines)
        self._chosen: dict[tuple[int, ...], Engine] = {}
        self._lock = threading.Lock()
        self._key = key

    @classmethod
    def of(cls, engines: Sequence[Engine], path: Path) -> AutoEngine:
        """The fastest of engines that were opened from one file."""
        return cls(engines, file_sha256(path))

    @property
    def card(self) -> ModelCard:
        """The card that all of the engines have."""
        return self._engines[0].card

    @property
    def name(self) -> str:
        """The engines chosen so far, or what there is to choose from."""
        if not self._chosen:
            return f"the faster of {_listed(self._engines)}"
        return _listed(self._chosen.values())

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        return np.asarray(self.engine_for(x.shape)(x, mu, t))

    def engine_for(self, shape: tuple[int, ...]) -> Engine:
        """The engine for inputs of this shape, as it is remembered or measured now."""
        with self._lock:  # one thread measures, with the processor to itself; the others wait for its choice
            if shape not in self._chosen:
                self._chosen[shape] = self._choose(shape)
            return self._chosen[shape]

    def _choose(self, shape: tuple[int, ...]) -> Engine:
        path = self._memory(shape)
        index = _remembered(path, len(self._engines))
        if index is None:
            index, lasting = self._fastest(shape)
            if lasting:
                _remember(path, index, self._engines[index].name)
        return self._engines[index]

    def _fastest(self, shape: tuple[int, ...]) -> tuple[int, bool]:
        """The number of the engine with the fastest evaluation, and whether that choice is to last."""
        race = self._race(shape)
        if len(race.failures) == len(self._engines):
            raise race.failures[0]
        fastest = race.best.index(min(race.best))
        for index, engine in enumerate(self._engines):
            # What OpenVINO compiled for a size has weights of its own, and will not be asked for again.
            if index != fastest and isinstance(engine, OpenVinoEngine):
                engine.forget(shape)
        # Where memory was short, there may be more of it another day.
        short = any(isinstance(failure, OutOfMemoryError) for failure in race.failures.values())
        return fastest, not short

    def _race(self, shape: tuple[int, ...]) -> _Race:
        """Let the engines evaluate inputs of one shape in turns; one that fails counts as the slowest."""
        x = np.full(shape, 0.5, dtype=np.float32)
        t = np.full(shape[0], 1, dtype=np.float32)
        race = _Race([float("inf")] * len(self._engines), {})
        for repeat in range(REPEATS + 1):
            for index, engine in enumerate(self._engines):
                if index in race.failures:
                    continue
                started = time.perf_counter()
                try:
                    engine(x, x, t)
                except EngineError as error:
                    race.failures[index] = error
                    race.best[index] = float("inf")
                    continue
                seconds = time.perf_counter() - started
                if repeat > 0:  # the first evaluation compiles and allocates
                    race.best[index] = min(race.best[index], seconds)
        return race

    def _memory(self, shape: tuple[int, ...]) -> Path:
        """The file that keeps a choice: named by model, versions, rewrites, shape, processor and threads."""
        rewrites = {}
        for engine, chosen in REWRITES.items():
            rewrites[engine] = [rewrite.__name__ for rewrite in chosen]
        versions = (__version__, rewrites, [engine.name for engine in self._engines])
        what = repr((self._key, versions, shape, _processor(), usable_threads()))
        return cache_folder() / "engines" / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"


def _listed(engines: Iterable[Engine]) -> str:
    """The different names of engines, in their order."""
    return " and ".join(dict.fromkeys(engine.name for engine in engines))


@cache
def _processor() -> str:
    """The processor, with its instruction sets where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # Every core has lines of its own, which may differ where cores do.
    told = {line for line in lines if line.split("\t")[0].strip() in ("model name", "flags", "Features")}
    return f"{platform.machine()} {platform.processor()} {sorted(told)}"


def _remember(path: Path, index: int, name: str) -> None:
    """Keep a choice, where the cache can be written to; elsewhere the next process measures again."""
    with contextlib.suppress(OutputFileError), write_atomically(path) as temporary:
        temporary.write_text(json.dumps({"engine": index, "name": name}))


def _remembered(path: Path, engines: int) -> int | None:
    """The number of the engine that a file names; None where there is no such file, or it names none of them."""
    try:
        choice = convert(parse_json(read_text(path, _MAX_CHOICE, "a choice"), "it", _MAX_CHOICE), _Choice, "it")
    except (OSError, InvalidValueError):
        return None
    if not 0 <= choice.engine < engines:
        return None
    return choice.engine
