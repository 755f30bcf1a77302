"""What each layer costs, and the search for those that must stay in floating point."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_quantisable import QUANTISABLE, SUM

from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.manifest import CalibrationSettings
from irsde_deploy.calibration.problem import Problem, search_float_layers
from irsde_deploy.calibration.range_table import states_of
from irsde_deploy.calibration.sensitivity import format_timesteps, measure_sensitivity
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.example import SEED
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.precision.trajectory import restore_seeded
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine


def test_single_layers_are_measured_in_the_fp32_graph(pairs: Path, source: Path, tmp_path: Path) -> None:
    """Whatever the rest will be: FP16 for the rest would hide what the layer alone does."""
    model, card = read_model(source)
    found = []
    for rest in ("fp32", "fp16"):
        settings = CalibrationSettings("mean", tuple(card.plan().table.t), crop=16, states=12, rest=rest)
        problem = Problem.of(model, card, find_data(str(pairs)), settings)
        found.append(measure_sensitivity(problem, problem.range_table(tmp_path)[0].ranges("mse")))
    np.testing.assert_array_equal(found[0].eps_error, found[1].eps_error)
    np.testing.assert_array_equal(found[0].restored_psnr, found[1].restored_psnr)


def test_sensitivity_is_what_one_layer_alone_does(pairs: Path, source: Path, tmp_path: Path) -> None:
    """One step of `mean` is mu + p y + r eps, so that the restored picture's error is r times that of eps."""
    model, card = read_model(source)
    settings = CalibrationSettings("mean", (100,), crop=64, states=12)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(tmp_path)[0].ranges("mse")
    sensitivity = measure_sensitivity(problem, ranges)
    fp32 = OnnxEngine.from_bytes(model.SerializeToString(), card)
    table = settings.table(card.sde)
    for row, name in enumerate(QUANTISABLE):
        alone = problem.quantised(ranges, frozenset(QUANTISABLE) - {name})
        int8 = OnnxEngine.from_bytes(alone.SerializeToString(), card)
        off = size = 0.0
        for state, _ in zip(states_of(model, card, problem.data, settings), range(4), strict=False):
            eps = [engine(state.x, state.mu, np.array([100], np.float32)) for engine in (fp32, int8)]
            off, size = off + np.sum((eps[1] - eps[0]) ** 2), size + np.sum(eps[0] ** 2)
        assert sensitivity.eps_error[row, 0] == pytest.approx(np.sqrt(off / size), rel=1e-4)
        decibels = []
        for mu, _ in problem.pictures()[:2]:
            x = (mu + table.start * seeded_noise(SEED, mu.shape)(0)).astype(np.float32)
            eps = [engine(x, mu, np.array([100], np.float32)) for engine in (fp32, int8)]
            decibels.append(-10 * np.log10(np.mean((table.r[0] * (eps[1] - eps[0]).astype(np.float64)) ** 2)))
        assert sensitivity.restored_psnr[row, 0] == pytest.approx(min(decibels), abs=2e-3), "float32 pictures"


@dataclass(frozen=True)
class AtOneTimestep:
    """An engine that is another one at one timestep."""

    usual: OnnxEngine
    other: OnnxEngine
    t: int
    name: str = "two"

    @property
    def card(self) -> ModelCard:
        return self.usual.card

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (self.other if t[0] == self.t else self.usual)(x, mu, t)


def test_a_layer_is_in_int8_in_the_step_that_is_measured_alone(pairs: Path, source: Path, tmp_path: Path) -> None:
    """Before and after it the FP32 graph answers; clipped, as the trajectory is."""
    model, card = read_model(source)
    settings = CalibrationSettings("mean", tuple(card.plan().table.t), crop=16, states=12, clip=True)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(tmp_path)[0].ranges("mse")
    sensitivity = measure_sensitivity(problem, ranges)
    table = settings.table(card.sde)
    fp32 = OnnxEngine.from_bytes(model.SerializeToString(), card)
    pictures = [mu for mu, _ in problem.pictures()[:2]]
    expected = [restore_seeded(fp32, mu, table, True) for mu in pictures]
    kept = frozenset(QUANTISABLE) - {QUANTISABLE[1]}
    int8 = OnnxEngine.from_bytes(problem.quantised(ranges, kept).SerializeToString(), card)
    for column, t in enumerate(settings.timesteps):
        restored = [restore_seeded(AtOneTimestep(fp32, int8, t), mu, table, True) for mu in pictures]
        worst = min(psnr(mine, theirs, 1.0) for mine, theirs in zip(restored, expected, strict=True))
        assert sensitivity.restored_psnr[1, column] == pytest.approx(worst, abs=1e-3)


def test_a_report_has_each_layers_error_at_each_timestep(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    arguments = ("--data", pairs, "--crop", 16, "--states", 12, "--report", tmp_path / "report")
    printed = calibrate(source, *arguments, "-o", tmp_path / "q.onnx")
    with (tmp_path / "report" / "sensitivity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    _, card = read_model(source)
    timesteps = card.plan().table.t.tolist()
    assert [(row["layer"], int(row["t"])) for row in rows] == [(n, t) for n in QUANTISABLE for t in timesteps]
    picture = cv2.imread(str(tmp_path / "report" / "sensitivity.png"))
    assert min(picture.shape[:2]) > 200
    ranking = (tmp_path / "report" / "ranking.md").read_text()
    assert ranking.strip() in printed
    harm = {n: sum(10 ** (-float(r["restored_psnr_db"]) / 10) for r in rows if r["layer"] == n) for n in QUANTISABLE}
    assert [line.split("`")[1] for line in ranking.splitlines() if "`" in line] == sorted(harm, key=harm.get)[::-1]
    of_first = sum(10 ** (-float(r["restored_psnr_db"]) / 10) for r in rows if int(r["t"]) == 100)
    assert f"% | {of_first / sum(harm.values()):.0%} |\n" in ranking.partition("\n| 100 | ")[2]
    assert f"Single harms add up to {-10 * np.log10(sum(harm.values())):.1f} dB" in ranking


def test_a_report_without_matplotlib_ends_before_anything_is_measured(
    pairs: Path, source: Path, tmp_path: Path, fails_with: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ("--data", pairs, "--report", tmp_path / "report", "-o", tmp_path / "q.onnx")
    fails_with(5, "plotting needs matplotlib", "calibrate", source, *arguments)
    assert not (tmp_path / "q.onnx").exists()


def test_a_report_of_a_long_trajectory_says_which_steps_it_is_of(pairs: Path, source: Path, tmp_path: Path) -> None:
    model, card = read_model(source)
    settings = CalibrationSettings("mean", tuple(range(24, 0, -1)), crop=16, states=24)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    sensitivity = measure_sensitivity(problem, problem.range_table(tmp_path)[0].ranges("mse"))
    assert (len(sensitivity.timesteps), sensitivity.steps) == (10, 24)
    assert (sensitivity.timesteps[0], sensitivity.timesteps[-1]) == (24, 1)
    assert "Single harms (at 10 of 24 steps) add up to" in format_timesteps(sensitivity)


OPERATIONS = {"/middle.0/Conv": 2 * 12 * 6, "/middle.1/Conv": 2 * 6 * 12 * 9, SUM: 6, "/middle.2/Conv": 2 * 6 * 9}
"""Of a pixel, counted by hand."""


def test_the_budget_is_kept_by_the_cheapest_layers(pairs: Path, source: Path, calibrate: Callable[..., str]) -> None:
    """Against all 16 sets of layers to keep."""
    model, card = read_model(source)
    settings = CalibrationSettings("mean", tuple(card.plan().table.t), crop=16, states=12, residuals=True)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(source.parent)[0].ranges("mse")
    quality = problem.quality(ranges, [mu for mu, _ in problem.pictures()])
    sets = [frozenset(kept) for count in range(5) for kept in combinations(OPERATIONS, count)]
    measured = {kept: quality(kept) for kept in sets}
    assert measured[frozenset(OPERATIONS)] == np.inf, "with all of them in float nothing changes"
    fewest_differ = 0
    for budget in sorted(measured.values())[1:-1]:
        enough = [kept for kept in sets if measured[kept] >= budget]
        cheapest = min(enough, key=cost)
        result = search_float_layers(problem, ranges, budget)
        assert set(result.kept) == cheapest
        assert result.quality == measured[cheapest]
        assert result.share == pytest.approx(cost(cheapest) / cost(OPERATIONS))
        fewest_differ += cost(min(enough, key=len)) > cost(cheapest)
    assert fewest_differ > 2
    output, budget = source.with_name("q.onnx"), measured[frozenset()] + 2
    arguments = ("--data", pairs, "-o", output, "--residuals", "--crop", 16, "--states", 12, "--rest", "fp32")
    printed = calibrate(source, *arguments, "--psnr-budget", budget)
    kept = json.loads(output.with_suffix(".json").read_text())["float_layers"]
    expected = min((kept for kept in sets if measured[kept] >= budget), key=cost)
    assert set(kept) == expected
    assert f"with {cost(kept) / cost(OPERATIONS):.1%} of the operations" in printed
    assert all(f"  {name}\n" in printed for name in kept)
    assert f"restored pictures have {measured[expected]:.1f} dB" in printed
    again = calibrate(source, "--manifest", output.with_suffix(".json"), "-o", source.with_name("again.onnx"))
    assert "the same file as the manifest's, byte for byte" in again, "with these layers in float, and no search"


def cost(kept: Iterable[str]) -> float:
    return sum(OPERATIONS[name] for name in kept)
