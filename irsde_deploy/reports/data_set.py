"""A data set evaluated in one call: every pair restored and measured, reports and the worst pictures written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValueError, OutputFileError, requires_extra
from ..pictures.files import Picture, to_eight_bit, write_picture
from ..pictures.metrics import CROP_BORDER
from ..pictures.pairs import Pair, find_pairs, pair_folders
from ..pictures.restoring import Restoring
from ..system.files import require_writable
from ..system.listener import SILENT, Listener
from .evaluation import Evaluation, Measurement, Perceptual, Pixels, WorstPictures, evaluate, write_reports

if TYPE_CHECKING:
    from ..networks.perceptual import FrechetDistance

SUMMARY = "summary.json"
"""The file by which a report is known."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured and kept.

    Attributes:
        crop_border: pixels left out on each side.
        lpips_weights: AlexNet weights of torchvision: measure LPIPS too.
        fid_weights: Inception weights of torch-fidelity: measure FID too.
        worst: pictures on `worst.png`.
        save_pictures: write the restored pictures too, below `restored/`.
    """

    crop_border: int = CROP_BORDER
    lpips_weights: Path | None = None
    fid_weights: Path | None = None
    worst: int = 8
    save_pictures: bool = False


def choose_pairs(data: Path | None = None, lq: Path | None = None, gt: Path | None = None) -> list[Pair]:
    """The pairs of a folder with the subfolders LQ and GT, or of two folders.

    Raises:
        InvalidValueError: neither the one nor the other is given, or both. InputFileError: no pairs there.
    """
    if data is not None and lq is None and gt is None:
        return find_pairs(data)
    if data is None and lq is not None and gt is not None:
        return pair_folders(lq, gt)
    raise InvalidValueError("give either `data` FOLDER (with LQ and GT in it) or both `lq` and `gt`")


def require_report_folder(folder: Path, pairs: Sequence[Pair], overwrite: bool) -> None:
    """Raise OutputFileError where a report is already, would lie among the pictures, or cannot be written."""
    if (folder / SUMMARY).exists() and not overwrite:
        raise OutputFileError(f"{folder}: holds a report already: pass `overwrite` to replace it")
    for pair in pairs:
        for path in (pair.lq, pair.gt):
            read = path.resolve().parent
            if folder.resolve().is_relative_to(read):
                raise OutputFileError(f"{folder}: is inside {read}, whose pictures are measured: choose another folder")
    require_writable(folder / SUMMARY)


def evaluate_data_set(
    engine: str,
    restoring: Restoring,
    pairs: Sequence[Pair],
    folder: Path,
    settings: EvaluationSettings | None = None,
    on_measurement: Callable[[Measurement], None] = lambda measurement: None,
    listener: Listener = SILENT,
) -> Evaluation:
    """Restore and measure every pair; write pictures.csv, summary.json, summary.md and worst.png into a folder.

    A picture that fails is in the report with its error, and the rest goes on. What was measured until an interrupt is
    written too.

    Args:
        engine: what the report calls the model.
        restoring: restores a picture.
        pairs: what to restore.
        folder: of the reports; made where it is missing, files in it are replaced.
        settings: what is measured and kept.
        on_measurement: called with each measurement, also of a picture that failed.
        listener: is shown the progress.

    Raises:
        InputFileError, CheckpointError: weights for LPIPS or FID cannot be read. MissingPackageError: scikit-image, or
        for LPIPS and FID torchmetrics, is not installed. OutputFileError: a report cannot be written.
    """
    settings = settings or EvaluationSettings()
    runtime = restoring.restorer.engine
    about: dict[str, Any] = {"engine": engine, "runtime": runtime.name, **restoring.about}
    about["crop_border"] = settings.crop_border
    if restoring.restorer.card.margin:
        about["margin"] = restoring.restorer.card.margin
    evaluation = Evaluation(about)
    worst, frechet = WorstPictures(settings.worst), _frechet(settings.fid_weights)
    keep = _Keeping(worst, frechet, folder if settings.save_pictures else None)
    perceptual = _perceptual(settings.lpips_weights)

    def restore(picture: Pixels) -> tuple[Pixels, int]:
        return _counted(restoring, picture)

    try:
        with listener.progress(len(pairs), "evaluating") as advance:
            for measurement in evaluate(restore, pairs, settings.crop_border, perceptual, keep):
                evaluation.measurements.append(measurement)
                on_measurement(measurement)
                advance(len(evaluation.measurements))
        if frechet is not None:
            about["fid"] = frechet.value()
    finally:
        about["runtime"] = runtime.name  # the one that was chosen by then
        if restoring.tilings:
            about["tiles"] = ", ".join(restoring.tilings)
        if evaluation.measurements:
            write_reports(evaluation, folder)
            worst.write(folder / "worst.png")
    return evaluation


def _counted(restoring: Restoring, picture: Pixels) -> tuple[Pixels, int]:
    """(the restored picture, the number of network evaluations it took)."""
    evaluations = [0]
    restored = restoring(picture, evaluations.append)
    return restored, evaluations[-1]


@dataclass
class _Keeping:
    """What is done with each restored picture beside measuring it."""

    worst: WorstPictures
    frechet: FrechetDistance | None
    folder: Path | None

    def __call__(self, measurement: Measurement, lq: Pixels, restored: Pixels, gt: Pixels) -> None:
        if self.folder is not None:
            write_picture(self.folder / "restored" / f"{measurement.name}.png", Picture(restored))
        self.worst.add(measurement, (lq, restored, gt))
        if self.frechet is not None:
            self.frechet.add(to_eight_bit(restored), to_eight_bit(gt))


def _perceptual(lpips_weights: Path | None) -> dict[str, Perceptual]:
    if lpips_weights is None:
        return {}
    with requires_extra("export", "LPIPS"):
        from ..networks.perceptual import open_lpips
    return {"lpips": open_lpips(lpips_weights)}


def _frechet(weights: Path | None) -> FrechetDistance | None:
    if weights is None:
        return None
    with requires_extra("export", "FID"):
        from ..networks.perceptual import FrechetDistance
    return FrechetDistance(weights)
