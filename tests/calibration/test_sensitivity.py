"""What each layer costs, and the search for those that must stay in floating point."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_quantisable import QUANTISABLE, SUM

from irsde_deploy.calibration.calibrate import Problem, search_float_layers
from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.range_table import states_of
from irsde_deploy.calibration.sensitivity import measure_sensitivity
from irsde_deploy.calibration.settings import CalibrationSettings
from irsde_deploy.export.example import SEED
from irsde_deploy.export.onnx_model import read_model
from irsde_deploy.noise import seeded_noise
from irsde_deploy.runtimes.onnx_engine import OnnxEngine


def test_single_layers_are_measured_in_the_fp32_graph(pairs: Path, source: Path, tmp_path: Path) -> None:
    """Whatever the rest will be: FP16 for the rest would hide what the layer alone does."""
    model, card = read_model(source)
    found = []
    for rest in ("fp32", "fp16"):
        settings = CalibrationSettings("mean", tuple(card.plan().t), crop=16, states=12, rest=rest)
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
        assert sensitivity.restored_psnr[row, 0] == pytest.approx(min(decibels), abs=0.02)


def test_a_report_has_each_layers_error_at_each_timestep(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    arguments = ("--data", pairs, "--crop", 16, "--states", 12, "--report", tmp_path / "report")
    printed = calibrate(source, *arguments, "-o", tmp_path / "q.onnx")
    with (tmp_path / "report" / "sensitivity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    _, card = read_model(source)
    timesteps = card.plan().t.tolist()
    assert [(row["layer"], int(row["t"])) for row in rows] == [(n, t) for n in QUANTISABLE for t in timesteps]
    picture = cv2.imread(str(tmp_path / "report" / "sensitivity.png"))
    assert min(picture.shape[:2]) > 200
    ranking = (tmp_path / "report" / "ranking.md").read_text()
    assert ranking.strip() in printed
    harm = {n: sum(10 ** (-float(r["restored_psnr_db"]) / 10) for r in rows if r["layer"] == n) for n in QUANTISABLE}
    assert [line.split("`")[1] for line in ranking.splitlines() if "`" in line] == sorted(harm, key=harm.get)[::-1]
    of_first = sum(10 ** (-float(r["restored_psnr_db"]) / 10) for r in rows if int(r["t"]) == 100)
    assert f"% | {of_first / sum(harm.values()):.0%} |\n" in ranking.partition("\n| 100 | ")[2]
    assert f"add up to {-10 * np.log10(sum(harm.values())):.1f} dB" in ranking


def test_the_budget_is_kept_by_layers_none_of_which_can_go(pairs: Path, source: Path, calibrate) -> None:
    output = source.with_name("q.onnx")
    arguments = ("--data", pairs, "-o", output, "--residuals", "--crop", 16, "--states", 12, "--overwrite")
    full = float(calibrate(source, *arguments).partition("restored pictures have ")[2].split()[0])
    budget = full + 2
    printed = calibrate(source, *arguments, "--psnr-budget", budget)
    assert float(printed.partition("restored pictures have ")[2].split()[0]) >= budget - 0.05
    kept = json.loads(output.with_suffix(".json").read_text())["float_layers"]
    assert 0 < len(kept) < 4
    assert all(f"  {name}\n" in printed for name in kept)
    model, card = read_model(source)
    settings = CalibrationSettings("mean", tuple(card.plan().t), crop=16, states=12, residuals=True)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(source.parent)[0].ranges("mse")
    quality = problem.quality(ranges, [mu for mu, _ in problem.pictures()])
    assert quality(frozenset(kept)) >= budget
    for name in kept:
        assert quality(frozenset(kept) - {name}) < budget, f"{name} could have been released"
    assert search_float_layers(problem, ranges, budget).kept == tuple(kept)
    assert quality(frozenset({*QUANTISABLE, SUM})) == np.inf, "with all of them in float nothing changes"
