"""What commands print, and where: -q, -v, --json, lines beside the progress bar, engines by place and by name."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import irsde, irsde_on_terminal
from sample_pictures import photograph

import irsde_deploy
from irsde_deploy.__main__ import main
from irsde_deploy.cli import cli
from irsde_deploy.pictures.files import Picture, write_picture

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures, and between them in order one that is none."""
    for number in (0, 2):
        write_picture(tmp_path / "photos" / f"{number}.png", Picture(photograph(number, 24, 32)))
    (tmp_path / "photos" / "1.png").write_text("no picture")
    return tmp_path / "photos"


def test_quiet_prints_errors_alone(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    write_picture(photos / "0.png", Picture(photograph(0, 24, 32).astype("uint16") * 257))  # of which a note is to say
    command = ("run", small_onnx, photos, "-o", tmp_path / "out", "--steps", 1, "--format", "jpg")
    code, stdout, stderr = run(*command, "-q")
    assert (code, stdout) == (4, "")
    assert stderr.startswith(f"irsde-deploy: {photos}/1.png: ")
    assert stderr.count("\n") == 1
    assert run("inspect", small_onnx, "-q")[1].startswith("file: "), "what a command is there for stays"
    assert run(*command, "-q", "-v")[0] == 2


def test_verbose_says_versions_engine_and_timings(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    _, stdout, stderr = run("run", small_onnx, photos / "0.png", "-o", tmp_path / "o.png", "--steps", 1, "-v")
    first, *_, last = stderr.splitlines()
    assert first.startswith(f"irsde-deploy: {irsde_deploy.__version__} run; Python {sys.version.split()[0]}, ")
    assert f"irsde-deploy: <Restorer {small_onnx}: " in stderr
    assert f"irsde-deploy: {photos}/0.png: written after " in stderr
    assert last.startswith("irsde-deploy: took ")
    assert "onnxruntime " in last
    assert "1 written" in stdout
    assert run("run", small_onnx, photos / "0.png", "-o", tmp_path / "o2.png", "--steps", 1)[2] == ""


def test_json_of_run_says_what_became_of_each_file(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "2.jpg").touch()
    arguments = ("run", "--engine", small_onnx, photos, "-o", out, "--steps", 1, "--format", "jpg", "--json")
    write_picture(photos / "0.png", Picture(photograph(0, 24, 32).astype("uint16") * 257))
    code, stdout, stderr = run(*arguments, "--skip-existing")
    said = json.loads(stdout)
    assert code == said["exit_status"] == 4
    assert said["error"] is None
    counts = [said[status] for status in ("written", "incomplete", "failed", "skipped")]
    assert counts == [1, 0, 1, 1]
    assert said["outputs"] == [f"{out}/0.jpg"]
    assert [(Path(f["input"]).name, f["status"]) for f in said["files"]] == [
        ("0.png", "written"),
        ("1.png", "failed"),
        ("2.png", "skipped"),
    ]
    note = f"{out}/0.jpg: its format cannot hold its 16-bit precision"
    assert said["files"][0]["notes"][0].startswith(note)
    assert said["notes"][0].startswith(note)
    assert said["files"][1]["error"] in stderr
    assert 0 < said["files"][0]["seconds"] < said["seconds"]
    assert said["engine"]["files"] == [str(small_onnx)]


def test_json_says_the_error_that_ends_a_command(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.png").touch()
    result = irsde("run", small_onnx, photos, "-o", tmp_path / "out", "--json")
    said = json.loads(result.stdout)
    assert result.returncode == said["exit_status"] == 1
    assert said["error"].endswith("exists already: pass --overwrite to replace or --skip-existing to keep it")
    assert result.stderr == f"irsde-deploy: {said['error']}\n"
    code, stdout, _ = run("run", small_onnx, "-", "-o", "-", "--json")
    assert (code, json.loads(stdout)["exit_status"]) == (2, 2)


def test_json_of_evaluate_and_doctor(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    clean = tmp_path / "clean"
    for number in (0, 1, 2):
        write_picture(clean / f"{number}.png", Picture(photograph(number, 24, 32)))
    arguments = ("--lq", photos, "--gt", clean, "-o", tmp_path / "report", "--steps", 1)
    code, stdout, _ = run("evaluate", small_onnx, *arguments, "--json")
    said = json.loads(stdout)
    assert code == said["exit_status"] == 4
    assert said["summary"] == json.loads((tmp_path / "report" / "summary.json").read_text())
    assert [entry["picture"] for entry in said["files"]] == ["0", "1", "2"]
    assert said["files"][0]["input_psnr"] is None, "equal pictures: infinite, which JSON has no number for"
    assert said["files"][1]["error"].startswith(f"{photos}/1.png: ")
    findings = {finding["what"]: finding for finding in json.loads(run("doctor", "--json")[1])["findings"]}
    assert findings["numpy (base)"]["found"] is True
    assert {"GStreamer (by hand)", "vapoursynth (vapoursynth)", "cloup (base)"} <= set(findings)


def test_an_engine_is_taken_by_its_place_and_by_name(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    outputs = [tmp_path / "a.png", tmp_path / "b.png"]
    assert run("run", small_onnx, photos / "0.png", "-o", outputs[0], "--steps", 1)[0] == 0
    assert run("run", photos / "0.png", "--engine", small_onnx, "-o", outputs[1], "--steps", 1)[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert run("inspect", "--engine", small_onnx) == run("inspect", small_onnx)
    for name in ("run", "inspect", "verify", "pack", "bench", "build", "calibrate", "evaluate"):
        required = [o for p in cli.commands[name].params if p.required for o in (p.opts[-1], "x")]
        code, _, stderr = run(name, *required)
        assert (code, "no engine is given" in stderr) == (2, True), stderr
        if name not in ("run", "bench"):
            code, _, stderr = run(name, small_onnx, "--engine", small_onnx, *required)
            assert (code, "an engine is given twice" in stderr) == (2, True), stderr


def test_mistyped_names_lead_to_what_was_meant(small_onnx: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    mistyped = small_onnx.with_suffix(".onn")
    meant = f"irsde-deploy: {mistyped}: no such file: did you mean {small_onnx}?\n"
    assert run("run", mistyped, photos, "-o", tmp_path / "out") == (1, "", meant)
    assert run("run", "--engine", mistyped, photos, "-o", tmp_path / "out") == (1, "", meant)
    assert run("inspect", mistyped) == (1, "", meant)
    for device in ("gpu", "GPU", "nvidia"):
        _, _, stderr = run("run", small_onnx, photos, "-o", tmp_path / "out", "--device", device)
        assert "'cuda', 'auto': did you mean cuda?" in stderr
    _, _, stderr = run("run", small_onnx, photos, "-o", tmp_path / "out", "--sampler", "posterio")
    assert "did you mean posterior?" in stderr


def test_text_comes_above_the_progress_bar(small_onnx: Path, photos: Path, tmp_path: Path) -> None:
    """On a terminal that shows both, no line begins beside what is left of the bar."""
    _, shown = irsde_on_terminal("run", small_onnx, photos, "-o", tmp_path / "out", "--steps", 3)
    lines = on_screen(shown)
    error = next(line for line in lines if "1.png" in line)
    assert error.startswith("irsde-deploy: "), lines
    assert "[" not in error, lines
    assert any("100%" in line for line in lines), "the bar is drawn again below"


def test_progress_counts_every_picture_of_a_batch_and_those_that_failed(
    small_onnx: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    totals = []

    @contextmanager
    def progress(total: int, label: str) -> Iterator[Callable[[int, str], None]]:
        totals.append(total)
        yield lambda done, words: told.append(done)

    monkeypatch.setattr(importlib.import_module("irsde_deploy.cli.run"), "progress", progress)
    run("run", small_onnx, photos, "-o", tmp_path / "out", "--steps", 3, "--batch", 2)
    assert totals == [9]
    assert told[:5] == [3, 3, 5, 7, 9], "the picture that is none, and then two at a time"
    assert told[-1] == 9


def on_screen(text: str) -> list[str]:
    """What a terminal shows in the end, of the few commands that are used here."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[[?0-9;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            lines.append("")
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not part.startswith("\x1b"):
            lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + len(part) :]
            column += len(part)
    return lines


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [("irsde-deploy ru", 1, ["plain,run"]), ("irsde-deploy run --samp", 2, ["plain,--sampler"])],
)
def test_a_shell_completes_commands_and_options(words: str, position: int, expected: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(position), "_IRSDE_DEPLOY_COMPLETE": "bash_complete"}
    code = "import sys; sys.argv[0] = 'irsde-deploy'; from irsde_deploy.__main__ import main; main()"
    program = [sys.executable, "-c", code]
    result = subprocess.run(program, capture_output=True, text=True, env={**os.environ, **asked}, timeout=60)
    assert result.stdout.split() == expected, result.stderr
