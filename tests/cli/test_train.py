"""train, evaluate and degrade as a user runs them: what they print and write, and one sentence for each mistake."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import irsde
from golden import load_case
from places import DATA
from random_networks import random_network
from sample_pictures import photograph, write_photographs

from irsde_deploy import ModelCard
from irsde_deploy.core.comparison import psnr
from irsde_deploy.export.description import describe, flags
from irsde_deploy.networks.checkpoints import read_checkpoint, save_checkpoint
from irsde_deploy.pictures.degradations import degradation, degrade_picture
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.metrics import ring_error

TINY = DATA / "tiny_recipe.toml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LQ/ and GT/ with six pairs."""
    folder = tmp_path_factory.mktemp("data")
    write_photographs(folder / "GT")
    rain = degradation("rain")
    for path in sorted((folder / "GT").iterdir()):
        clean = read_picture(path).rgb
        write_picture(folder / "LQ" / f"{path.stem}.png", Picture(degrade_picture(clean, rain, 1)))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden U-Net with its card: a checkpoint that run and evaluate take."""
    case = load_case("unet_nf8_depth4")
    weights = read_checkpoint(case.weights)
    path = tmp_path_factory.mktemp("checkpoint") / "unet.pt"
    save_checkpoint(path, weights.weights, describe(weights, [flags(steps=2, **case.sde)]).card)
    return path


def test_train_resume_and_run_from_two_folders(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folders = ["--lq", data / "LQ", "--gt", data / "GT", "--recipe", TINY, "--task", "derain"]
    started = irsde("train", *folders, "-o", run, "--iterations", 6, "--stop-at", 4, "--set", "validate_every=3")
    assert started.returncode == 0, started.stderr
    assert "max_sigma = 30.0 (from --recipe tiny_recipe)" in started.stdout
    assert "iteration 3: loss" in started.stdout
    *lines, last = started.stdout.splitlines()
    validation = next(line for line in lines if line.startswith("iteration 3: loss"))
    decibels = validation.split("->")[1].strip()
    best = f"{run}/best.pt, the best validation: iteration 3, {decibels}"
    assert last == f"wrote {run}/last.pt, the last iteration, and {best}"
    assert started.stderr == f"irsde-deploy: 'irsde-deploy train --resume {run}' continues the run\n"
    resumed = irsde("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at iteration 4" in resumed.stdout
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[5]["psnr"]
    assert sorted(p.name for p in run.iterdir() if p.is_file()) == ["best.pt", "curve.png", "last.pt", "log.csv"]
    restored = irsde("run", "--engine", run / "best.pt", data / "LQ" / "p0.png", "-o", tmp_path / "out.png")
    assert restored.returncode == 0, restored.stderr
    assert read_picture(tmp_path / "out.png").rgb.shape == (48, 64, 3)


def test_a_run_without_a_terminal_says_how_far_it_is(
    data: Path, tmp_path: Path, succeeds: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("irsde_deploy.cli.train")  # in its package the command has its name
    monkeypatch.setattr(module, "PACE", 0.0)
    command = ("train", "--gt", data / "GT", "--lq", data / "LQ", "--recipe", TINY, "-o", tmp_path / "run")
    stdout, _ = succeeds(*command, "--iterations", 3, "--stop-at", 2)
    assert re.search(r"^iteration 1 of 3: loss [\d.e-]+, about \d:\d\d:\d\d left$", stdout, re.MULTILINE), stdout
    last = stdout.splitlines()[-1]
    assert last.startswith(f"wrote {tmp_path}/run/last.pt, the last iteration; {tmp_path}/run/best.pt comes with the ")
    stdout, stderr = succeeds("train", "--resume", tmp_path / "run", "-q")
    assert (stdout, stderr) == ("", "")


def test_evaluate_measures_what_was_restored(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ["--crop-border", 0, "--save-pictures", "--worst", 2]
    result = irsde("evaluate", "--engine", checkpoint, "--data", data, "-o", report, *arguments)
    assert result.returncode == 0, result.stderr
    with (report / "pictures.csv").open() as file:
        rows = {row["picture"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"p{i}" for i in range(6)]
    values = []
    for name, row in rows.items():
        clean = read_picture(data / "GT" / f"{name}.png").rgb
        restored = read_picture(report / "restored" / f"{name}.png").rgb
        expected = psnr(restored, clean)
        ring, interior = ring_error(restored, clean)
        assert (float(row["ring"]), float(row["interior"])) == pytest.approx((ring, interior), rel=1e-6)
        assert float(row["psnr"]) == pytest.approx(expected, rel=1e-6)
        before = psnr(read_picture(data / "LQ" / f"{name}.png").rgb, clean)
        assert float(row["input_psnr"]) == pytest.approx(before, rel=1e-6)
        assert row["evaluations"] == "2"
        values.append(expected)
    summary = json.loads((report / "summary.json").read_text())
    assert summary["mean"]["psnr"] == pytest.approx(np.mean(values), rel=1e-6)
    assert (summary["pictures"], summary["failed"], summary["sampler"]) == (6, 0, "mean")
    assert f"| psnr | {np.mean(values):.5g} |" in (report / "summary.md").read_text()
    sheet = read_picture(report / "worst.png").rgb
    assert sheet.shape == (20 + 2 * (240 + 20), 960, 3)
    heads = sheet[:20].reshape(20, 3, 320, 3)
    assert (heads.max((0, 2, 3)) > 200).all(), "each column has a head"
    assert sheet[:20, 200:320].max() == 0


def test_evaluate_goes_on_after_a_broken_picture(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    content = (broken / "LQ" / "p3.png").read_bytes()
    (broken / "LQ" / "p3.png").write_bytes(content[: len(content) // 2])
    result = irsde("evaluate", "--engine", checkpoint, "--data", broken, "-o", tmp_path / "r", "--steps", 1)
    assert result.returncode == 4
    assert "p3.png: the picture is damaged" in result.stderr
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["pictures"], summary["failed"]) == (6, 1)


def test_degrade_is_what_training_sees(data: Path, tmp_path: Path) -> None:
    source, out = data / "GT" / "p1.png", tmp_path / "out.png"
    arguments = ["--kind", "rain", "--seed", 3, "--set", "length=10,20", "--set", "layers=2"]
    result = irsde("degrade", source, "-o", out, *arguments)
    assert result.returncode == 0, result.stderr
    apply = degradation("rain", {"length": [10, 20], "layers": 2})
    np.testing.assert_array_equal(read_picture(out).rgb, degrade_picture(photograph(1), apply, 3))
    assert irsde("degrade", source, "-o", out, *arguments).returncode == 1, "an existing file is not replaced"


def test_run_denoises_at_a_given_and_at_an_estimated_level(tmp_path: Path) -> None:
    network = random_network("ConditionalNAFNet")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.ending.bias.fill_(0.1)  # eps = 0.1 everywhere: the picture gets darker by 0.1 sigma of the start
    blank = Path(tmp_path / "blank.pt")
    loaded = _described(network)
    save_checkpoint(blank, network.state_dict(), loaded)
    noisy = degrade_picture(photograph(2, 96, 96), degradation("gaussian-noise", {"sigma": 20}), 0)
    write_picture(tmp_path / "in.png", Picture(noisy))
    for level, note in (("--noise-level=20", "noise level 20"), (None, "noise level estimated")):
        extra = [level] if level else []
        out = tmp_path / f"out{len(extra)}.png"
        result = irsde("run", "--engine", blank, tmp_path / "in.png", "-o", out, "--sampler", "ddim", *extra)
        assert result.returncode == 0, result.stderr
        assert note in result.stdout
        darker = noisy - read_picture(out).rgb.astype(float)
        inside = (noisy > 5) & (noisy < 250)
        assert darker[inside].mean() == pytest.approx(2.0, abs=0.4)  # 0.1 sigma; the estimate is off by up to 15 %
    estimated = float(result.stdout.split("noise levels ")[1].split(" to ")[0])
    assert estimated == pytest.approx(20, rel=0.25)  # texture counts as noise, clipping takes some away
    result = irsde("run", "--engine", blank, tmp_path / "in.png", "-o", tmp_path / "x.png", "--noise-level", 80)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "at most 75" in result.stderr


def _described(network: torch.nn.Module) -> ModelCard:
    from irsde_deploy.networks.checkpoints import Checkpoint

    return describe(Checkpoint(Path("x.pt"), dict(network.state_dict()), None, ""), [flags(max_sigma=75, T=30)]).card


def test_mistakes_in_training_are_one_sentence(data: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    gt, lq, out = ("--gt", data / "GT"), ("--lq", data / "LQ"), ("-o", tmp_path / "run")
    small = ("--recipe", TINY)
    fails_with(2, "either -o FOLDER for a new run or --resume", "train", *gt)
    fails_with(1, "no training run to resume there", "train", "--resume", tmp_path)
    fails_with(2, "which pictures shall be trained on", "train", *out, *small)
    fails_with(2, "what shall be restored", "train", *out, *gt, *small)
    fails_with(2, "not both", "train", *out, *gt, *lq, "--degradation", "rain", *small)
    fails_with(2, "must be one of rain", "train", *out, *gt, "--degradation", "snow", *small)
    fails_with(1, "no such folder", "train", *out, "--gt", tmp_path / "none", *lq, *small)
    fails_with(2, "--set takes NAME=VALUE", "train", *out, *gt, *lq, *small, "--set", "batch")
    fails_with(
        2,
        "training has the unknown field 'speed': it has objective",
        "train",
        *out,
        *gt,
        *lq,
        *small,
        "--set",
        "speed=3",
    )
    fails_with(2, "patch must be a multiple of 4", "train", *out, *gt, *lq, *small, "--patch", 18)
    fails_with(2, "no picture called zebra", "train", *out, *gt, *lq, *small, "--hold-out", "zebra")
    lonely = tmp_path / "lonely"
    shutil.copytree(data / "LQ", lonely)
    (lonely / "p2.png").rename(lonely / "q2.png")
    fails_with(1, "q2.png: has no partner of the same name", "train", *out, *gt, "--lq", lonely, *small)
    write_picture(lonely / "p2.png", Picture(photograph(2, 40, 64)))
    (lonely / "q2.png").unlink()
    fails_with(1, "p2.png: is 64x40 and its partner", "train", *out, *gt, "--lq", lonely, *small)
    assert not (tmp_path / "run").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "best.pt").write_bytes(b"precious")
    fails_with(1, "best.pt: exists already, from another run", "train", "-o", mine, *gt, *lq, *small)
    assert (mine / "best.pt").read_bytes() == b"precious"
    fails_with(2, "is given for clean and for degraded", "train", *out, *gt, "--lq", data / "GT", *small)
    fails_with(2, "is inside", "train", "-o", data / "GT" / "run", *gt, *lq, *small)
    fails_with(2, "validation folders must be like", "train", *out, *gt, *lq, *small, "--validation-lq", data / "LQ")
    options = tmp_path / "odd.yml"
    options.write_text("sde: {max_sigma: 10, T: 9, schedule: cosine, eps: 0.1}\ntrain: {lr_scheme: [a]}\n")
    fails_with(2, "scheme must be one of cosine", "train", *out, *gt, *lq, "--recipe", TINY, "--opt", options)


def test_mistakes_in_resuming_are_one_sentence(data: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    run = tmp_path / "run"
    folders = ["--lq", data / "LQ", "--gt", data / "GT", "--recipe", TINY]
    assert irsde("train", *folders, "-o", run, "--iterations", 4, "--stop-at", 3).returncode == 0
    fails_with(2, "give a larger --stop-at", "train", "--resume", run, "--stop-at", 2)
    fails_with(2, "give a larger --iterations", "train", "--resume", run, "--iterations", 2)
    fails_with(2, "leave out --set, or start", "train", "--resume", run, "--set", "ema=0")
    whole = torch.load(run / "last.pt", weights_only=True)
    for change, message in (
        ({"optimizer": 5}, "last.pt: the training state does not fit"),
        ({"iteration": -3}, "last.pt: the training state is not finite, or of no iteration"),
        ({"tally": 5}, "last.pt: the training state lacks its tally"),
        ({"plan": "{}"}, "the checkpoint's training plan lacks card"),
    ):
        torch.save({**whole, "training": {**whole["training"], **change}}, run / "last.pt")
        code = 2 if "plan" in change else 1
        fails_with(code, message, "train", "--resume", run)
    (run / "last.pt").write_bytes(b"PK" + bytes(500))
    fails_with(1, "last.pt: not a PyTorch checkpoint", "train", "--resume", run)


def test_white_stays_in_range_where_noise_is_not_clipped(tmp_path: Path) -> None:
    write_picture(tmp_path / "white.png", Picture(np.full((40, 40, 3), 255, np.uint8)))
    arguments = ["--kind", "gaussian-noise", "--set", "clip=false", "-o", tmp_path / "o.png"]
    assert irsde("degrade", tmp_path / "white.png", *arguments).returncode == 0
    assert read_picture(tmp_path / "o.png").rgb.min() > 100  # six standard deviations of 25


def test_mistakes_in_evaluating_and_degrading_are_one_sentence(
    data: Path, checkpoint: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    engine, out = ("--engine", checkpoint), ("-o", tmp_path / "r")
    fails_with(2, "give either --data FOLDER", "evaluate", *engine, *out)
    report = tmp_path / "report"
    report.mkdir()
    (report / "summary.json").write_text("{}")
    fails_with(1, "holds a report already", "evaluate", *engine, "-o", report, "--data", data)
    fails_with(1, "whose pictures are measured", "evaluate", *engine, "-o", data / "GT", "--data", data)
    fails_with(1, "expected two subfolders, LQ and GT", "evaluate", *engine, *out, "--data", data / "GT")
    fails_with(1, "no such file", "evaluate", *engine, *out, "--data", data, "--lpips-weights", tmp_path / "a.pth")
    fails_with(2, "a noise level chooses", "evaluate", *engine, *out, "--data", data, "--noise-level", 25)
    picture, out = data / "GT" / "p0.png", ("-o", tmp_path / "o.png")
    fails_with(2, "must be one of rain", "degrade", picture, *out, "--kind", "snow")
    fails_with(2, "no parameter 'depth'", "degrade", picture, *out, "--kind", "rain", "--set", "depth=3")
    fails_with(2, "--set takes NAME=NUMBER", "degrade", picture, *out, "--kind", "rain", "--set", "length=long")
    fails_with(1, "no such file", "degrade", tmp_path / "none.png", *out, "--kind", "rain")
