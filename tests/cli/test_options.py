"""Options do what they say, and those that do not go together are refused before any work: commands in this process."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from sample_pictures import photograph

from irsde_deploy import load
from irsde_deploy.cli.common import read_sources
from irsde_deploy.cli.video_options import VideoOptions, _seconds
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.pictures import batch, targets
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.runtimes.loops import tile_choice

Succeeds = Callable[..., tuple[str, str]]
Fails = Callable[..., None]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "in.png", Picture(photograph(0, 24, 32)))
    return tmp_path / "in.png"


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("--seed", 7, "--sampler", "sde-2m", "--steps", 2), {"seed": 7, "sampler": "sde-2m", "steps": 2}),
        (("--quality", "fast", "--clip"), {"quality": "fast", "clip": True}),
        (("--t0", 40, "--debias"), {"t0": 40, "debias": True}),
        (("--tile", 16, "--overlap", 4), {"tile": 16, "overlap": 4}),
        (("--target-seconds", 1e6, "--seed", 5, "--clip"), {"quality": "best", "seed": 5, "clip": True}),
        (("--target-fps", 1e-6, "--t0", 30), {"quality": "best", "t0": 30}),
    ],
)
def test_run_restores_as_python_does_with_the_same_settings(
    small_onnx: Path, picture: Path, arguments: tuple[object, ...], settings: dict[str, Any], succeeds: Succeeds
) -> None:
    out = picture.with_name("out.png")
    succeeds("run", small_onnx, picture, "-o", out, *arguments)
    rgb, restorer = read_picture(picture).rgb, load(small_onnx)
    expected = restorer(rgb, **settings)
    np.testing.assert_array_equal(read_picture(out).rgb, expected)
    assert (expected != restorer(rgb)).any(), "the settings change something"


def test_the_batch_is_what_is_restored_and_measured_at_a_time(
    small_onnx: Path, tmp_path: Path, succeeds: Succeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(pictures: np.ndarray, *arguments: Any) -> Any:
        seen.append(len(pictures))
        return restored(pictures, *arguments)

    for number in range(5):
        write_picture(tmp_path / "in" / f"{number}.png", Picture(photograph(number, 8, 12)))
    restore_files, choose_quality = batch.restore_files, targets.choose_quality

    def restored_files(restore: Any, jobs: Any, size: int) -> Any:
        nonlocal restored
        restored = restore
        return restore_files(spy, jobs, size)

    restored: Any = None
    measured = []

    def choose(target: float, restorer: Any, sampling: Any, pictures: np.ndarray) -> Any:
        measured.append(len(pictures))
        return choose_quality(target, restorer, sampling, pictures)

    monkeypatch.setattr(batch, "restore_files", restored_files)
    monkeypatch.setattr(targets, "choose_quality", choose)
    succeeds("run", small_onnx, tmp_path / "in", "-o", tmp_path / "out", "--batch", 2, "--target-seconds", 1e-9)
    assert (measured, sorted(seen)) == ([2], [1, 2, 2])


def test_a_fallback_is_used_and_said(small_onnx: Path, picture: Path, tmp_path: Path, succeeds: Succeeds) -> None:
    model = onnx.load(small_onnx)
    hundred = next(tensor for tensor in model.graph.initializer if tensor.name == "hundred")
    hundred.CopyFrom(onnx.numpy_helper.from_array(np.float32("nan"), "hundred"))
    onnx.save(model, tmp_path / "bad.onnx")
    out = tmp_path / "out.png"
    _, stderr = succeeds("run", tmp_path / "bad.onnx", picture, "-o", out, "--fallback", small_onnx)
    assert f"note: 1 of 1 done by {small_onnx}: a state of {tmp_path}/bad.onnx was not finite" in stderr
    np.testing.assert_array_equal(read_picture(out).rgb, load(small_onnx)(read_picture(picture).rgb))


def test_timesteps_that_estimated_levels_visit_outside_of_a_calibration_are_said(
    small_onnx: Path, picture: Path, succeeds: Succeeds
) -> None:
    model, card = read_model(small_onnx)
    del model.graph.node[0], model.graph.input[1]  # x - mu, and mu
    model.graph.node[0].input[0] = "x"
    sde = DenoisingSDE(75, 100, "cosine")
    card = replace(card, settings={"conditional": False}, sde=sde, precision="int8", calibrated=(2, 1))
    engine = picture.with_name("blind.onnx")
    write_model(model, card, engine)
    _, stderr = succeeds("run", engine, picture, "-o", picture.with_name("out.png"), "--noise-level", 50)
    words = f"note: {engine}: INT8 is calibrated from t = 2 to 1, and may be far off at t = "
    assert stderr.count(words) == 1
    write_picture(picture, Picture(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)))
    _, stderr = succeeds("run", engine, picture, "-o", picture.with_name("out2.png"))
    assert stderr.count(words) == 1


def test_tiles_are_chosen_by_memory_unless_the_picture_is_to_stay_whole(
    small_onnx: Path, tmp_path: Path, succeeds: Succeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, card = read_model(small_onnx)
    write_model(model, replace(card, network="ConditionalNAFNet", settings={"width": 16}), tmp_path / "m.onnx")
    write_picture(tmp_path / "in.png", Picture(np.zeros((8, 400, 3), np.uint8)))
    monkeypatch.setattr(tile_choice, "available_memory", lambda: 1)
    command = ("run", tmp_path / "m.onnx", tmp_path / "in.png", "-o", tmp_path / "out.png", "--overwrite")
    assert "note: restored in tiles of 128 with an overlap of 64" in succeeds(*command)[1]
    assert "tiles" not in succeeds(*command, "--tile", "whole")[1]


def test_the_library_that_was_asked_for_runs(small_onnx: Path, picture: Path, succeeds: Succeeds) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    command = ("run", small_onnx, picture, "-o", picture.with_name("out.png"), "--overwrite", "--json")
    for provider, words in ((None, "ONNX Runtime"), ("openvino", "OpenVINO")):
        options = () if provider is None else ("--engine-provider", provider)
        said = json.loads(succeeds(*command, *options)[0])
        assert said["engine"]["runs_on"][0].startswith(words)
        assert said["engine"]["files"] == [str(small_onnx)]


def test_what_does_not_go_together_is_refused(
    small_onnx: Path, picture: Path, tmp_path: Path, fails_with: Fails
) -> None:
    out = tmp_path / "out.png"
    run = ("run", small_onnx, picture, "-o", out)
    fails_with(2, "--crf is for videos, and the inputs are pictures", *run, "--crf", 20)
    fails_with(2, "--resume is for videos", *run, "--resume")
    fails_with(2, "only a plan can be built again: leave out --rebuild", *run, "--rebuild")
    fails_with(2, "nan is not a number", *run, "--crf", "nan")
    fails_with(2, "the path is empty", "run", small_onnx, picture, "-o", "")
    resume = ("train", "--resume", tmp_path)
    fails_with(
        2, "a resumed run keeps its settings (only --iterations may change): leave out --seed", *resume, "--seed", 0
    )
    fails_with(1, str(tmp_path), *resume, "-q", "--device", "cpu")
    fails_with(2, "written HxW", "build", small_onnx, "-o", tmp_path / "a.plan", "--opt", "64")
    video = ("run", small_onnx, "in.mp4", "-o", tmp_path / "out.mp4")
    fails_with(2, "--format is for pictures", *video, "--format", "png")
    fails_with(2, "--size is for raw RGB on a pipe", *video, "--size", "8x8")
    pipe = ("run", small_onnx, "-", "-o", "-")
    fails_with(2, "a pipe goes in and out", "run", small_onnx, "-", "-o", out)
    fails_with(2, "a pipe goes in and out", "run", small_onnx, picture, "-o", "-")
    fails_with(2, "a pipe goes in and out", "run", small_onnx, "-", "-", "-o", "-")
    fails_with(2, "--segment is for files, not for pipes", *pipe, "--segment", 2, "--noise", "fixed")
    fails_with(2, "--overwrite or --skip-existing is for files", *pipe, "--skip-existing")
    pack = ("pack", small_onnx, "-o", tmp_path / "pack")
    fails_with(2, "--size is of the synthetic reference", *pack, "--size", "8x8", "--picture", picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png"]


def test_evaluate_leaves_out_the_border_that_it_was_told_to(
    small_onnx: Path, tmp_path: Path, succeeds: Succeeds
) -> None:
    clean = photograph(1, 24, 32)
    write_picture(tmp_path / "GT" / "a.png", Picture(clean))
    write_picture(tmp_path / "LQ" / "a.png", Picture(photograph(0, 24, 32)))
    options = ("--crop-border", 2, "--save-pictures", "--worst", 0, "--seed", 3, "--quality", "draft")
    said = json.loads(
        succeeds("evaluate", small_onnx, "--data", tmp_path, "-o", tmp_path / "report", *options, "--json")[0]
    )
    restored = load(small_onnx)(read_picture(tmp_path / "LQ" / "a.png").rgb, quality="draft", seed=3)
    inner = (slice(2, -2), slice(2, -2))
    assert said["files"][0]["psnr"] == pytest.approx(psnr(restored[inner], clean[inner]))
    np.testing.assert_array_equal(read_picture(tmp_path / "report" / "restored" / "a.png").rgb, restored)
    assert not (tmp_path / "report" / "worst.png").exists()


def test_what_is_there_already_is_skipped_and_counted(small_onnx: Path, tmp_path: Path, succeeds: Succeeds) -> None:
    for number in range(2):
        write_picture(tmp_path / "in" / f"{number}.png", Picture(photograph(number, 8, 12)))
    run = ("run", small_onnx, tmp_path / "in", "-o", tmp_path / "out")
    assert succeeds(*run)[0].splitlines()[-1].startswith("2 written, 0 failed in ")
    (tmp_path / "out" / "0.png").write_bytes(b"kept")
    (tmp_path / "out" / "1.png").unlink()
    last = succeeds(*run, "--skip-existing")[0].splitlines()[-1]
    assert last.startswith("1 written, 0 failed in ")
    assert last.endswith(" s, 1 skipped")
    assert (tmp_path / "out" / "0.png").read_bytes() == b"kept"


def test_what_is_given_counts_and_what_is_not_does_not() -> None:
    given = VideoOptions(crf=0.0, start=Fraction(0), preset=None, resume=False)
    assert given.given == {"crf": 0.0, "start": 0}
    names = ("opt", "recipe", "max_sigma", "timesteps", "schedule", "eps", "form", "task", "margin")
    model = {**dict.fromkeys(names), "recipe": "derain", "max_sigma": 7.0, "timesteps": 9, "margin": 0}
    flags, recipe = read_sources(model)
    assert flags.values == {"max_sigma": 7.0, "T": 9, "margin": 0}
    assert recipe.values["max_sigma"] == 10


def test_an_options_file_binds_more_than_a_recipe(tmp_path: Path) -> None:
    options = tmp_path / "o.yml"
    options.write_text("sde: {max_sigma: 33}")
    names = ("opt", "recipe", "max_sigma", "timesteps", "schedule", "eps", "form", "task", "margin")
    sources = read_sources({**dict.fromkeys(names), "opt": options, "recipe": "derain"})
    assert [source.values.get("max_sigma") for source in sources] == [None, 33, 10]


def test_verify_compares_with_one_thing_and_replaces_no_input(
    small_onnx: Path, picture: Path, tmp_path: Path, fails_with: Fails
) -> None:
    verify = ("verify", small_onnx)
    against, tiled = ("--against", tmp_path / "a.pt"), ("--tiled", 16)
    fails_with(2, "give --against CKPT to compare with PyTorch, or --tiled", *verify, *against, *tiled)
    fails_with(2, "--overlap is that of tiles", *verify, *against, "--overlap", 4)
    fails_with(2, "--tolerance is for --against", *verify, *tiled, "--picture", picture, "--tolerance", 0.1)
    for tolerance in (0, -1, 1.01, "nan"):
        fails_with(2, "--tolerance must be above 0 and at most 1", *verify, *against, "--tolerance", tolerance)
    csv, plot = small_onnx.with_suffix(".tiles.csv"), small_onnx.with_suffix(".parity.png")
    replaced = (*verify, *tiled, "--picture", picture, "--plot", picture)
    fails_with(2, f"neither be an input, not {csv} and {picture}", *replaced)
    fails_with(2, f"a.txt and {plot}", *verify, *against, "--csv", tmp_path / "a.txt")
    fails_with(1, "a.pt: no such file", *verify, *against, "--tolerance", 1)


def test_export_refuses_options_of_what_is_not_asked_for(small_onnx: Path, tmp_path: Path, fails_with: Fails) -> None:
    export = ("export", tmp_path / "a.pt")
    fails_with(2, "--opt-level: for a plan: add --engine FILE.plan", *export, "--opt-level", 3)
    fails_with(2, "--timing-cache: for a plan", *export, "--no-timing-cache")
    fails_with(2, "--steps, --clip: for a whole loop: add --whole-loop", *export, "--steps", 3, "--clip")
    fails_with(2, "--noise-input: for a whole loop", *export, "--noise-input", "noise")  # its default
    fails_with(2, "--engine builds from the score graph", *export, "--whole-loop", "--engine", tmp_path / "a.plan")
    fails_with(2, "a plan's name must end in .plan", *export, "--engine", tmp_path / "a.engine")
    (tmp_path / "a.onnx").touch()
    fails_with(1, "a.onnx: exists already: pass --overwrite", *export)
    loop = ("export", small_onnx, "--whole-loop")
    fails_with(2, "must not replace the graph it is made of", *loop, "-o", small_onnx, "--overwrite")
    fails_with(2, "--recipe, --opset: for checkpoints", *loop, "--opset", 19, "--recipe", "derain")
    assert read_model(small_onnx)[1].network == "small"


def test_a_whole_loop_is_made_of_the_settings(small_onnx: Path, tmp_path: Path, succeeds: Succeeds) -> None:
    graph = tmp_path / "g.onnx"
    graph.write_bytes(small_onnx.read_bytes())
    stdout, _ = succeeds("export", graph, "--whole-loop", "--sampler", "sde-2m", "--steps", 2)
    assert "whole loop: sde-2m, 2 steps; inputs lq (batch, 3, height, width), noise (2, batch, 3, height, wi" in stdout
    assert (tmp_path / "g.loop.onnx").stat().st_size > 0
    _, stderr = succeeds(
        "export", graph, "--whole-loop", "--sampler", "ode", "--t0", 2, "--steps", 2, "--noise-input", "seed",
        "-o", tmp_path / "seeded.onnx",
    )  # fmt: skip
    names = [given.name for given in onnx.load(tmp_path / "seeded.onnx").graph.input]
    assert names == ["lq", "seed"], stderr


def test_bench_opens_what_it_was_told_to(small_onnx: Path, fails_with: Fails) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    fails_with(5, "no CUDAExecutionProvider", "bench", small_onnx, "--device", "cuda")
    fails_with(
        5, "no TensorrtExecutionProvider", "bench", small_onnx, "--engine-provider", "tensorrt", "--device", "cuda"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", Fraction(25, 2)), ("90", 90), ("1:30", 90), ("01:00:00.001", 3600 + Fraction(1, 1000)),
        ("59:59", 3599), ("2:03:04", 7384), ("0", 0),
    ],
)  # fmt: skip
def test_times_are_exact(text: str, seconds: Fraction) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["1:60", "1:60:00", "-1", "1:", "1e3", "", "1:2:3:4", "1.5:00"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time"):
        _seconds(text)


def test_settings_of_training_by_name_give_way_to_options_of_their_own() -> None:
    train = importlib.import_module("irsde_deploy.cli.train")  # in its package the command has its name
    assigned = ("batch=4", " seed =3", "flips=True", "milestones=1,2,", "loss=l1=l2")
    found = train._settings({"batch": 0, "seed": None, "patch": 8}, assigned)
    assert found == {"batch": 0, "seed": "3", "flips": True, "milestones": ["1", "2"], "loss": "l1=l2", "patch": 8}
    for wrong in ("batch", "=4", " =4"):
        with pytest.raises(InvalidValueError, match="--set takes NAME=VALUE"):
            train._settings({}, (wrong,))


def test_degrade_takes_its_parameters_and_its_seed(
    tmp_path: Path, picture: Path, succeeds: Succeeds, fails_with
) -> None:
    def degraded(*options: object) -> np.ndarray:
        succeeds("degrade", picture, "-o", tmp_path / "d.png", "--overwrite", *options)
        return read_picture(tmp_path / "d.png").rgb.astype(int)

    noise = ("--kind", "gaussian-noise")
    first = degraded(*noise, "--set", "sigma=9")
    np.testing.assert_array_equal(degraded(*noise, "--set", "sigma=9", "--seed", 0), first)
    assert (degraded(*noise, "--set", "sigma=9", "--seed", 1) != first).any()
    np.testing.assert_array_equal(degraded(*noise, "--set", "sigma=9,9"), first)
    spread = [np.std(degraded(*noise, "--set", f"sigma={sigma}") - read_picture(picture).rgb) for sigma in (3, 9)]
    assert spread[0] < 4 < 8 < spread[1]
    (tmp_path / "link.png").symlink_to("nowhere.png")
    fails_with(1, "link.png: exists already", "degrade", picture, "-o", tmp_path / "link.png", *noise)
    for wrong in ("sigma", "sigma=", "sigma=a", "sigma=1;2"):
        fails_with(
            2, "--set takes NAME=NUMBER or NAME=LOW,HIGH", "degrade", picture, "-o", "x.png", *noise, "--set", wrong
        )
