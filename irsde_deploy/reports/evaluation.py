"""How well an engine restores: every pair of a data set restored, measured, summed up, and the worst shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..core.comparison import psnr
from ..errors import InvalidValueError
from ..pictures.files import Picture, read_picture, to_eight_bit, write_picture
from ..pictures.metrics import SSIM_WINDOW, luma, ring_error, ssim
from ..pictures.pairs import Pair, enlarged
from ..pictures.sheets import headings, labelled
from ..system.one_of_many import Failed, attempted
from ..system.tables import markdown_table, write_csv, write_json, write_text

_CELL = 320
"""Width in pixels of a picture on the sheet of the worst."""

Pixels = npt.NDArray[Any]
Perceptual = Callable[[Pixels, Pixels], "float | None"]
"""(restored, clean), both (H, W, 3) uint8 -> distance, None where it cannot be measured."""


@dataclass(frozen=True)
class Measurement:
    """One picture: what was measured; a value that cannot be is None."""

    name: str
    values: dict[str, float | None]
    error: str | None = None


@dataclass
class Evaluation:
    """All pictures of a data set.

    Attributes:
        measurements: one a picture.
        about: engine, settings and what was measured how; for the summary.
    """

    about: Mapping[str, Any]
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Names of everything measured."""
        return list(dict.fromkeys(name for m in self.measurements for name in m.values))

    def mean(self, column: str) -> float | None:
        """The mean over the pictures that have a finite value of a column; None without any."""
        found = [m.values.get(column) for m in self.measurements]
        finite = [value for value in found if value is not None and math.isfinite(value)]
        return float(np.mean(finite)) if finite else None

    def summary(self) -> dict[str, Any]:
        """Plain data: settings, number of pictures and failures, the mean of each column."""
        failed = [m for m in self.measurements if m.error]
        means = {column: self.mean(column) for column in self.columns}
        return {**self.about, "pictures": len(self.measurements), "failed": len(failed), "mean": means}


class WorstPictures:
    """The pictures with the lowest PSNR so far, small, for one sheet.

    Args:
        count: how many to keep.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, str, list[Pixels]]] = []

    def add(self, measurement: Measurement, images: Sequence[Pixels]) -> None:
        """Consider a picture: degraded, restored and clean (H, W, 3)."""
        quality = measurement.values["psnr"]
        if quality is not None:
            small = [_scaled(to_eight_bit(image)) for image in images]
            self._kept.append((quality, measurement.name, small))
            self._kept = sorted(self._kept, key=lambda entry: entry[0])[: self._count]

    def write(self, path: Path) -> bool:
        """Write the sheet, worst first, one row a picture; False where there is none."""
        rows = [labelled(np.hstack(images), f"{name}  {quality:.2f} dB") for quality, name, images in self._kept]
        if rows:
            write_picture(path, Picture(np.vstack([headings(("degraded", "restored", "clean"), _CELL), *rows])))
        return bool(rows)


def evaluate(
    restore: Callable[[Pixels], tuple[Pixels, int]],
    pairs: Sequence[Pair],
    crop_border: int,
    perceptual: Mapping[str, Perceptual],
    keep: Callable[[Measurement, Pixels, Pixels, Pixels], None],
) -> Iterator[Measurement]:
    """Restore and measure every pair; a picture that fails is reported and the rest goes on.

    Args:
        restore: (H, W, 3) -> the same shape and type, and the number of network evaluations it took.
        pairs: what to restore.
        crop_border: pixels left out on each side, as the reference does.
        perceptual: name -> distance.
        keep: called with each measurement, degraded, restored and clean pixels.
    """
    for pair in pairs:

        def measured(pair: Pair = pair) -> Measurement:
            lq, gt = read_pair(pair)
            started = time.perf_counter()
            restored, evaluations = restore(lq)
            seconds = time.perf_counter() - started
            values = _all_values(lq, restored, gt, crop_border, perceptual)
            values |= {"seconds": seconds, "evaluations": float(evaluations)}
            measurement = Measurement(pair.name, values)
            keep(measurement, lq, restored, gt)
            return measurement

        outcome = attempted(measured, pair.lq)
        yield Measurement(pair.name, {}, outcome.sentence) if isinstance(outcome, Failed) else outcome


def read_pair(pair: Pair) -> tuple[Pixels, Pixels]:
    """Both pictures, degraded and clean, (H, W, 3) of one type and size; raises InputFileError for one that is bad."""
    lq, gt = read_picture(pair.lq).rgb, read_picture(pair.gt).rgb
    if lq.dtype != gt.dtype:
        # What has 16 bits comes down: the other cannot show what the lower eight say.
        lq, gt = to_eight_bit(lq), to_eight_bit(gt)
    return enlarged(lq, gt, pair), gt


def _all_values(
    lq: Pixels, restored: Pixels, gt: Pixels, crop_border: int, perceptual: Mapping[str, Perceptual]
) -> dict[str, float | None]:
    """Everything that is measured of a picture, in the order of the columns of pictures.csv."""
    values = measure(restored, gt, crop_border)
    values["ring"], values["interior"] = ring_error(restored, gt)  # of the whole picture: no border is cut off
    for name, value in _compared(_inside(lq, crop_border), _inside(gt, crop_border)).items():
        values[f"input_{name}"] = value
    for name, distance in perceptual.items():
        values[name] = distance(to_eight_bit(restored), to_eight_bit(gt))
    return values


def measure(restored: Pixels, gt: Pixels, crop_border: int) -> dict[str, float | None]:
    """PSNR and SSIM of RGB and of luma, without the border; SSIM is None where the picture is too small for it."""
    restored, gt = _inside(restored, crop_border), _inside(gt, crop_border)
    values = _compared(restored, gt)
    for name, value in _compared(luma(restored), luma(gt)).items():
        values[f"{name}_y"] = value
    return values


def _compared(image: Pixels, reference: Pixels) -> dict[str, float | None]:
    """PSNR and SSIM of two pictures."""
    values: dict[str, float | None] = {"psnr": psnr(image, reference), "ssim": None}
    if min(reference.shape[:2]) >= SSIM_WINDOW:
        values["ssim"] = ssim(image, reference)
    return values


def _inside(image: Pixels, border: int) -> Pixels:
    """A picture without its border, which the reference does not measure: networks see less there."""
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise InvalidValueError(f"a border of {border} pixels leaves nothing of {width}x{height}: use `crop_border` 0")
    return image[border : height - border, border : width - border]


# -- reports -----------------------------------------------------------------------------------------------


def write_reports(evaluation: Evaluation, folder: Path) -> None:
    """Write pictures.csv, summary.json and summary.md."""
    columns = evaluation.columns
    rows = []
    for m in evaluation.measurements:
        values = [_text(m.values.get(column)) for column in columns]
        rows.append([m.name, *values, m.error or ""])
    write_csv(folder / "pictures.csv", ["picture", *columns, "error"], rows)
    summary = evaluation.summary()
    write_json(folder / "summary.json", summary)
    write_text(folder / "summary.md", format_summary(summary))


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    about = [f"- {name}: {value}" for name, value in summary.items() if name != "mean"]
    means = [(name, _text(value, 5) or "none") for name, value in summary["mean"].items()]
    return "\n".join([*about, "", markdown_table(("mean of", "value"), means), ""])


def _scaled(image: Pixels) -> Pixels:
    height = max(1, round(image.shape[0] * _CELL / image.shape[1]))
    return np.asarray(cv2.resize(image, (_CELL, height), interpolation=cv2.INTER_AREA))


def _text(value: float | None, digits: int = 8) -> str:
    return "" if value is None else f"{value:.{digits}g}"
