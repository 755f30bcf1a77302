"""The commands as a user runs them: in processes of their own, with exit codes and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import onnx
import pytest
import torch
from commands import PROGRAM, irsde, irsde_on_terminal
from golden import load_case
from sample_pictures import png_header

from irsde_deploy import ModelCard, load
from irsde_deploy.errors import install_command
from irsde_deploy.export import exporter

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights() -> Path:
    return load_case("latent_nafnet_w8").weights


SDE = ("--max-sigma", 50, "-T", 100, "--schedule", "cosine", "--eps", 0.005)


@pytest.fixture(scope="module")
def latent_export(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """The engine that `export` writes of the weights, and what it said."""
    engine = tmp_path_factory.mktemp("latent") / "m.onnx"
    return engine, irsde("export", weights, "-o", engine, *SDE, "--form", "latent", "--task", "dehaze")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "in.png"), RNG.integers(0, 256, (18, 25, 3), dtype=np.uint8))
    return tmp_path / "in.png"


def test_export_inspect_verify(
    weights: Path, latent_export: tuple[Path, CompletedProcess[str]], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    engine, result = latent_export
    assert result.returncode == 0, result.stderr
    assert "form = latent (from flag)" in result.stdout
    assert result.stdout.count("  ok") == 5
    assert result.stderr == "", "progress is for terminals only"
    assert irsde("export", weights, "-o", engine, *SDE).returncode == 1, "an existing file is not replaced"

    shown = json.loads(irsde("inspect", engine, "--json").stdout)
    assert shown["card"]["settings"]["form"] == "latent"
    assert shown["inputs"][0] == {
        "name": "x",
        "type": "tensor(float)",
        "shape": ["batch", 4, "height", "width"],
    }
    assert shown["bytes"] == engine.stat().st_size
    assert "multiple_of: 8" in irsde("inspect", engine).stdout

    result = irsde("verify", engine, "--against", weights, "--steps", 10)
    assert result.returncode == 0, result.stderr
    rows = engine.with_name("m.parity.csv").read_text().splitlines()
    assert rows[0] == "t,max_abs,mean_abs,relative,psnr_db"
    assert len(rows) == 12
    assert float(rows[-1].split(",")[3]) < 1e-5
    assert cv2.imread(str(engine.with_name("m.parity.png"))).std() > 10

    other = torch.load(weights, weights_only=True)
    other["ending.bias"] += 0.1
    torch.save(other, tmp_path / "other.pth")
    result = irsde("verify", engine, "--against", tmp_path / "other.pth", "--steps", 2)
    assert result.returncode == 3
    assert "m.onnx differs from PyTorch" in result.stderr
    fails_with(
        2,
        "works on 4-channel latents",
        "run",
        "--engine",
        engine,
        engine.with_name("m.parity.png"),
        "-o",
        tmp_path / "o.png",
    )


def test_inspect_reads_checkpoints(weights: Path) -> None:
    shown = json.loads(irsde("inspect", weights, "--json").stdout)
    assert (shown["network"], shown["parameters"], shown["card"]) == ("ConditionalNAFNet", 99372, None)


def test_run_files_folders_existing_outputs_and_exit_codes(
    small_onnx: Path, picture: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.png").write_bytes(picture.read_bytes())
    (folder / "truncated.png").write_bytes(picture.read_bytes()[:-300])
    command = ("run", "--engine", small_onnx, folder, "-o", tmp_path / "out", "--steps", 2)
    result = irsde(*command)
    assert result.returncode == 4
    assert "truncated.png: the picture is damaged" in result.stderr
    assert "1 written, 1 failed" in result.stdout
    restored = (tmp_path / "out" / "good.png").read_bytes()
    assert cv2.imdecode(np.frombuffer(restored, np.uint8), cv2.IMREAD_COLOR).shape == (18, 25, 3)

    fails_with(1, "exists already: pass --overwrite", *command)
    (folder / "truncated.png").unlink()
    result = irsde(*command, "--skip-existing")
    assert result.returncode == 0
    assert "\n0 written, 0 failed" in result.stdout
    assert result.stdout.endswith(", 1 skipped\n")
    result = irsde(*command, "--overwrite", "--seed", 5)
    assert result.returncode == 0
    assert (tmp_path / "out" / "good.png").read_bytes() != restored


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_finished(small_onnx: Path, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(40):
        cv2.imwrite(str(folder / f"{i:02}.png"), RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    process = subprocess.Popen(
        [*PROGRAM, "run", "--engine", str(small_onnx), str(folder), "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "irsde-deploy: interrupted; finished files stay, none is half-written"
    assert "Traceback" not in stderr
    finished = list((tmp_path / "out").iterdir())
    assert 0 < len(finished) < 40
    assert all(cv2.imread(str(path)).shape == (64, 64, 3) for path in finished), "whole pictures only"


def test_doctor_reports_what_works_and_how_to_get_the_rest() -> None:
    result = irsde("doctor")
    assert result.returncode == 0
    lines = {line[9:].split("  ")[0]: line for line in result.stdout.splitlines()}
    assert lines["CPUExecutionProvider"].startswith("ok") and lines["CPUExecutionProvider"].endswith("works")  # noqa: PT018
    assert np.__version__ in lines["numpy (base)"]
    for line in result.stdout.splitlines():
        if line.startswith("missing") and "(gpu)" in line:
            assert install_command("gpu") in line


def test_bad_models_each_get_one_sentence(
    tmp_path: Path, picture: Path, weights: Path, fails_with: Callable[..., None]
) -> None:
    recipe = ("--recipe", "derain")
    cases: list[tuple[str, bytes, int, str]] = [
        ("empty.pth", b"", 1, "the file is empty"),
        ("text.pth", b"hello", 1, "not a PyTorch checkpoint"),
        ("text.safetensors", b"hello", 1, "not a safetensors file"),
    ]
    for name, content, code, message in cases:
        (tmp_path / name).write_bytes(content)
        fails_with(code, message, "export", tmp_path / name, *recipe)
    good = torch.load(weights, weights_only=True)
    broken = {
        "nan.pth": ({**good, "intro.bias": good["intro.bias"] * float("nan")}, "not finite"),
        "missing.pth": ({k: v for k, v in good.items() if k != "decoders.0.0.beta"}, "missing"),
        "unknown.pth": ({"conv1.weight": torch.zeros(3, 3)}, "unknown architecture"),
        "list.pth": ([1, 2, 3], "holds a state dict"),
    }
    for name, (content, message) in broken.items():
        torch.save(content, tmp_path / name)
        fails_with(1, message, "export", tmp_path / name, *recipe)
    fails_with(2, "do not say max_sigma, T, schedule, eps", "export", weights)
    fails_with(1, "no recipe is called 'desnow'", "export", weights, "--recipe", "desnow")
    fails_with(2, "opset must be", "export", weights, *recipe, "-o", tmp_path / "a.onnx", "--opset", 5)
    fails_with(2, "eps must be", "export", weights, *recipe, "-o", tmp_path / "a.onnx", "--eps", 3)
    fails_with(2, "must end in .onnx", "export", weights, *recipe, "-o", tmp_path / "a.plan")
    for name in ("text.onnx", "text.plan", "empty.onnx"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"hello")
        message = {"text.onnx": "not an ONNX model", "text.plan": "no card of irsde-deploy", "empty.onnx": "is empty"}[
            name
        ]
        fails_with(1, message, "run", "--engine", tmp_path / name, picture, "-o", tmp_path / "out.png")
    assert not (tmp_path / "a.onnx").exists()
    assert not (tmp_path / "out.png").exists()


def test_bad_run_arguments_each_get_one_sentence(
    small_onnx: Path, picture: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    run = ("run", "--engine", small_onnx, picture, "-o", tmp_path / "out.png")
    fails_with(2, "steps must be a whole number from 1, not 0", *run, "--steps", 0)
    fails_with(2, "steps must be from 1 to 100", *run, "--steps", 101)
    fails_with(2, "cannot skip timesteps", *run, "--sampler", "euler", "--steps", 10)
    fails_with(2, "t0 must be", *run, "--t0", 1000)
    fails_with(2, "-1 is not in the range", *run, "--seed", -1)
    fails_with(2, "No such option", *run, "--stepz", 3)
    fails_with(2, "is not one of", *run, "--sampler", "heun")
    fails_with(2, "no engine is given: name it as the first INPUT, or with --engine", "run", picture, "-o", tmp_path)
    fails_with(1, "no such file", "run", "--engine", small_onnx, tmp_path / "nowhere.png", "-o", tmp_path / "x.png")
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    fails_with(4, "more than the limit", "run", "--engine", small_onnx, tmp_path / "bomb.png", "-o", tmp_path / "x.png")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:-300])
    fails_with(4, "damaged", "run", "--engine", small_onnx, tmp_path / "cut.png", "-o", tmp_path / "x.png")
    (tmp_path / "file").write_text("in the way")
    fails_with(4, "cannot be written", "run", "--engine", small_onnx, picture, "-o", tmp_path / "file" / "x.png")
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((1, 17_000, 3), np.uint8))
    long = ("run", "--engine", small_onnx, tmp_path / "long.png", "-o", tmp_path / "long.webp")
    fails_with(4, "long.webp: .webp holds sides of up to 16383 pixels", *long)
    fails_with(1, "contradicts the format jpg", *run, "--format", "jpg")
    weights = load_case("unet_nf8_depth4").weights
    fails_with(2, "steps must be a whole number from 1", "verify", small_onnx, "--against", weights, "--steps", 0)
    fails_with(2, "tolerance must be above 0", "verify", small_onnx, "--against", weights, "--tolerance", "nan")
    for option, name in (("--plot", small_onnx), ("--csv", small_onnx), ("--csv", "/dev/full"), ("--csv", "x.png")):
        fails_with(2, "--plot in .png", "verify", small_onnx, "--against", weights, option, name)
    fails_with(2, "the path is empty", "run", "--engine", small_onnx, picture, "-o", "")
    fails_with(1, "File name too long", "run", "--engine", small_onnx, "x" * 300 + ".png", "-o", tmp_path / "o.png")
    assert not (tmp_path / "out.png").exists()


def test_a_damaged_engine_is_one_sentence_and_no_picture(
    small_onnx: Path, picture: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    model = onnx.load(small_onnx)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full((3, 3, 3, 3), np.nan, np.float32), "w"))
    onnx.save(model, tmp_path / "nan.onnx")
    fails_with(4, "not finite", "run", "--engine", tmp_path / "nan.onnx", picture, "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_export_that_differs_ends_with_3_and_no_file(
    weights: Path,
    latent_export: tuple[Path, CompletedProcess[str]],
    tmp_path: Path,
    fails_with: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = onnx.load(latent_export[0])
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "ending.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.05), bias.name))

    def write_wrong(_model: torch.nn.Module, _card: ModelCard, path: Path, _opset: int) -> None:
        onnx.save(model, path)

    monkeypatch.setattr(exporter, "write_onnx", write_wrong)
    options = ("-o", tmp_path / "m.onnx", *SDE, "--form", "latent", "--task", "dehaze")
    fails_with(3, "the exported graph differs from PyTorch", "export", weights, *options)
    assert list(tmp_path.iterdir()) == []


def test_options_of_run_reach_the_sampler(small_onnx: Path, picture: Path, tmp_path: Path) -> None:
    """Each option gives what the Python call with the same argument gives."""
    restorer, rgb = load(small_onnx), cv2.imread(str(picture))[:, :, ::-1]
    options: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
        "plain": ((), {}),
        "debias": (("--debias",), {"debias": True}),
        "clip": (("--clip",), {"clip": True}),
        "sampler": (("--sampler", "ddim"), {"sampler": "ddim"}),
        "seed": (("--seed", 7), {"seed": 7}),
        "t0": (("--t0", 60), {"t0": 60}),
    }
    results = {}
    for name, (arguments, keywords) in options.items():
        out = tmp_path / f"{name}.png"
        result = irsde("run", "--engine", small_onnx, f"{tmp_path}/i?.png", "-o", out, "--steps", 4, *arguments)
        assert result.returncode == 0, result.stderr
        results[name] = cv2.imread(str(out))[:, :, ::-1]
        np.testing.assert_array_equal(results[name], restorer(rgb, steps=4, **keywords), err_msg=name)
    assert all(np.abs(results["plain"].astype(int) - results[name]).max() > 0 for name in options if name != "plain")


def test_batch_and_format(small_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    for batch in (1, 3):
        command = ("run", "--engine", small_onnx, folder, "-o", tmp_path / str(batch), "--steps", 2, "--batch", batch)
        assert irsde(*command, "--format", "png").returncode == 0
    assert sorted(path.name for path in (tmp_path / "3").iterdir()) == ["0.png", "1.png", "2.png"]
    for i in range(3):
        alone, together = (cv2.imread(str(tmp_path / b / f"{i}.png")).astype(int) for b in ("1", "3"))
        assert np.abs(alone - together).max() <= 1


def test_progress_on_a_terminal_shows_pictures_a_second_and_eta(small_onnx: Path, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), np.zeros((96, 96, 3), np.uint8))
    hurried = "import time; now = time.time; time.time = lambda: 1000 * now(); import irsde_deploy.__main__ as program"
    code, text = irsde_on_terminal(
        "run", small_onnx, picture, "-o", tmp_path / "out.png", "--steps", 100,
        program=[sys.executable, "-c", f"{hurried}; program.main()"],  # the bar knows the ETA after a second
    )  # fmt: skip
    assert code == 0
    assert re.search(r"\[#+-*\]\s+\d+%\s+\d\d:\d\d:\d\d\s+0/1 pictures, \d+\.\d\d pictures/s", text), text
    assert "1/1 pictures" in text


def test_verify_on_a_picture_of_the_users(unet_onnx: Path, picture: Path, tmp_path: Path) -> None:
    outputs = ("--csv", tmp_path / "e.csv", "--plot", tmp_path / "e.png")
    against = load_case("unet_nf8_depth4").weights
    errors = {}
    for name, arguments in {"example": (), "picture": ("--picture", picture)}.items():
        result = irsde(
            "verify", unet_onnx, "--against", against, "--sampler", "ode-2m", "--steps", 2, *outputs, *arguments
        )
        assert result.returncode == 0, result.stderr
        errors[name] = [float(row.split(",")[3]) for row in (tmp_path / "e.csv").read_text().splitlines()[1:]]
        assert len(errors[name]) == 3
        assert max(errors[name]) < 1e-5
    assert errors["picture"] != errors["example"], "the picture was used"
