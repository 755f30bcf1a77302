"""`run` on a folder as people have them: good pictures, damaged ones, and what is none, in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import irsde
from PIL import Image
from png_writer import chunk, png_bytes
from tiff_writer import write_tiff

RNG = np.random.default_rng(7)
VALUES = RNG.integers(0, 256, (16, 24, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    good = png_bytes(VALUES, 8, 2)
    (folder / "a.png").write_bytes(good)
    (folder / "b.png").write_bytes(png_bytes(VALUES, 8, 2, before=chunk(b"gAMA", b"\0\1\x86\xa0")))
    write_tiff(folder / "c.tif", VALUES, 8, 2, tags={34675: ("I", [1, 2, 3])})
    (folder / "d\x1b[31m\n.png").write_bytes(good[:-60])
    Image.fromarray(VALUES.astype(np.uint8)).save(folder / "e.bmp")
    (folder / "f.heic").write_bytes(b"x")
    (folder / "loop").symlink_to(".")
    return folder


def test_a_mixed_folder(small_onnx: Path, folder: Path) -> None:
    out = folder.parent / "out"
    common = ("run", "--engine", small_onnx, "--sampler", "mean", "--steps", 1, "-o", out)
    result = irsde(*common, folder, "--format", "jpg")
    assert result.returncode == 4
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    said = [line.removeprefix("irsde-deploy: ") for line in result.stderr.strip().splitlines()]
    assert len(said) == 4, said
    for words in (
        "left out 1 file that is no picture that can be read: 1 .heic",
        "b.jpg: its format cannot hold its description of colour (gAMA)",
        "c.tif: its colour profile cannot be read (it has no valid header) and is left out",
        "d [31m .png: the picture is damaged (its pixel data end early)",
    ):
        assert sum(line.endswith(words) for line in said) == 1, words
    again = irsde(*common, f"{folder}/**/*.[pb][nm][gp]", "--skip-existing", "--batch", 3)
    assert again.returncode == 4
    assert {"a.png", "b.png", "e.png"} < {path.name for path in out.iterdir()}
    assert not (out / "loop").exists(), "each picture once"
