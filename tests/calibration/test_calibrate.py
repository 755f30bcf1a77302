"""`irsde-deploy calibrate` from pictures to a file: repeatable, cached, measured; and what each layer costs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden import load_case
from onnx import numpy_helper
from small_quantisable import QUANTISABLE, SUM, small_quantisable

from irsde_deploy import load
from irsde_deploy.__main__ import main
from irsde_deploy.calibration.calibrate import INT8_KEY, Problem, search_float_layers
from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.range_table import states_of
from irsde_deploy.calibration.ranges import METHODS
from irsde_deploy.calibration.sensitivity import measure_sensitivity
from irsde_deploy.calibration.settings import CalibrationSettings
from irsde_deploy.cli.calibrate import METHODS as OFFERED
from irsde_deploy.export.onnx_model import read_model, write_model
from irsde_deploy.metrics import psnr
from irsde_deploy.runtimes.onnx_engine import OnnxEngine

ASSETS = Path(__file__).parents[2] / "assets"


def write_pairs(folder: Path, count: int = 3) -> Path:
    """LQ and GT of a few smooth pictures, 28x24."""
    rng = np.random.default_rng(8)
    for name in map(str, range(count)):
        clean = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (28, 24), interpolation=cv2.INTER_CUBIC)
        spoilt = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8)
        for kind, picture in (("LQ", spoilt), ("GT", clean)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{name}.png"), picture)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model, card = small_quantisable()
    write_model(model, card, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.fixture
def irsde(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capfd.readouterr()
        assert not stop.value.code, printed.err
        return printed.out

    return run


@pytest.fixture
def calibrate(irsde: Callable[..., str]) -> Callable[..., str]:
    return partial(irsde, "calibrate")


def test_a_run_writes_a_graph_a_manifest_and_ranges(pairs: Path, source: Path, calibrate: Callable[..., str]) -> None:
    output = source.with_name("q.onnx")
    printed = calibrate(source, "--data", pairs, "-o", output, "--crop", 16, "--seed", 4)
    assert "3 pairs, states drawn exactly" in printed
    assert "mean, 3 steps: t = 100, " in printed
    assert "3 of 3 layers in INT8, the rest in fp32" in printed
    model, card = read_model(output)
    assert card.precision == "int8"
    about = json.loads(next(entry.value for entry in model.metadata_props if entry.key == INT8_KEY))
    manifest = json.loads(output.with_suffix(".json").read_text())
    assert about["states"] == manifest["settings"]["states"] >= 66, "33 are doubled at least once to be compared"
    assert [picture["name"] for picture in manifest["pictures"]] == ["0", "1", "2"]
    assert (source.parent / manifest["ranges"]).is_file()
    picture = cv2.imread(str(pairs / "LQ" / "1.png"))[:, :, ::-1]
    full, low = load(source)(picture / np.float32(255)), load(output, fallback=source)(picture / np.float32(255))
    assert 20 < psnr(low, full, 1.0) < 60
    worst = float(printed.partition("restored pictures have ")[2].split()[0])
    assert worst == pytest.approx(psnr(low, full, 1.0), abs=6), "of the same kind as what was printed"


def test_a_manifest_repeats_the_run_byte_for_byte(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    first = tmp_path / "a" / "q.onnx"
    calibrate(source, "--data", f"{pairs / 'LQ'},{pairs / 'GT'}", "-o", first, "--crop", 16, "--residuals", "--seed", 9)
    again = tmp_path / "b" / "q.onnx"
    printed = calibrate(source, "--manifest", first.with_suffix(".json"), "-o", again)
    assert "the same file as the manifest's, byte for byte" in printed
    assert again.read_bytes() == first.read_bytes()
    assert "whose hash fits" not in printed, "another folder: the ranges were measured again"
    tables = [json.loads(next(path.parent.glob("ranges-*.json")).read_text()) for path in (first, again)]
    assert tables[0]["tensors"] == tables[1]["tensors"]
    other = tmp_path / "c" / "q.onnx"
    calibrate(source, "--data", pairs, "-o", other, "--crop", 16, "--residuals", "--seed", 10)
    assert other.read_bytes() != first.read_bytes(), "the seed is of use"


def test_a_range_table_is_used_again_where_its_hash_fits(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    common = ("--data", pairs, "--crop", 16, "--states", 12, "--cache", tmp_path / "cache")
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "a.onnx")
    (path,) = (tmp_path / "cache").iterdir()
    assert "whose hash fits" in calibrate(source, *common, "-o", tmp_path / "b.onnx", "--method", "minmax")
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "c.onnx", "--seed", 1)
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "d.onnx", "--steps", 2)
    path.write_text("{")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "b.onnx").read_bytes()
    calibrate(source, *common, "-o", tmp_path / "a.onnx", "--overwrite")
    assert all(json.loads(p.read_text()) for p in (tmp_path / "cache").iterdir()), "a damaged table is measured again"


def test_without_clean_pictures_states_are_recorded(pairs: Path, source: Path, calibrate: Callable[..., str]) -> None:
    output = source.with_name("q.onnx")
    printed = calibrate(source, "--data", pairs / "LQ", "-o", output, "--states", 9, "--sampler", "sde-2m")
    assert "3 pictures without clean ones, states recorded along FP32 trajectories" in printed
    assert "against the clean ones" not in printed


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
    assert search_float_layers(problem, ranges, budget)[0] == tuple(kept)
    assert quality(frozenset({*QUANTISABLE, SUM})) == np.inf, "with all of them in float nothing changes"


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
    assert [line.split("`")[1] for line in ranking.splitlines()[2:]] == sorted(harm, key=harm.get, reverse=True)


def test_sensitivity_is_what_one_layer_alone_does(pairs: Path, source: Path, tmp_path: Path) -> None:
    """One step of `mean` is mu + p y + r eps, so that the restored picture's error is r times that of eps."""
    model, card = read_model(source)
    settings = CalibrationSettings("mean", (100,), crop=64, states=12)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(tmp_path)[0].ranges("mse")
    sensitivity = measure_sensitivity(problem, ranges)
    fp32 = OnnxEngine.from_bytes(model.SerializeToString(), card)
    table = settings.table(card.sde)
    from irsde_deploy.export.example import SEED
    from irsde_deploy.noise import seeded_noise

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


def test_nonsense_is_refused_in_one_sentence(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    output = tmp_path / "q.onnx"
    base = ("calibrate", source, "-o", output)
    fails_with(2, "give the pictures to calibrate on", *base)
    fails_with(1, "no such folder", *base, "--data", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    fails_with(1, "no pictures there", *base, "--data", tmp_path / "empty")
    fails_with(2, "two folders with a comma between", *base, "--data", f"{pairs / 'LQ'},")
    fails_with(2, "crop from 16 to 4096", *base, "--data", pairs, "--crop", 8)
    fails_with(2, "at least the 3 timesteps", *base, "--data", pairs, "--states", 2)
    fails_with(2, "above 0 and up to 200 dB", *base, "--data", pairs, "--psnr-budget", -1)
    fails_with(2, "must not replace the graph", "calibrate", source, "-o", source, "--data", pairs, "--overwrite")
    fails_with(1, "not a calibration manifest", *base, "--manifest", source)
    (pairs / "GT" / "1.png").rename(pairs / "GT" / "x.png")
    fails_with(1, "has no partner of the same name", *base, "--data", pairs)
    (pairs / "GT" / "x.png").rename(pairs / "GT" / "1.png")
    assert not output.exists()
    calibrate(source, "--data", pairs, "-o", output, "--states", 6)
    fails_with(1, "exists already", *base, "--data", pairs)
    again = ("calibrate", source, "-o", tmp_path / "again.onnx", "--manifest", output.with_suffix(".json"))
    fails_with(2, "--seed: the manifest has that already", *again, "--seed", 3)
    fails_with(2, "not FP32 throughout", "calibrate", output, "--data", pairs, "-o", tmp_path / "twice.onnx")
    before = cv2.imread(str(pairs / "LQ" / "2.png"))
    cv2.imwrite(str(pairs / "LQ" / "2.png"), before // 2)
    fails_with(1, "2.png: is another file than the manifest's", *again)
    model, card = small_quantisable(0.3)
    write_model(model, card, tmp_path / "other.onnx")
    fails_with(1, "is of another graph", "calibrate", tmp_path / "other.onnx", *again[2:])
    manifest = json.loads(output.with_suffix(".json").read_text())
    settings = manifest["settings"]
    spoilt = [
        {"surprise": 1},
        {"data": 3},
        {"packages": None},
        {"pictures": [1]},
        {"float_layers": "abc"},
        {"format": 2},
    ]
    spoilt += [{"settings": {**settings, name: value}} for name, value in (("seed", "x"), ("timesteps", "ab"))]
    for changes in spoilt:
        output.with_suffix(".json").write_text(json.dumps({**manifest, **changes}))
        fails_with(1, "not a calibration manifest", *again)
    cv2.imwrite(str(pairs / "LQ" / "2.png"), before)
    output.with_suffix(".json").write_text(json.dumps({**manifest, "float_layers": ["/nowhere"]}))
    fails_with(2, "the graph has no layer /nowhere", *again)
    assert not (tmp_path / "again.onnx").exists()


def test_the_committed_model_loses_little(calibrate: Callable[..., str], tmp_path: Path) -> None:
    """On a held-out picture, with few states of another one; benchmarks/int8.py measures it in earnest."""
    from irsde_deploy.export.checkpoints import read_checkpoint
    from irsde_deploy.export.detection import build_network
    from irsde_deploy.export.settings import describe
    from irsde_deploy.export.to_onnx import write_onnx

    checkpoint = read_checkpoint(ASSETS / "derain_nafnet_w16.safetensors")
    card = describe(checkpoint, []).card
    source, output = tmp_path / "derain.onnx", tmp_path / "derain.int8.onnx"
    write_onnx(build_network(card.network, card.settings, checkpoint.weights), card, source)
    rain, clean = (cv2.imread(str(ASSETS / f"{name}.png")) for name in ("rain", "clean"))
    for kind, picture in (("LQ", rain), ("GT", clean)):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "a.png"), picture[:, 96:])
    data = f"{tmp_path / 'LQ'},{tmp_path / 'GT'}"
    calibrate(source, "--data", data, "-o", output, "--states", 16, "--crop", 64)
    held, truth = rain[150:246, :96, ::-1], clean[150:246, :96, ::-1]
    full, low = (load(path)(held) for path in (source, output))
    assert psnr(low, full) > 36
    assert psnr(low, truth) > psnr(full, truth) - 0.5
    assert output.stat().st_size < 0.5 * source.stat().st_size


def test_the_command_offers_every_method() -> None:
    assert tuple(METHODS) == OFFERED


def test_a_plan_is_built_of_a_calibrated_graph_and_of_no_other(
    pairs: Path, source: Path, irsde: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    build = ("--backend", "tensorrt-rtx", "--precision", "int8", "--opt", "64x64")
    fails_with(2, "make it int8 first", "build", source, "-o", tmp_path / "a.plan", *build)
    output = tmp_path / "q.onnx"
    irsde("calibrate", source, "--data", pairs, "-o", output, "--states", 6, "--residuals")
    irsde("build", output, "-o", tmp_path / "a.plan", *build)
    from irsde_deploy.runtimes.plan_card import read_plan_card

    card = read_plan_card(tmp_path / "a.plan")
    assert card.model.precision == "int8"
    assert card.model == read_model(output)[1]
    command = card.rebuild_command(tmp_path / "a.plan")
    assert "--precision int8" in command, "which build takes, as above"


def test_verify_compares_along_the_cards_trajectory(
    pairs: Path, onnx_of: Callable[[str], Path], irsde: Callable[..., str], tmp_path: Path, fails_with
) -> None:
    """Not at timesteps that it was not calibrated for; and a wrong graph is told from an INT8 one."""
    output, weights = tmp_path / "q.onnx", load_case("nafnet_w16").weights
    irsde("calibrate", onnx_of("nafnet_w16"), "--data", pairs, "-o", output, "--states", 20)
    printed = irsde("verify", output, "--against", weights)
    _, card = read_model(output)
    assert f"x_0 {card.sampler}, {card.steps} steps" in printed
    assert "\neps " not in printed
    worst = max(float(line.split()[5]) for line in printed.splitlines() if line.startswith("x_"))
    assert 1e-3 < worst < 0.5
    model, _ = read_model(output)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("conv1.weight_scale"):
            tensor.CopyFrom(numpy_helper.from_array(-3 * numpy_helper.to_array(tensor), tensor.name))
    write_model(model, card, output)
    fails_with(3, "differs from PyTorch", "verify", output, "--against", weights)
