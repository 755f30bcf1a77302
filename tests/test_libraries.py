"""No command opens a connection, or writes anywhere but where it was told to, into our cache or the system's /tmp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import DATA, TESTS
from sample_pictures import write_photographs
from small_network import write_small_network
from videos import SD, YUV420, planes_of, write_video

from irsde_deploy.cli import cli

Watched = tuple[Path, list[tuple[list[str], int, list[str], list[str]]]]


def commands() -> list[list[str]]:
    """Each command at least once, with every engine that runs here; all write into out/."""
    one = ["--sampler", "mean", "--steps", "1"]
    run = ["run", "--engine", "small.onnx", *one, "--overwrite", "-o"]
    made = ["--gt", "photos", "--degradation", "rain"]
    few = ["--recipe", str(DATA / "tiny_recipe.toml"), "--iterations", "1"]
    rtx = ["--backend", "tensorrt-rtx", "--compute-capability", "8.9"]
    rtx += ["--min", "32x32", "--opt-size", "64x64", "--max", "64x64"]
    return [
        ["doctor"],
        ["inspect", "small.onnx"],
        [*run, "out/p0.png", "photos/p0.png", "--engine-provider", "onnxruntime"],
        [*run, "out/p0.png", "photos/p0.png", "--engine-provider", "openvino"],
        [*run, "out/p0.png", "photos/p0.png", "--engine-provider", "auto"],
        [*run, "out/clip.mp4", "clip.mp4"],
        ["degrade", "photos/p0.png", "--kind", "rain", "-o", "out/rain.png"],
        ["bench", "small.onnx", "--size", "32x32", "--repeats", "1", "--quality", "draft", "-o", "out/bench"],
        ["evaluate", "--engine", "small.onnx", "--lq", "photos", "--gt", "photos", *one, "-o", "out/evaluated"],
        ["train", *few, *made, "-o", "out/run"],
        ["export", "out/run/last.pt", "-o", "out/trained.onnx"],
        ["verify", "out/trained.onnx", "--against", "out/run/last.pt", *one, "--plot", "out/verify.png"],
        ["calibrate", "out/trained.onnx", "--data", "photos", "--states", "4", *one, "-o", "out/int8.onnx"],
        ["pack", "small.onnx", *one, "-o", "out/pack"],
        ["selftest", "out/pack"],
        ["build", "out/trained.onnx", "-o", "out/trained.plan", *rtx],
    ]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The folder that the commands ran in, and of each: arguments, exit code, sockets, paths that it wrote."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "photos").mkdir()
    pytest.importorskip("torch", reason="PyTorch, which some of the commands need, is not installed")
    write_photographs(folder / "photos", 4)
    write_small_network(folder / "small.onnx")
    write_video(folder / "clip.mp4", planes_of(2, YUV420, SD, 16, 32))
    for name in ("home", "out", "tmp"):
        (folder / name).mkdir()
    (folder / "commands.json").write_text(json.dumps(commands()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    unset = ("ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "CI")
    environment = {name: value for name, value in kept.items() if name not in unset}
    environment["PYTHONDONTWRITEBYTECODE"] = (
        "1"  # the interpreter's own doing, the first time that a module is imported
    )
    environment |= {"HOME": str(folder / "home"), "IRSDE_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, TESTS / "watched.py", "commands.json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(lines) == len(commands()), done.stderr
    return folder, lines


def test_every_command_is_watched() -> None:
    assert {arguments[0] for arguments in commands()} == set(cli.commands)


def test_the_commands_work_but_for_what_is_not_installed(watched: Watched) -> None:
    failed = [(arguments[0], code) for arguments, code, _, _ in watched[1] if code]
    assert failed in ([], [("build", 5)])


def test_no_command_opens_a_connection(watched: Watched) -> None:
    assert [(arguments, sockets) for arguments, _, sockets, _ in watched[1] if sockets] == []


def test_commands_write_into_their_outputs_and_the_cache_alone(watched: Watched) -> None:
    folder, lines = watched
    allowed = (os.devnull, *(str(folder / name) for name in ("out", "cache")))
    paths = [(arguments, path) for arguments, _, _, written in lines for path in written]
    elsewhere = [(arguments, path) for arguments, path in paths if not path.startswith(allowed)]
    assert elsewhere == []


def test_native_code_leaves_nothing_at_home_either(watched: Watched) -> None:
    folder, _ = watched
    assert [str(path) for path in (folder / "home").rglob("*")] == []
    assert [str(path) for path in (folder / "tmp").rglob("*")] == []
