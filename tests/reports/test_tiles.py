"""What tiles change, by hand: pixel by pixel, step by step, seam by seam."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard, Restorer
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import InvalidValueError, OutOfMemoryError
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.reports.tiles import BAND, TileReport, compare_tiled, format_report, verify_tiles, write_tiles_csv
from irsde_deploy.system.listener import Listener

CARD = ModelCard("toy", {}, 3, 1, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005), global_operators=True)
ONE_STEP = Sampling(sampler="mean", steps=1)


class Toy:
    """A network that darkens by the brightness of all that it sees, so that tiles differ from the whole."""

    name = "toy"

    def __init__(self, card: ModelCard = CARD, hole: tuple[int, int] = (0, 0)) -> None:
        self.card, self.hole = card, hole

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        if self.hole[0] < x[0, 0].size < self.hole[1]:
            raise OutOfMemoryError("there is no memory left")
        return (np.roll(x, 1, axis=3) * x.mean((2, 3), keepdims=True) + 0.4).astype(np.float32)


def picture_of(height: int, width: int) -> np.ndarray:
    rising = np.linspace(0, 0.7, height)[:, None, None] + np.linspace(0, 0.3, width)[None, :, None]
    noise = np.random.default_rng(2).random((height, width, 3))
    return np.rint(255 * (0.8 * rising + 0.2 * noise)).astype(np.uint8)


def by_hand(signed: np.ndarray, seams: list[list[float]]) -> dict[str, float]:
    """A report's numbers on a signed difference, from loops over pixels and seams (of rows, then of columns)."""
    across, inside = [], []
    for row in range(signed.shape[0]):
        for column in range(signed.shape[1]):
            near = [abs(row + 0.5 - seam) < BAND for seam in seams[0]]
            near += [abs(column + 0.5 - seam) < BAND for seam in seams[1]]
            (across if any(near) else inside).append(np.abs(signed[row, column]).mean())
    over, beside = [], []
    for axis, places in enumerate(seams):
        lines = np.moveaxis(signed, axis, 0)
        for seam in map(round, places):
            for left in range(len(lines) - 1):  # the step from `left` to the pixel behind it
                step = np.abs(lines[left + 1] - lines[left]).ravel()
                if left == seam - 1:
                    over.append(step)
                elif abs(left - (seam - 1)) <= BAND:
                    beside.append(step)
    return {
        "largest": np.abs(signed).max(),
        "decibels": -10 * np.log10(np.mean((signed / 255) ** 2)),
        "across": np.mean(across),
        "inside": np.mean(inside) if inside else np.nan,
        "edge": np.mean(np.concatenate(over)),
        "beside": np.mean(np.concatenate(beside)),
    }


@pytest.mark.parametrize(
    ("size", "tiling", "margin", "seams"),
    [
        # Tiles of 24 that overlap by 4 start at 0, 20, 40; the middles of their overlaps are at 22 and 42.
        ((64, 44), Tiling(24, 4), 0, [[22.0, 42.0], [22.0]]),
        ((60, 46), Tiling(24, 4), 0, [[21.0, 39.0], [17.5, 28.5]]),  # they are spread evenly
        ((20, 26), Tiling(8, 2), 0, [[7.0, 13.0], [7.0, 13.0, 19.0]]),  # nearer to the edge than the band is wide
        ((48, 28), Tiling(24, 4), 8, [[14.0, 34.0], [14.0]]),  # as the first, surrounded by 8 pixels
        ((58, 18), Tiling(24, 4), 23, [[19.0, 39.0], []]),  # without those in the margin: -1 and 59, -1 and 19
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_number_is_that_of_its_pixels(
    size: tuple[int, int], tiling: Tiling, margin: int, seams: list[list[float]], dtype: type
) -> None:
    restorer = Restorer(Toy(replace(CARD, margin=margin)))
    picture = picture_of(*size)
    mu = picture / np.float32(255)
    whole, tiled = restorer(mu, ONE_STEP), restorer(mu, ONE_STEP, tile=tiling.side, overlap=tiling.overlap)
    signed = 255 * (tiled.astype(np.float64) - whole)
    assert signed.min() < -signed.max(), "the largest is below"
    given = picture.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    report = compare_tiled(restorer, given, tiling, replace(ONE_STEP, tile=16, overlap=0))
    assert [list(report.row_seams), list(report.column_seams)] == seams
    for name, value in by_hand(signed, seams).items():
        np.testing.assert_allclose(getattr(report, name), value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(report.columns, np.abs(signed).mean((0, 2)), rtol=1e-4)
    np.testing.assert_allclose(report.rows, np.abs(signed).mean((1, 2)), rtol=1e-4)
    assert f"{report.decibels:.2f} dB, {report.largest:.2f} of 255 at most" in format_report(report)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a picture of 24x20 fits into one of the tiles of 24"):
        compare_tiled(Restorer(Toy()), picture_of(20, 24), Tiling(24, 4), ONE_STEP)
    scarce = Restorer(Toy(hole=(150 * 150, 200 * 200)))  # the whole picture fits, and so do tiles of 128
    with pytest.raises(OutOfMemoryError, match="there is not enough memory for tiles of 192"):
        compare_tiled(scarce, picture_of(260, 250), Tiling(192, 32), ONE_STEP)


def test_profiles_are_written_with_their_own_seams(tmp_path: Path) -> None:
    report = TileReport(
        Tiling(24, 4), 40.0, 2.0, np.arange(30.0), np.arange(20.0) / 8, (10.0,), (15.0,), 1.0, 0.5, 0.2, 0.1
    )
    write_tiles_csv(report, tmp_path / "t.csv")
    rows = list(csv.reader((tmp_path / "t.csv").read_text().splitlines()))
    assert rows[0] == ["axis", "position", "mean_difference", "seam"]
    assert rows[1:31] == [["column", str(k), str(k), str(int(2 <= k < 18))] for k in range(30)]
    assert rows[31:] == [["row", str(k), f"{k / 8:g}", str(int(k >= 7))] for k in range(20)]


def test_a_blind_model_starts_at_the_first_timestep_and_a_calibration_is_minded(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed (extra export)")
    write_picture(tmp_path / "in.png", Picture(picture_of(30, 40)))
    sde = DenoisingSDE(75, 100, "cosine")
    card = replace(CARD, sde=sde, settings={"conditional": False}, precision="int8", calibrated=(50, 1))
    restorer, notes, lines = Restorer(Toy(card)), [], []
    files = tmp_path / "in.png", Tiling(24, 4), tmp_path / "t.csv", tmp_path / "t.png"
    listener = Listener(line=lines.append, note=notes.append)
    report = verify_tiles(restorer, *files, sampling=Sampling(sampler="mean", steps=2), listener=listener)
    expected = compare_tiled(restorer, picture_of(30, 40), Tiling(24, 4), Sampling(sampler="mean", steps=2, t0=100))
    assert report.decibels == expected.decibels
    assert lines == [format_report(expected), f"wrote {tmp_path / 't.csv'} and {tmp_path / 't.png'}"]
    assert notes[0].startswith("toy: INT8 is calibrated from t = 50 to 1, and may be far off at t = 100")
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
