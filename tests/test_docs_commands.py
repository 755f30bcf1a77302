"""What README and docs tell their reader to type runs, in the order of each page, in a fresh folder for each.

`documented.py` says how a page marks what is left out and why.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import documented
import numpy as np
import pytest
from places import ROOT
from sample_pictures import photograph

from irsde_deploy.__main__ import main
from irsde_deploy.cli import cli

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
FORMULAS = {"mathematics.md"}
"""Pages whose indented blocks are not commands."""

RUN = [page for page in PAGES if any(block.kind in ("shell", "python") for block in documented.blocks(page))]


@pytest.fixture(scope="session")
def demo_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed model, exported: what `make demo` leaves."""
    from irsde_deploy.export.exporter import export_files

    folder = tmp_path_factory.mktemp("demo")
    small_weights(folder / "derain.safetensors")
    export_files(folder / "derain.safetensors", folder / "derain.onnx", [])
    return folder / "derain.onnx"


def small_weights(path: Path) -> None:
    """A model in place of the committed one: of the same kind, narrower and less deep, to be quick."""
    import torch

    from irsde_deploy import MeanRevertingSDE, ModelCard
    from irsde_deploy.networks.checkpoints import save_checkpoint
    from irsde_deploy.networks.nafnet import ConditionalNAFNet

    torch.manual_seed(0)
    settings = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
    network = ConditionalNAFNet(img_channel=3, **settings)  # type: ignore[arg-type]
    sde = MeanRevertingSDE(max_sigma=100, T=100, schedule="cosine", eps=0.1)
    card = ModelCard("ConditionalNAFNet", settings, 3, 2, "zero", sde, task="derain", sampler="mean", steps=4)
    save_checkpoint(path, network.state_dict(), card)


def pictures(folder: Path, count: int = 2, side: int = 32, rainy: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = photograph(number, side, side + 16)
        if rainy:
            picture = np.maximum(picture, (np.random.default_rng(number).random(picture.shape) > 0.95) * np.uint8(200))
        cv2.imwrite(str(folder / f"{number}.png"), picture[:, :, ::-1])


def one_picture(path: Path, width: int = 48, height: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photograph(0, height, width)[:, :, ::-1])


def video(path: Path) -> None:
    from videos import SD, YUV420, planes_of, write_video

    write_video(path, planes_of(4, YUV420, SD, 32, 64), times=[0, 40, 80, 120])


def reference_checkpoint(path: Path) -> None:
    """Weights alone, as the reference writes them."""
    import torch

    from irsde_deploy.networks.checkpoints import read_checkpoint

    weights = path.with_name("weights.safetensors")
    small_weights(weights)
    torch.save(dict(read_checkpoint(weights).weights), path)
    weights.unlink()


def options_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("sde: {max_sigma: 100, T: 20, schedule: cosine, eps: 0.1}\n")


def pairs(folder: Path) -> None:
    pictures(folder / "LQ", rainy=True)
    pictures(folder / "GT")


MADE: dict[str, Callable[[Path], None]] = {
    "ckpt.pth": reference_checkpoint,
    "options/test/ir-sde.yml": options_file,
    "photos/": pictures,
    "rainy/": lambda path: pictures(path, 4, rainy=True),
    "LQ/": lambda path: pictures(path, rainy=True),
    "GT/": pictures,
    "clean/": lambda path: pictures(path, 4),
    "pairs/": pairs,
    "in.mp4": video,
    "in.mkv": video,
    "film.webm": video,
}


def make(name: str, folder: Path, demo_onnx: Path) -> None:
    """Make what a page's reader has by then."""
    path = folder / name
    if name == "the repository":
        for part in ("examples", "benchmarks", "runtimes", "export", "calibration"):
            (folder / part).symlink_to(ROOT / part)
        one_picture(folder / "assets" / "rain.png")
        small_weights(folder / "assets" / "derain_nafnet_w16.safetensors")
    elif name.endswith("derain.onnx"):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(demo_onnx, path)
    elif name.endswith("derain.safetensors"):
        small_weights(path)
    elif name in MADE:
        MADE[name](path)
    else:
        picture = re.fullmatch(r"(\w+\.png)(?: \((\d+)x(\d+)\))?", name)
        assert picture is not None, f"nobody makes {name}"
        one_picture(folder / picture[1], *(int(side) for side in picture.groups()[1:] if side))


def scope_of(names: list[str], folder: Path) -> dict[str, object]:
    """The variables that a page's Python takes for given."""
    return {"picture": photograph(0, 32, 48), "frames": np.stack([photograph(k, 32, 48) for k in range(4)])}


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_runs(
    page: Path, tmp_path: Path, demo_onnx: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = documented.given(page)
    for name in names:
        make(name, tmp_path, demo_onnx)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    scope = scope_of(names, tmp_path)
    for block in documented.blocks(page):
        where = f"{page.name}:{block.line}"
        if block.kind == "python" and "" not in block.left_out:
            exec(compile(block.python, where, "exec"), scope)
        elif block.kind == "shell" and page.name not in FORMULAS:
            for command in block.commands:
                run(command, where, monkeypatch, capfd)


def run(command: str, where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Run a line: our own commands in this process, what only a shell can run in a shell."""
    capfd.readouterr()
    if command.startswith("irsde-deploy ") and not set("|<>$") & set(command):
        monkeypatch.setattr(sys, "argv", shlex.split(command, comments=True))
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
    else:
        code = subprocess.run(["bash", "-eo", "pipefail", "-c", command], check=False, timeout=300).returncode
    assert not code, f"{where}: {command}: {capfd.readouterr().err}"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_examples_of_a_command_are_right(name: str) -> None:
    """They parse, so that every option in them is one; at least two."""
    examples = cli.commands[name].examples  # type: ignore[attr-defined]
    assert len(examples) >= 2
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("irsde-deploy", name)
        cli.commands[name].make_context(name, arguments).close()
