"""What the OpenVINO engine keeps of the sizes that it has compiled, on a stand-in for OpenVINO that counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from irsde_deploy.runtimes.engines import auto_engine
from irsde_deploy.runtimes.engines.auto_engine import AutoEngine
from irsde_deploy.runtimes.engines.openvino_engine import MAX_BYTES, OpenVinoEngine

T = np.ones(1, np.float32)


class Graph:
    """Inputs by name; a clone that is reshaped becomes one of fixed sizes."""

    def __init__(self, names: tuple[str, ...] = ("x", "mu", "t")) -> None:
        self.inputs = [SimpleNamespace(any_name=name) for name in names]
        self.shapes: dict[str, tuple[int, ...]] = {}

    def clone(self) -> Graph:
        return Graph(tuple(node.any_name for node in self.inputs))

    def reshape(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes


class Request:
    """Writes every answer to the same memory, and counts evaluations that meet."""

    def __init__(self, core: Core, shape: tuple[int, ...], names: set[str]) -> None:
        self.core, self.names, self.answer = core, names, np.zeros(shape, np.float32)

    def infer(self, inputs: dict[str, np.ndarray], share_inputs: bool) -> list[np.ndarray]:
        assert set(inputs) == self.names
        assert inputs["x"].shape == self.answer.shape
        self.core.at_work += 1
        self.core.overlaps += self.core.at_work > 1
        self.answer[:] = inputs["x"]
        time.sleep(0.002)
        self.core.at_work -= 1
        return [self.answer]


class Core:
    """Attributes: compiled: the shapes of x, in their order. settings: of the last one."""

    def __init__(self) -> None:
        self.compiled: list[tuple[int, ...]] = []
        self.settings: dict[str, Any] = {}
        self.at_work = self.overlaps = 0

    def compile_model(self, graph: Graph, device: str, settings: dict[str, Any]) -> Any:
        assert device == "CPU"
        self.settings = settings
        self.compiled.append(graph.shapes["x"])
        return SimpleNamespace(
            create_infer_request=lambda: Request(self, graph.shapes["x"], {node.any_name for node in graph.inputs})
        )


@pytest.fixture
def core() -> Core:
    return Core()


def engine_of(core: Core, size: int = 0, names: tuple[str, ...] = ("x", "mu", "t")) -> OpenVinoEngine:
    return OpenVinoEngine(core, Graph(names), None, "1", size)  # type: ignore[arg-type]


def of_width(width: int, value: float = 0.5) -> np.ndarray:
    return np.full((1, 3, 8, width), value, np.float32)


def test_threads_take_turns_at_every_size(core: Core) -> None:
    engine = engine_of(core)
    pictures = [of_width(1 + k % 2, k) for k in range(12)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: engine(x, x, T), pictures))
    assert core.overlaps == 0
    assert len(core.compiled) == 2
    for x, eps in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(eps, x)  # its own memory: the next evaluation writes over the request's


def test_the_size_unused_for_longest_goes(core: Core) -> None:
    engine = engine_of(core)
    widths = [1, 2, 3, 4, 1, 5, 1, 3, 4, 5]
    for width in widths:
        engine(of_width(width), of_width(width), T)
    assert [shape[-1] for shape in core.compiled] == [1, 2, 3, 4, 5], "2 made room for 5"
    engine(of_width(2), of_width(2), T)
    assert len(core.compiled) == 6


@pytest.mark.parametrize(("size", "kept"), [(0, 4), (MAX_BYTES // 3, 3), (MAX_BYTES // 3 + 1, 2), (3 * MAX_BYTES, 1)])
def test_large_weights_leave_room_for_fewer_sizes_and_for_one_always(core: Core, size: int, kept: int) -> None:
    engine = engine_of(core, size)
    for width in range(1, 7):
        engine(of_width(width), of_width(width), T)
    assert len(engine._requests) == kept
    engine(of_width(6), of_width(6), T)
    assert len(core.compiled) == 6


def test_what_is_forgotten_is_compiled_again(core: Core) -> None:
    engine = engine_of(core)
    for _ in range(2):
        engine(of_width(1), of_width(1), T)
        engine.forget((1, 3, 8, 1))
        engine.forget((1, 3, 8, 9))  # which never was
    assert len(core.compiled) == 2


def test_a_size_is_compiled_for_itself_in_float32_on_the_threads_that_are_wanted(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    engine = engine_of(core, names=("x", "t"))
    eps = engine(of_width(2, 7), of_width(2, 1), T)
    assert eps.tolist() == of_width(2, 7).tolist()
    assert engine._graph.shapes == {}, "the graph itself stays as it is"
    assert core.settings["INFERENCE_PRECISION_HINT"] == "f32", "and not bfloat16, where a processor has it"
    assert core.settings["INFERENCE_NUM_THREADS"] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    engine(of_width(3), of_width(3), T)
    assert "INFERENCE_NUM_THREADS" not in core.settings, "as many as there are"


def test_what_lost_a_race_gives_its_memory_back(core: Core, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path))
    slow = engine_of(core)

    ticks = iter(range(1000))  # every look at the clock is a second later: both take as long, and the first is taken
    monkeypatch.setattr(auto_engine, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))

    def at_once(x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return x

    at_once.name = "at once"  # type: ignore[attr-defined]
    quick: Callable[..., np.ndarray] = at_once
    engine = AutoEngine([quick, slow], "a model")  # type: ignore[list-item]
    assert engine.engine_for((1, 3, 8, 2)) is quick
    assert len(core.compiled) == 1
    assert not slow._requests
