"""`irsde-deploy calibrate` from pictures to a file, which is measured, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import numpy_helper
from places import ASSETS
from random_networks import write_random_nafnet
from small_quantisable import small_quantisable

from irsde_deploy import load
from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.manifest import CalibrationSettings
from irsde_deploy.calibration.problem import INT8_KEY, Problem
from irsde_deploy.calibration.ranges import METHODS
from irsde_deploy.cli.calibrate import METHODS as OFFERED
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.example import SEED
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InputFileError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.pictures.noise_level import estimate_start
from irsde_deploy.pictures.restoring import Restoring
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.loops.numpy_loop import restore
from irsde_deploy.video.settling import restoring_for

WRONG_SETTINGS = (
    ("seed", "x"),
    ("seed", True),
    ("seed", 1.5),
    ("crop", 10**400),
    ("timesteps", "ab"),
    ("timesteps", []),
    ("timesteps", [1.5]),
    ("timesteps", [30, 60]),
    ("timesteps", [5, 0]),
    ("clip", 0),
    ("sampler", 3),
    ("sampler", "nothing"),
    ("psnr_budget", float("nan")),
    ("psnr_budget", 10**400),
    ("psnr_budget", "50"),
)


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
    table = source.parent / manifest["ranges"]["name"]
    assert manifest["ranges"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert {"numpy", "opencv", "pillow"} < manifest["packages"].keys()
    model, card = read_model(source)
    engines = [OnnxEngine.from_bytes(path.read_bytes(), card) for path in (source, output)]
    found = []
    for name in "012":
        picture = cv2.imread(str(pairs / "LQ" / f"{name}.png"))[None, :, :, ::-1]
        mu = np.ascontiguousarray(picture.transpose(0, 3, 1, 2) / np.float32(255))
        full, low = (restore(engine, mu, card.plan().table, seeded_noise(SEED, mu.shape)) for engine in engines)
        found.append(psnr(low, full, 1.0))
    assert f"restored pictures have {min(found):.1f} dB against FP32's at the worst (3 of the 3 pictures" in printed


def test_pictures_are_counted_before_they_are_read(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr("irsde_deploy.calibration.data.file_sha256", hashed.append)
    monkeypatch.setattr("irsde_deploy.calibration.data.MAX_PICTURES", 2)
    with pytest.raises(InputFileError, match="3 pictures are more"):
        find_data(str(pairs))
    assert hashed == []


def test_the_card_names_the_trajectory_that_it_is_calibrated_for(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "q.onnx"
    calibrate(source, "--data", pairs, "-o", output, "--states", 8, "--sampler", "sde-2m", "--steps", 4, "--t0", 70)
    _, card = read_model(output)
    assert (card.sampler, card.steps, card.t0) == ("sde-2m", 4, 70)
    manifest = json.loads((tmp_path / "q.json").read_text())
    assert load(output).plan().table.t.tolist() == manifest["settings"]["timesteps"]
    calibrate(source, "--data", pairs, "-o", output, "--states", 12, "--overwrite")
    _, card = read_model(output)
    assert (card.sampler, card.steps, card.t0) == ("mean", 3, None)


def test_clip_is_in_what_is_measured(pairs: Path, source: Path, tmp_path: Path) -> None:
    """FP32's own restored pictures, of which quality is told, are those with --clip."""
    model, card = read_model(source)
    settings = CalibrationSettings("mean", tuple(card.plan().table.t), crop=16, states=12, clip=True)
    problem = Problem.of(model, card, find_data(str(pairs)), settings)
    ranges = problem.range_table(tmp_path)[0].ranges("mse")
    mu = problem.pictures()[0][0]
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    noise = seeded_noise(SEED, mu.shape)
    clipped, free = (restore(engine, mu, card.plan().table, noise, clip) for clip in (True, False))
    assert np.abs(clipped - free).max() > 0.1
    quality = problem.quality(ranges, [mu])
    np.testing.assert_array_equal(quality.reference[0], clipped)
    low = OnnxEngine.from_bytes(problem.quantised(ranges).SerializeToString(), card)
    expected = psnr(restore(low, mu, card.plan().table, noise, True), clipped, 1.0)
    assert quality(frozenset()) == pytest.approx(expected, abs=1e-3)


def test_a_denoising_model_needs_a_level(
    pairs: Path, denoising: Path, irsde: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    command = ("calibrate", denoising, "--data", pairs, "-o", tmp_path / "q.onnx", "--states", 6)
    fails_with(2, "--noise-level, or --t0", *command)
    assert "3 steps: t = 40, " in irsde(*command, "--t0", 40)
    card = read_model(tmp_path / "q.onnx")[1]
    assert (card.precision, card.sampler, card.steps, card.t0) == ("int8", "mean", 3, None)


def test_without_clean_pictures_states_are_recorded(pairs: Path, source: Path, calibrate: Callable[..., str]) -> None:
    output = source.with_name("q.onnx")
    printed = calibrate(source, "--data", pairs / "LQ", "-o", output, "--states", 9, "--sampler", "sde-2m")
    assert "3 pictures without clean ones, states recorded along FP32 trajectories" in printed
    assert "against the clean ones" not in printed


def test_wrong_options_are_refused_in_one_sentence(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    output = tmp_path / "q.onnx"
    base = ("calibrate", source, "-o", output)
    fails_with(2, "give the pictures to calibrate on", *base)
    fails_with(1, "no such folder", *base, "--data", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    fails_with(1, "no pictures there", *base, "--data", tmp_path / "empty")
    fails_with(2, "two folders with a comma between", *base, "--data", f"{pairs / 'LQ'},")
    fails_with(2, "crop must be from 16 to 4096", *base, "--data", pairs, "--crop", 8)
    fails_with(2, "leave out --most-states", *base, "--data", pairs, "--states", 8, "--most-states", 64)
    fails_with(2, "are for range tables", *base[:2], "-o", tmp_path / "ranges-1.onnx", "--data", pairs)
    fails_with(2, "at least the 3 timesteps", *base, "--data", pairs, "--states", 2)
    fails_with(2, "above 0 and up to 200 dB", *base, "--data", pairs, "--psnr-budget", -1)
    fails_with(2, "must not replace the graph", "calibrate", source, "-o", source, "--data", pairs, "--overwrite")
    fails_with(1, "not a calibration manifest", *base, "--manifest", source)
    outputs = tmp_path / "outputs"
    (outputs / "z.json").mkdir(parents=True)
    (outputs / "file").write_text("mine")
    (outputs / "ranking.md").write_text("mine")
    to = ("calibrate", source, "--data", pairs, "--overwrite", "-o")
    fails_with(1, "z.json: is a folder", *to, outputs / "z.onnx")
    fails_with(1, "cannot be written", *to, outputs / "file" / "q.onnx")
    fails_with(1, "cannot be written", *to, outputs / "q.onnx", "--report", outputs / "file")
    fails_with(1, "ranking.md: exists already", *base, "--data", pairs, "--report", outputs)
    assert sorted(path.name for path in outputs.iterdir()) == ["file", "ranking.md", "z.json"], "before any work"
    budget = ("--states", 6, "--psnr-budget", 200)
    fails_with(2, "even with nothing lowered restored pictures have", *base, "--data", pairs, *budget)
    fails_with(2, "no layer can be in INT8 within 200 dB", *base, "--data", pairs, *budget, "--rest", "fp32")
    (pairs / "GT" / "1.png").rename(pairs / "GT" / "x.png")
    fails_with(1, "has no partner of the same name", *base, "--data", pairs)
    (pairs / "GT" / "x.png").rename(pairs / "GT" / "1.png")
    assert not output.exists()
    calibrate(source, "--data", pairs, "-o", output, "--states", 6)
    fails_with(1, "exists already", *base, "--data", pairs)
    fails_with(
        2, f"{output}: the graph is int8 already", "calibrate", output, "--data", pairs, "-o", tmp_path / "twice.onnx"
    )


def test_manifests_that_do_not_fit_are_refused_in_one_sentence(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    output = tmp_path / "q.onnx"
    calibrate(source, "--data", pairs, "-o", output, "--states", 6)
    again = ("calibrate", source, "-o", tmp_path / "again.onnx", "--manifest", output.with_suffix(".json"))
    fails_with(2, "--seed: the manifest has that already", *again, "--seed", 3)
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
        {"data": []},
        {"pictures": [{**manifest["pictures"][0], "gt_sha256": 3}]},
        {"pictures": []},
        {"pictures": 2 * manifest["pictures"]},
        {"model_sha256": "x\ny"},
        {"ranges": {"name": "..", "sha256": "0" * 64}},
        {"ranges": {**manifest["ranges"], "sha256": ""}},
        {"ranges": {"name": "../a.json", "sha256": ""}},
        {"packages": {"onnx": 1}},
        {"packages": None},
        {"pictures": [1]},
        {"float_layers": "abc"},
        {"format": 1},
    ]
    lines = {"pictures": [{**manifest["pictures"][0], "name": "one\ntwo\x1b[2J"}]}
    output.with_suffix(".json").write_text(json.dumps({**manifest, **lines}))
    fails_with(1, "has no picture one two [2J, which", *again)
    spoilt += [{"settings": {**settings, name: value}} for name, value in WRONG_SETTINGS]
    for changes in spoilt:
        output.with_suffix(".json").write_text(json.dumps({**manifest, **changes}))
        fails_with(1, "not a calibration manifest", *again)
    beyond = {**manifest, "settings": {**settings, "timesteps": [101, 60, 20]}}
    output.with_suffix(".json").write_text(json.dumps(beyond))
    fails_with(1, "must strictly decrease within 1..100", *again)
    output.with_suffix(".json").write_text(json.dumps({**manifest, "sde": {**manifest["sde"], "max_sigma": 0.3}}))
    fails_with(1, "is of another SDE", *again)
    cv2.imwrite(str(pairs / "LQ" / "2.png"), before)
    output.with_suffix(".json").write_text(json.dumps({**manifest, "float_layers": ["/nowhere"]}))
    fails_with(2, "the graph has no layer /nowhere", *again)
    assert not (tmp_path / "again.onnx").exists()


def test_the_committed_model_loses_little(calibrate: Callable[..., str], tmp_path: Path) -> None:
    """On a held-out picture, with few states of another one; benchmarks/int8.py measures it in earnest."""
    from irsde_deploy.export.description import describe
    from irsde_deploy.export.to_onnx import write_onnx
    from irsde_deploy.networks.checkpoints import read_checkpoint
    from irsde_deploy.networks.detection import build_network

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
    from irsde_deploy.runtimes.tensorrt.plan_card import read_plan_card

    card = read_plan_card(tmp_path / "a.plan")
    assert card.model.precision == "int8"
    assert card.model == read_model(output)[1]
    command = card.rebuild_command(tmp_path / "a.plan")
    assert "--precision int8" in command, "which build takes, as above"


def test_verify_compares_along_the_cards_trajectory(
    pairs: Path, irsde: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    """Not at timesteps that it was not calibrated for; and a wrong graph is told from an INT8 one."""
    weights, graph = write_random_nafnet(tmp_path, True, max_sigma=50, T=100, schedule="cosine", eps=0.005)
    output = tmp_path / "q.onnx"
    irsde("calibrate", graph, "--data", pairs, "-o", output, "--states", 20, "--t0", 80)
    printed = irsde("verify", output, "--against", weights)
    _, card = read_model(output)
    assert card.t0 == 80
    assert f"\nx_{card.plan().table.t[1]} " in f"\n{printed}", "from its own first timestep on"
    assert f"x_0 {card.sampler}, {card.steps} steps" in printed
    assert "\neps " not in printed
    worst = max(float(line.split()[5]) for line in printed.splitlines() if line.startswith("x_"))
    assert 1e-3 < worst < 0.5
    model, _ = read_model(output)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight_scale"):
            tensor.CopyFrom(numpy_helper.from_array(-3 * numpy_helper.to_array(tensor), tensor.name))
    write_model(model, card, output)
    fails_with(3, "differs from PyTorch", "verify", output, "--against", weights)


def test_timesteps_outside_of_the_calibrations_span_are_told(
    pairs: Path, source: Path, irsde: Callable[..., str], told: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "q.onnx"
    irsde("calibrate", source, "--data", pairs, "-o", output, "--states", 6, "--steps", 3)
    t = load(output).plan().table.t.tolist()
    assert read_model(output)[1].calibrated == (t[0], t[-1])
    shown = json.loads(irsde("inspect", output, "--json"))
    assert (shown["int8"]["timesteps"], shown["int8"]["method"]) == (t, "mse")
    assert "int8" not in json.loads(irsde("inspect", source, "--json"))
    run = ("run", pairs / "LQ", "-o", tmp_path / "restored", "--overwrite", "--engine")
    assert told(*run, output) == ""
    assert told(*run, source, "--steps", 5) == ""
    lowest = load(output).plan(steps=5).table.t.tolist()[-1]
    note = f"q.onnx: INT8 is calibrated from t = 100 to {t[-1]}, and may be far off at t = {lowest}, which"
    picture = pairs / "LQ" / "0.png"
    for command in (
        (*run, output),
        ("export", output, "--whole-loop", "-o", tmp_path / "loop.onnx"),
        ("evaluate", "--engine", output, "--data", pairs, "-o", tmp_path / "report"),
        ("verify", output, "--tiled", 16, "--overlap", 4, "--picture", picture),
        ("pack", output, "-o", tmp_path / "pack", "--size", "16x16"),
    ):
        assert told(*command, "--steps", 5).count(note) == 1, command
    notes: list[str] = []
    restoring_for(load(output), Sampling(steps=5), cv2.imread(str(picture)), notes.append)  # as videos and pipes do
    assert [note in said for said in notes] == [True]


def test_a_denoising_graph_is_verified_where_it_is_calibrated(
    pairs: Path, irsde: Callable[..., str], succeeds: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    weights, graph = write_random_nafnet(tmp_path, False, max_sigma=75, T=100, schedule="cosine")
    output = tmp_path / "q.onnx"
    irsde("calibrate", graph, "--data", pairs, "-o", output, "--states", 3, "--t0", 9, "--steps", 3)
    printed, told = succeeds("verify", output, "--against", weights)
    t = read_model(output)[1].plan(t0=9).table.t.tolist()
    reached = [line.split()[0] for line in printed.splitlines() if line.startswith("x_")]
    assert reached == [f"x_{t}" for t in (*t[1:], 0)]
    assert told == ""


def test_timesteps_of_estimated_noise_levels_are_told(
    pairs: Path, denoising: Path, irsde: Callable[..., str], told: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "q.onnx"
    irsde("calibrate", denoising, "--data", pairs, "-o", output, "--states", 6, "--t0", 3)
    restorer = load(output)
    restoring = Restoring(restorer, Sampling())
    assert restoring.uncalibrated == set()
    visited = set[int]()
    for name in "012":
        picture = cv2.imread(str(pairs / "LQ" / f"{name}.png"))
        visited |= set(restorer.plan(noise_level=estimate_start(picture, restorer.sde)).table.t.tolist())
        restoring(picture)
    assert restoring.uncalibrated == {t for t in visited if t > 3} != set()
    printed = told("run", pairs / "LQ", "-o", tmp_path / "restored", "--engine", output)
    assert printed.count("INT8 is calibrated from t = 3 to 1, and may be far off at t = ") == 1
