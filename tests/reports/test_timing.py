"""What is timed, how often, in which turns, and what becomes of the seconds; clocks and processes are scripted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.presets import PRESETS
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.reports import machine, timing
from irsde_deploy.reports.machine import matrix_product_peak, peak_memory
from irsde_deploy.reports.timing import Contestant, in_turns, time_evaluations, time_pictures

CARD = ModelCard("toy", {}, 3, 4, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005))
BLIND = ModelCard("toy", {"conditional": False}, 3, 4, "zero", DenoisingSDE(75, 100, "cosine"))


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 5.0

    def perf_counter(self) -> float:
        return self.now


class Scripted:
    """A restorer whose evaluations take what a script says, and whose pictures take as long as their preset."""

    def __init__(self, seconds: list[float], clock: Clock | None = None, card: ModelCard = CARD) -> None:
        self.seconds, self.clock, self.card, self.sde = iter(seconds), clock, card, card.sde
        self.seen: list[object] = []

    def seconds_per_evaluation(self, picture: np.ndarray, sampling: Sampling | None = None, repeats: int = 3) -> float:
        self.seen.append((picture.shape, picture.dtype, repeats))
        return next(self.seconds)

    def __call__(self, picture: np.ndarray, sampling: Sampling, quality: str) -> np.ndarray:
        assert self.clock is not None
        self.seen.append((picture.shape, sampling, quality))
        self.clock.now += next(self.seconds)
        return picture


def contestant(name: str, restorer: Scripted, operations: Callable[[int, int, int], int] | None = None) -> Contestant:
    return Contestant(name, restorer, Path(f"{name}.onnx"), operations=operations)  # type: ignore[arg-type]


def test_the_first_turn_warms_up_and_does_not_count() -> None:
    order: list[str] = []

    def work(name: str, times: Iterator[float]) -> Callable[[], float]:
        return lambda: order.append(name) or next(times)  # type: ignore[func-returns-value]

    taken = in_turns([work("a", iter([9.0, 1.0, 2.0])), work("b", iter([8.0, 3.0, 4.0]))], 2)
    assert taken == [[1.0, 2.0], [3.0, 4.0]]
    assert order == ["a", "b"] * 3


def test_an_evaluation_s_speed_is_of_its_batch_and_of_the_median() -> None:
    times = [9.0, 4.0, 1.0, 2.0, 8.0, 3.0]
    fast = contestant("fast", Scripted(times), lambda batch, height, width: batch * height * width * 10**6)
    slow = contestant("slow", Scripted([10 * seconds for seconds in times]))
    one, other = time_evaluations([fast, slow], [(8, 12)], 5, 5, 1e9)
    assert fast.restorer.seen == [((5, 8, 12, 3), np.uint8, 1)] * 6
    assert (one.engine, one.size, one.batch, one.precision) == ("fast", "8x12", 5, "fp32")
    assert (one.median, one.p95) == (3.0, pytest.approx(7.2)), "of 1, 2, 3, 4 and 8"
    assert one.gflops == pytest.approx(5 * 8 * 12 * 10**6 / 3 / 1e9)
    assert one.share == one.gflops
    assert (other.median, other.gflops, other.share) == (30.0, None, None)
    assert statistics.mean(times[1:]) != one.median
    (unknown,) = time_evaluations([contestant("a", Scripted(times), lambda *_: 6 * 10**9)], [(8, 12)], 1, 5, None)
    assert (unknown.gflops, unknown.share) == (2.0, None)


def test_whole_pictures_by_every_engine_and_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    one = contestant("one", Scripted([9.0, 1.0, 2.0, 6.0, 7.0, 5.0, 3.0, 4.0], clock))
    two = contestant("two", Scripted([90.0, 10.0, 20.0, 60.0, 70.0, 50.0, 30.0, 40.0], clock))
    asked: list[tuple[str, str]] = []

    def measure(each: Contestant, quality: str) -> float:
        asked.append((each.name, quality))
        return 20.0 + len(asked)

    found = list(time_pictures([one, two], (8, 12), ["draft", "fast"], 3, measure))
    assert asked == [("one", "draft"), ("two", "draft"), ("one", "fast"), ("two", "fast")]
    assert [(t.engine, t.quality, t.size, t.median, t.psnr) for t in found] == [
        ("one", "draft", "8x12", 2.0, 21.0),
        ("two", "draft", "8x12", 20.0, 22.0),
        ("one", "fast", "8x12", 4.0, 23.0),
        ("two", "fast", "8x12", 40.0, 24.0),
    ]
    assert [t.made_of for t in found[::2]] == [str(PRESETS["draft"]), str(PRESETS["fast"])]
    assert one.restorer.seen == [((8, 12, 3), Sampling(), "draft")] * 4 + [((8, 12, 3), Sampling(), "fast")] * 4
    restorer = Scripted([1.0] * 2, clock)
    assert [t.psnr for t in time_pictures([contestant("a", restorer)], (8, 8), ["draft"], 1)] == [None]


def test_models_that_start_at_a_noise_level_start_at_the_highest() -> None:
    assert contestant("a", Scripted([])).sampling == Sampling()
    assert contestant("a", Scripted([], card=BLIND)).sampling == Sampling(t0=100)


def test_the_machine_s_peak_is_that_of_its_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 3.0, 10.0, 10.5, 20.0, 24.0])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    monkeypatch.setattr(machine, "PEAK_SIDE", 8)
    monkeypatch.setattr(machine, "PEAK_REPEATS", 3)
    assert matrix_product_peak() == 2 * 8**3 / 0.5


def test_memory_is_asked_of_a_process_with_the_engine_s_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    told = f'echo "$@" >> {tmp_path}/told'
    python.write_text(f"#!/bin/sh\nshift 2\n{told}\necho peak 7 of it\necho peak 123\nexit $CODE\n")
    python.chmod(0o755)
    monkeypatch.setattr(machine.sys, "executable", str(python))
    monkeypatch.setenv("CODE", "0")
    of_kind = Contestant("a", Scripted([]), Path("a.onnx"), provider="openvino")  # type: ignore[arg-type]
    assert peak_memory(of_kind, (8, 12), 5) == 123 * 1024
    assert peak_memory(contestant("b", Scripted([])), (8, 12)) == 123 * 1024
    on_gpu = Contestant("a", Scripted([]), Path("a.onnx"), device="cuda")  # type: ignore[arg-type]
    plan = Contestant("a", Scripted([]), Path("a.PLAN"))  # type: ignore[arg-type]
    assert peak_memory(on_gpu, (8, 12)) is peak_memory(plan, (8, 12)) is None
    assert (tmp_path / "told").read_text() == "a.onnx openvino 5 8 12\nb.onnx  1 8 12\n"
    monkeypatch.setenv("CODE", "1")
    assert peak_memory(of_kind, (8, 12), 5) is None
