"""Degraded and clean pictures that belong together: found by name, held against each other by size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.pictures.pairs import Pair, enlarged, find_pairs, pair_folders, pictures_below, require_fitting_sizes


def written(path: Path, height: int = 4, width: int = 6) -> Path:
    write_picture(path, Picture(np.zeros((height, width, 3), np.uint8)))
    return path


def test_pairs_are_found_by_name_in_folders_of_any_case(tmp_path: Path) -> None:
    clean = [written(tmp_path / "Target" / name) for name in ("b.png", "deep/a.webp")]
    rainy = [written(tmp_path / "LQ" / name) for name in ("b.jpg", "deep/a.png")]
    written(tmp_path / "Rain" / "other.png")  # the first name that is there counts, and that is LQ
    (tmp_path / "gt").write_text("no folder")
    expected = [Pair("b", rainy[0], clean[0]), Pair("deep/a", rainy[1], clean[1])]
    assert find_pairs(tmp_path) == expected
    (tmp_path / "Target").rename(tmp_path / "else")
    with pytest.raises(InputFileError, match="expected two subfolders, LQ and GT"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("lonely", ["LQ", "GT"])
def test_a_picture_without_its_partner_is_named(tmp_path: Path, lonely: str) -> None:
    for side in ("LQ", "GT"):
        written(tmp_path / side / "a.png")
    alone = written(tmp_path / lonely / "z.png")
    other = tmp_path / {"LQ": "GT", "GT": "LQ"}[lonely]
    with pytest.raises(InputFileError, match=rf"^{alone}: has no partner of the same name in {other} \(1 such of 2\)"):
        pair_folders(tmp_path / "LQ", tmp_path / "GT")


def test_folders_that_are_none_and_names_that_are_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such folder of pictures"):
        pictures_below(tmp_path / "none")
    file = written(tmp_path / "in" / "a.png")
    with pytest.raises(InputFileError, match=r"a\.png: is not a folder of pictures"):
        pictures_below(file)
    written(tmp_path / "in" / "a.jpg")
    with pytest.raises(InputFileError, match=r"a\.png: has the same name as a\.jpg"):
        pictures_below(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").write_bytes(file.read_bytes())
    with pytest.raises(InputFileError, match=r"empty: no pictures there \(looked for PNG"):
        pictures_below(tmp_path / "empty")


@pytest.mark.parametrize(
    ("small", "large", "fits"),
    [
        ((4, 6), (4, 6), True),
        ((4, 6), (12, 18), True),
        ((4, 6), (8, 6), False),
        ((4, 6), (4, 12), False),
        ((4, 6), (8, 13), False),
        ((4, 6), (9, 12), False),
        ((4, 6), (2, 3), False),
        ((4, 6), (3, 6), False),
    ],
)
def test_the_clean_picture_is_a_whole_number_of_times_larger(
    tmp_path: Path, small: tuple[int, int], large: tuple[int, int], fits: bool
) -> None:
    same = written(tmp_path / "same.png")
    pair = Pair("a", written(tmp_path / "a.png", *small), written(tmp_path / "b.png", *large))
    arrays = np.zeros((*small, 3), np.uint8), np.zeros((*large, 3), np.uint8)
    if fits:
        require_fitting_sizes([Pair("same", same, same), pair])
        assert enlarged(*arrays, pair).shape == (*large, 3)
        return
    sizes = f"{pair.lq}: is {small[1]}x{small[0]} and its partner {pair.gt} {large[1]}x{large[0]}: "
    for check in (lambda: require_fitting_sizes([Pair("same", same, same), pair]), lambda: enlarged(*arrays, pair)):
        with pytest.raises(InputFileError, match=re.escape(sizes)):
            check()


def test_a_smaller_picture_is_enlarged_by_bicubic_sampling() -> None:
    """By hand, in one dimension: OpenCV's kernel (a = -0.75) at a quarter of a pixel beside each sample."""
    lq = np.array([40, 40, 40, 200, 40, 40, 40], np.uint8)[None, :, None].repeat(3, 2)
    found = enlarged(lq, np.zeros((2, 14, 3), np.uint8), Pair("a", Path("a"), Path("b")))[0, :, 0]
    a = -0.75
    near, far = (a + 2) * 0.25**3 - (a + 3) * 0.25**2 + 1, a * (1.25**3 - 5 * 1.25**2 + 8 * 1.25 - 4)
    middle, last = (a + 2) * 0.75**3 - (a + 3) * 0.75**2 + 1, a * (1.75**3 - 5 * 1.75**2 + 8 * 1.75 - 4)
    weights = [last, far, middle, near, near, middle, far, last]
    np.testing.assert_allclose(found[3:11], 40 + 160 * np.array(weights), atol=1)
    same = lq.copy()
    assert enlarged(same, np.zeros_like(lq), Pair("a", Path("a"), Path("b"))) is same
