"""What tiling changes: a picture restored in tiles against the same restored whole, and whether seams can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.calibrated import uncalibrated_words
from ..core.comparison import psnr
from ..core.margin import evaluated
from ..core.pixels import require_rgb_pictures
from ..core.sampling import Sampling
from ..core.tiling import Tiling
from ..errors import InvalidValueError, OutOfMemoryError
from ..pictures.files import read_picture
from ..restorer import Restorer
from ..system.figures import figure_file
from ..system.listener import SILENT, Listener
from ..system.tables import write_csv

BAND = 8
"""Pixels on each side of a seam (the middle of an overlap) that count as across it."""

Profile = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileReport:
    """Differences on the 0..255 scale.

    Attributes:
        tiling: the tiles.
        decibels: PSNR of the tiled picture against the whole.
        largest: difference of a value.
        columns, rows: mean absolute difference of each column (W,) and row (H,).
        column_seams, row_seams: positions of the seams, in pixels.
        across, inside: mean absolute difference within `BAND` of a seam, and elsewhere.
        edge, beside: mean absolute step of the difference from a pixel to the next, over a seam and within `BAND` of
            it: where the first is larger, there is an edge that the whole picture does not have.
    """

    tiling: Tiling
    decibels: float
    largest: float
    columns: Profile
    rows: Profile
    column_seams: tuple[float, ...]
    row_seams: tuple[float, ...]
    across: float
    inside: float
    edge: float
    beside: float


def verify_tiles(
    restorer: Restorer,
    picture: Path,
    tiling: Tiling,
    csv: Path,
    plot: Path,
    *,
    sampling: Sampling | None = None,
    listener: Listener = SILENT,
) -> TileReport:
    """Compare a picture restored in tiles with the same restored whole, and write what differs along both axes.

    Args:
        restorer: with room for the whole picture.
        picture: file of a degraded RGB picture, larger than a tile.
        tiling: the tiles.
        csv: CSV file to write, a row a column and a row of the picture. plot: PNG file to write. Existing ones are
            replaced.
        sampling: how to restore; its own tiles do not count. What it leaves open is the card's; a denoising model
            starts at T where it says nothing, and not at the picture's noise level.
        listener: is told the differences and what was written, and notes.

    Raises:
        InvalidValueError: the picture fits into one tile, settings do not fit the model, or it restores no RGB.
        InputFileError: the picture cannot be read. OutputFileError: a file cannot be written.
        OutOfMemoryError: the tiles do not fit into memory. MissingPackageError: Matplotlib is not installed.
    """
    file = restorer.files[0] if restorer.files else Path(restorer.engine.name)
    require_rgb_pictures(restorer.card, file)
    sampling = sampling or Sampling()
    if sampling.starts_blind(restorer.sde):
        sampling = replace(sampling, t0=restorer.sde.T)
    uncalibrated = uncalibrated_words(restorer.card, restorer.plan(sampling).table.t)
    if uncalibrated is not None:
        listener.note(f"{file}: {uncalibrated}")
    report = compare_tiled(restorer, read_picture(picture).rgb, tiling, sampling)
    write_tiles_csv(report, csv)
    write_tiles_plot(report, plot, file.name)
    listener.line(format_report(report))
    listener.line(f"wrote {csv} and {plot}")
    return report


def compare_tiled(
    restorer: Restorer, picture: npt.NDArray[Any], tiling: Tiling, sampling: Sampling | None = None
) -> TileReport:
    """Restore a picture whole and in tiles, with the same noise.

    Args:
        restorer: with room for the whole picture.
        picture: (H, W, 3), any type that it takes; restored in float32.
        tiling: the tiles.
        sampling: how to restore; its own tiles do not count.

    Raises:
        InvalidValueError: the picture fits into one tile. OutOfMemoryError: the tiles do not fit into memory.
    """
    multiple, margin = restorer.card.multiple_of, restorer.card.margin
    tiling = tiling.on_grid(multiple)
    height, width = picture.shape[:2]
    tiles = tiling.over(*evaluated(height, width, margin, multiple), multiple)
    if len(tiles) == 1:
        raise InvalidValueError(f"a picture of {width}x{height} fits into one of the {tiling}: use smaller ones")
    mu = picture.astype(np.float32)
    if picture.dtype.kind == "u":
        mu /= np.iinfo(picture.dtype).max
    whole = restorer(mu, sampling, tile=None, overlap=None)
    tiled = restorer(mu, sampling, tile=tiling.side, overlap=tiling.overlap)
    if restorer.tiling != tiling:
        raise OutOfMemoryError(f"there is not enough memory for {tiling}: compare smaller ones")
    signed = 255 * (tiled.astype(np.float64) - whole)
    error = np.abs(signed).mean(2)
    seams = [_in_picture(tiles.rows.seams, margin, height), _in_picture(tiles.columns.seams, margin, width)]
    across = _near(height, seams[0])[:, None] | _near(width, seams[1])
    return TileReport(
        tiling,
        psnr(tiled, whole, 1.0),
        float(np.abs(signed).max()),
        error.mean(0),
        error.mean(1),
        tuple(seams[1].tolist()),
        tuple(seams[0].tolist()),
        _mean([error[across]]),
        _mean([error[~across]]),
        *_edges(signed, seams),
    )


def _in_picture(seams: Sequence[float], margin: int, side: int) -> Profile:
    """Where seams of the surrounded picture are in the picture itself; without those in the margin."""
    places = np.array(seams, dtype=np.float64) - margin
    return places[(places >= 1) & (places <= side - 1)] if margin else places


def _edges(signed: Profile, seams: list[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Mean absolute step of a signed difference (H, W, C) over seams, and beside them, both directions together."""
    over: list[Profile] = []
    beside: list[Profile] = []
    for axis in (0, 1):
        steps = np.abs(np.diff(signed, axis=axis)).swapaxes(0, axis)  # steps[k] is between pixels k and k + 1
        for seam in np.rint(seams[axis]).astype(int) - 1:
            over.append(steps[seam])
            beside += [*steps[max(0, seam - BAND) : seam], *steps[seam + 1 : seam + BAND + 1]]
    return _mean(over), _mean(beside)


def _mean(parts: list[Profile]) -> float:
    """The mean of all values; not a number where there are none."""
    count = sum(part.size for part in parts)
    if count == 0:
        return float("nan")
    return float(sum(part.sum() for part in parts)) / count


def _near(length: int, seams: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """(length,): whether a pixel is within `BAND` of a seam."""
    middle = np.arange(length) + 0.5
    close: npt.NDArray[np.bool_] = (np.abs(np.subtract.outer(middle, seams)) < BAND).any(1)
    return close


def format_report(report: TileReport) -> str:
    """A few lines for people."""
    return "\n".join(
        [
            f"{report.tiling} against the whole picture: {report.decibels:.2f} dB, {report.largest:.2f} of 255 at most",
            f"mean difference within {BAND} pixels of a seam {report.across:.3f} of 255, elsewhere {report.inside:.3f}",
            f"its step from a pixel to the next {report.edge:.4f} over a seam, {report.beside:.4f} beside it",
        ]
    )


def write_tiles_csv(report: TileReport, path: Path) -> None:
    """Write one row a column and a row of the picture: axis, position, mean absolute difference, whether a seam."""
    rows: list[tuple[str, int, str, int]] = []
    for axis, profile, seams in _axes(report):
        near = _near(len(profile), np.array(seams))
        rows += [(axis, k, f"{value:.6g}", int(near[k])) for k, value in enumerate(profile)]
    write_csv(path, ("axis", "position", "mean_difference", "seam"), rows)


def write_tiles_plot(report: TileReport, path: Path, title: str) -> None:
    """Draw the difference along both axes, with the seams marked."""
    with figure_file(path, size=(9, 5), dpi=120) as figure:
        for axes, (axis, profile, seams) in zip(figure.subplots(2, 1), _axes(report), strict=True):
            axes.plot(np.arange(len(profile)) + 0.5, profile, linewidth=1)
            for seam in seams:
                axes.axvline(seam, color="tab:red", linestyle=":", linewidth=1)
            axes.set(xlabel=f"{axis}, pixels", ylabel="mean difference, of 255", ylim=(0, None))
            axes.grid(alpha=0.3)
        figure.suptitle(f"{title}: {report.tiling}, seams dotted")


def _axes(report: TileReport) -> list[tuple[str, Profile, tuple[float, ...]]]:
    return [("column", report.columns, report.column_seams), ("row", report.rows, report.row_seams)]
