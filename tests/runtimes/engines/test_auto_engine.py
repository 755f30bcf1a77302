"""The choice between engines, where it could go wrong quietly."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from irsde_deploy.errors import EngineError
from irsde_deploy.graphs import cpu_rewrites
from irsde_deploy.runtimes.engines import auto_engine
from irsde_deploy.runtimes.engines.auto_engine import REPEATS, AutoEngine

SHAPE = (1, 3, 8, 8)


@pytest.fixture(autouse=True)
def own_cache_and_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that engines alone put forward, so that no choice hangs on what else the machine does."""
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(auto_engine, "time", SimpleNamespace(perf_counter=lambda: Timed.now))


class Timed:
    """An engine that takes some time, counts its calls, and fails from one of them on."""

    card = None
    now = 0.0

    def __init__(self, name: str, seconds: float, fails_from: int = 10**9) -> None:
        self.name, self.seconds, self.fails_from, self.calls = name, seconds, fails_from, 0

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls >= self.fails_from:
            raise EngineError(f"{self.name} cannot")
        Timed.now += self.seconds
        return x


class Patient(Timed):
    """Gives other threads time to come in."""

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        time.sleep(0.005)
        return super().__call__(x, mu, t)


def test_threads_that_ask_at_once_measure_once() -> None:
    engines = [Patient("A", 0.002), Patient("B", 0.02)]
    auto = AutoEngine(engines, "a model")
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(auto.engine_for, [SHAPE] * 4))
    assert found == {engines[0]}
    assert [engine.calls for engine in engines] == [REPEATS + 1] * 2


@pytest.mark.parametrize("fails_from", [1, 2, REPEATS + 1])
def test_an_engine_that_fails_at_any_time_loses(fails_from: int) -> None:
    failing, slow = Timed("A", 0.0, fails_from), Timed("B", 0.002)
    assert AutoEngine([failing, slow], "a model").engine_for(SHAPE) is slow
    assert failing.calls == fails_from, "and is not asked again"


def test_a_choice_of_an_engine_that_there_is_not_is_made_anew() -> None:
    auto = AutoEngine([Timed("A", 0.01), Timed("B", 0.0)], "a model")
    path = auto._memory(SHAPE)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"engine": 2, "name": "C"}))
    assert auto.engine_for(SHAPE).name == "B"


def test_a_choice_ends_with_what_made_the_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of ours, and other rewrites for either engine."""

    def memory() -> Path:
        return AutoEngine([Timed("A", 0)], "a model")._memory(SHAPE)

    paths = [memory()]
    monkeypatch.setattr(auto_engine, "__version__", "99")
    paths.append(memory())
    monkeypatch.setitem(cpu_rewrites.REWRITES, "openvino", ())
    paths.append(memory())
    assert len(set(paths)) == 3
