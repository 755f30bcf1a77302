"""The pictures of a calibration: those that cannot be read, or do not fit, are left out and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.calibration.data import find_data
from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, write_picture

RNG = np.random.default_rng(6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pairs: a whole one, one cut short, one of other sizes, one of text."""
    for side in ("LQ", "GT"):
        for name in "abcd":
            size = 9 if (side, name) == ("LQ", "c") else 16
            write_picture(tmp_path / side / f"{name}.png", Picture(RNG.integers(0, 256, (size, 16, 3), dtype=np.uint8)))
    cut = tmp_path / "GT" / "b.png"
    cut.write_bytes(cut.read_bytes()[:-100])
    (tmp_path / "LQ" / "d.png").write_text("no picture")
    return tmp_path


def test_one_bad_pair_does_not_stop_a_calibration(folder: Path) -> None:
    notes: list[str] = []
    data = find_data(str(folder), notes.append)
    assert [entry.name for entry in data.entries] == ["a"]
    for note, words in zip(notes, ("b.png: the picture is damaged", "c.png: is 16x9", "d.png: not a PNG"), strict=True):
        assert words in note
        assert note.endswith(": left out of the calibration")


def test_pictures_alone_are_left_out_as_well(folder: Path) -> None:
    notes: list[str] = []
    data = find_data(str(folder / "LQ"), notes.append)
    assert [entry.name for entry in data.entries] == ["a", "b", "c"]
    assert len(notes) == 1


def test_where_none_is_left_the_first_failure_is_said(folder: Path) -> None:
    (folder / "LQ" / "a.png").write_text("no picture")
    with pytest.raises(InputFileError, match=r"a\.png: not a PNG"):
        find_data(str(folder))
