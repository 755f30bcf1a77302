"""What is measured of each pair, summed up, and shown as the worst; against values by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.core.comparison import psnr
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.metrics import luma, ring_error, ssim
from irsde_deploy.pictures.pairs import Pair
from irsde_deploy.reports.evaluation import Evaluation, Measurement, WorstPictures, evaluate, write_reports

pytest.importorskip("skimage", reason="scikit-image is not installed (extra evaluate)")
RNG = np.random.default_rng(6)


def pair_of(folder: Path, lq: np.ndarray, gt: np.ndarray, name: str = "a") -> Pair:
    pair = Pair(name, folder / "LQ" / f"{name}.png", folder / "GT" / f"{name}.png")
    write_picture(pair.lq, Picture(lq))
    write_picture(pair.gt, Picture(gt))
    return pair


def darker(picture: np.ndarray) -> tuple[np.ndarray, int]:
    return picture // 2 + 3, 7


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """A stand-in for LPIPS, which takes 8 bits."""
    assert one.dtype == other.dtype == np.uint8
    return float((one.astype(int) - other).mean())


def measured(pair: Pair, border: int) -> Measurement:
    (found,) = evaluate(darker, [pair], border, {"distance": mean_difference}, lambda *_: None)
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_is_of_the_pictures_that_it_says(tmp_path: Path, dtype: type) -> None:
    lq, gt = RNG.integers(0, np.iinfo(dtype).max, (2, 40, 30, 3)).astype(dtype)
    found = measured(pair_of(tmp_path, lq, gt), 3)
    restored, inner = lq // 2 + 3, (slice(3, -3), slice(3, -3))
    ring, interior = ring_error(restored, gt)
    scale = 257 if dtype == np.uint16 else 1
    eight = [np.rint(picture / scale).astype(int) for picture in (restored, gt)]
    expected = {
        "psnr": psnr(restored[inner], gt[inner]),
        "ssim": ssim(restored[inner], gt[inner]),
        "psnr_y": psnr(luma(restored[inner]), luma(gt[inner])),
        "ssim_y": ssim(luma(restored[inner]), luma(gt[inner])),
        "ring": ring,
        "interior": interior,
        "input_psnr": psnr(lq[inner], gt[inner]),
        "input_ssim": ssim(lq[inner], gt[inner]),
        "distance": (eight[0] - eight[1]).mean(),
        "evaluations": 7,
    }
    seconds = found.values.pop("seconds")
    assert seconds is not None
    assert seconds >= 0
    assert found.values == pytest.approx(expected, rel=1e-12)
    assert list(found.values)[:4] == ["psnr", "ssim", "psnr_y", "ssim_y"], "the order of the columns"


def test_what_has_more_bits_comes_down_to_the_others(tmp_path: Path) -> None:
    lq, gt = RNG.integers(0, 255, (2, 24, 24, 3), dtype=np.uint8)
    expected = measured(pair_of(tmp_path / "8", lq, gt), 0).values
    deep = gt.astype(np.uint16) * 257 + 100  # of which 8 bits say nothing
    found = measured(pair_of(tmp_path / "16", lq, deep), 0).values
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize(
    ("side", "border", "words"),
    [(9, 4, None), (8, 4, "a border of 4 pixels leaves nothing of 30x8: use `crop_border` 0"), (8, 0, None)],
)
def test_a_border_may_leave_a_single_row(tmp_path: Path, side: int, border: int, words: str | None) -> None:
    lq, gt = RNG.integers(0, 256, (2, side, 30, 3), dtype=np.uint8)
    pair = pair_of(tmp_path, lq, gt)
    found = measured(pair, border)
    assert found.error == (words and f"{pair.lq}: {words}")
    assert found.values.get("ssim") is None
    if words is None:
        inner = slice(border, side - border), slice(border, 30 - border)
        assert found.values["psnr"] == pytest.approx(psnr(darker(lq)[0][inner], gt[inner]))


@pytest.mark.parametrize(("side", "has_ssim"), [(19, True), (18, False)])
def test_ssim_is_measured_where_its_window_fits(tmp_path: Path, side: int, has_ssim: bool) -> None:
    found = measured(pair_of(tmp_path, *RNG.integers(0, 256, (2, side, 30, 3), dtype=np.uint8)), 4)
    assert [found.values[name] is not None for name in ("ssim", "ssim_y", "input_ssim")] == [has_ssim] * 3


MEASUREMENTS = [
    Measurement("a", {"psnr": 20.0, "ssim": None}),
    Measurement("b", {}, "b.png: the picture is damaged"),
    Measurement("c", {"psnr": math.inf, "ssim": 0.5, "lpips": 0.25}),
    Measurement("d", {"psnr": 31.0, "ssim": 1.0, "lpips": None}),
]


def test_means_are_over_what_could_be_measured(tmp_path: Path) -> None:
    evaluation = Evaluation({"engine": "toy"}, list(MEASUREMENTS))
    assert evaluation.columns == ["psnr", "ssim", "lpips"]
    means = {"psnr": 25.5, "ssim": 0.75, "lpips": 0.25}
    assert evaluation.summary() == {"engine": "toy", "pictures": 4, "failed": 1, "mean": means}
    assert Evaluation({}, MEASUREMENTS[1:2]).mean("psnr") is None
    write_reports(evaluation, tmp_path)
    rows = list(csv.reader((tmp_path / "pictures.csv").read_text().splitlines()))
    assert rows == [
        ["picture", "psnr", "ssim", "lpips", "error"],
        ["a", "20", "", "", ""],
        ["b", "", "", "", "b.png: the picture is damaged"],
        ["c", "inf", "0.5", "0.25", ""],
        ["d", "31", "1", "", ""],
    ]
    assert json.loads((tmp_path / "summary.json").read_text()) == evaluation.summary()
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("- engine: toy\n- pictures: 4\n- failed: 1\n\n| mean of | value |\n")
    assert "| psnr | 25.5 |\n| ssim | 0.75 |\n| lpips | 0.25 |" in text


def test_the_sheet_shows_the_worst_first(tmp_path: Path) -> None:
    worst = WorstPictures(2)
    assert not worst.write(tmp_path / "none.png")
    for number, quality in enumerate((30.0, 10.0, None, 20.0, 25.0)):
        images = [np.full((16, 32, 3), 257 * (40 * number + 10 * k), np.uint16) for k in range(3)]
        worst.add(Measurement(f"p{number}", {"psnr": quality}), images)
    assert worst.write(tmp_path / "worst.png")
    assert not (tmp_path / "none.png").exists()
    sheet = read_picture(tmp_path / "worst.png").rgb
    assert sheet.shape == (20 + 2 * (20 + 160), 960, 3)
    for row, number in enumerate((1, 3)):
        cells = sheet[40 + 180 * row : 200 + 180 * row].reshape(160, 3, 320, 3)
        assert [np.unique(cells[:, k]).tolist() for k in range(3)] == [[40 * number + 10 * k] for k in range(3)]
