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
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ..._version import __version__
from ...core.arrays import Float32
from ...core.card import ModelCard
from ...errors import EngineError, OutOfMemoryError, OutputFileError
from ...graphs.cpu_rewrites import REWRITES
from ...system.cache import cache_folder
from ...system.files import file_sha256, write_atomically
from ...system.threads import usable_threads
from ..protocol import Engine
from .openvino_engine import OpenVinoEngine

REPEATS = 3
"""Timed evaluations of each engine, after one that warms up, in turns."""


class AutoEngine:
    """See the module's text.

    Args:
        engines: of one model, the preferred first where they take the same time.
        key: of the model, such as its file's SHA-256.
    """

    def __init__(self, engines: Sequence[Engine], key: str) -> None:
        self._engines = list(engines)
        self._chosen: dict[tuple[int, ...], Engine] = {}
        self._lock = threading.Lock()
        self._key = key

    @classmethod
    def of(cls, engines: Sequence[Engine], path: Path) -> AutoEngine:
        """Engines that were opened from one file."""
        return cls(engines, file_sha256(path))

    @property
    def card(self) -> ModelCard:
        """That of all of them."""
        return self._engines[0].card

    @property
    def name(self) -> str:
        """The engines chosen so far, or what there is to choose from."""
        names = {engine.name: None for engine in (self._chosen.values() or self._engines)}
        return " and ".join(names) if self._chosen else f"the faster of {' and '.join(names)}"

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        return np.asarray(self.engine_for(x.shape)(x, mu, t))

    def engine_for(self, shape: tuple[int, ...]) -> Engine:
        """The engine for inputs of this shape: remembered, or measured now."""
        with self._lock:
            if shape not in self._chosen:
                path = self._memory(shape)
                index = _remembered(path, len(self._engines))
                if index is None:
                    index, lasting = self._fastest(shape)
                    if lasting:
                        _remember(path, index, self._engines[index].name)
                self._chosen[shape] = self._engines[index]
            return self._chosen[shape]

    def _fastest(self, shape: tuple[int, ...]) -> tuple[int, bool]:
        """The engine with the fastest evaluation, and whether that is to last.

        One that fails is the slowest; where it was for want of memory, there may be more of it another day.
        """
        x = np.full(shape, 0.5, dtype=np.float32)
        t = np.full(shape[0], 1, dtype=np.float32)
        best = [float("inf")] * len(self._engines)
        failures: dict[int, EngineError] = {}
        for repeat in range(REPEATS + 1):
            for index in set(range(len(self._engines))) - failures.keys():
                started = time.perf_counter()
                try:
                    self._engines[index](x, x, t)
                except EngineError as error:
                    failures[index], best[index] = error, float("inf")
                else:
                    best[index] = min(best[index], time.perf_counter() - started) if repeat else best[index]
        if len(failures) == len(self._engines):
            raise failures[0]
        fastest = best.index(min(best))
        for index, engine in enumerate(self._engines):
            if index != fastest and isinstance(engine, OpenVinoEngine):
                engine.forget(shape)
        return fastest, not any(isinstance(failure, OutOfMemoryError) for failure in failures.values())

    def _memory(self, shape: tuple[int, ...]) -> Path:
        """Where the choice is kept: by model, versions, rewrites, shape, processor and threads."""
        rewrites = {engine: [rewrite.__name__ for rewrite in chosen] for engine, chosen in REWRITES.items()}
        versions = (__version__, rewrites, [engine.name for engine in self._engines])
        what = repr((self._key, versions, shape, _processor(), usable_threads()))
        return cache_folder() / "engines" / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"


@cache
def _processor() -> str:
    """The processor, with its instruction sets where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.split("\t")[0].strip() in ("model name", "flags", "Features")]
    return f"{platform.machine()} {platform.processor()} {sorted(set(told))}"


def _remember(path: Path, index: int, name: str) -> None:
    """Keep a choice, where the cache can be written to; elsewhere the next process measures again."""
    with contextlib.suppress(OutputFileError), write_atomically(path) as temporary:
        temporary.write_text(json.dumps({"engine": index, "name": name}))


def _remembered(path: Path, engines: int) -> int | None:
    try:
        index = json.loads(path.read_text())["engine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if type(index) is int and 0 <= index < engines else None
