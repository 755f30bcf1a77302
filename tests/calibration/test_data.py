"""The pictures of a calibration: those that cannot be read, or do not fit, are left out and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_quantisable import small_quantisable

from irsde_deploy.calibration.data import find_data
from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture

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


def test_as_many_pictures_as_are_allowed_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irsde_deploy.calibration.data.MAX_PICTURES", 4)
    assert len(find_data(str(folder / "LQ")).entries) == 3
    monkeypatch.setattr("irsde_deploy.calibration.data.MAX_PICTURES", 3)
    with pytest.raises(InputFileError, match="4 pictures are more than ranges need: give 3 at most"):
        find_data(str(folder / "LQ"))


def test_a_degraded_picture_that_is_smaller_is_brought_to_the_clean_ones_size(tmp_path: Path) -> None:
    for side, size in (("LQ", 8), ("GT", 24)):
        picture = Picture(RNG.integers(0, 256, (size, size, 3), dtype=np.uint8))
        write_picture(tmp_path / side / "a.png", picture)
    (source,) = find_data(str(tmp_path)).sources(small_quantisable()[1])
    mu, y0 = source.read()
    assert y0 is not None
    assert source.shape == mu.shape[1:] == y0.shape[1:] == (24, 24)
    clean = read_picture(tmp_path / "GT" / "a.png").rgb.transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(mu + y0, clean, atol=1e-6)


def test_a_manifests_pictures_are_taken_by_name_in_its_order_and_as_they_were(tmp_path: Path) -> None:
    for side in ("LQ", "GT"):
        for name in "abc":
            write_picture(tmp_path / side / f"{name}.png", Picture(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)))
    data = find_data(str(tmp_path))
    assert [entry.name for entry in data.only(data.hashes[:0:-1]).entries] == ["c", "b"]
    for change, side in (({"lq_sha256": "0" * 64}, "LQ"), ({"gt_sha256": "0" * 64}, "GT"), ({"gt_sha256": None}, "GT")):
        other = replace(data.hashes[1], **change)  # type: ignore[arg-type]
        with pytest.raises(InputFileError, match=rf"{side}.b\.png: is another file than the manifest's"):
            data.only([other])


def test_where_none_is_left_the_first_failure_is_said(folder: Path) -> None:
    (folder / "LQ" / "a.png").write_text("no picture")
    with pytest.raises(InputFileError, match=r"a\.png: not a PNG"):
        find_data(str(folder))
