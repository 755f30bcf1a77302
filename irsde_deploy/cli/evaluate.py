"""irsde-deploy evaluate."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, OutputFileError, requires_extra
from ..pictures.metrics import CROP_BORDER
from .common import EXIT_SOME_FAILED, PATH, device_options, note_uncalibrated, progress, require_rgb, say
from .sampling import sampling_options

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..networks.perceptual import FrechetDistance
    from ..pictures.pairs import Pair
    from ..pictures.restoring import Restoring
    from ..reports.evaluation import Measurement, Perceptual, WorstPictures


@click.command()
@click.option("--engine", type=PATH, required=True, help="Model to evaluate: .onnx, or a PyTorch checkpoint.")
@click.option("--data", type=PATH, help="Folder with two subfolders, LQ and GT.")
@click.option("--lq", type=PATH, help="Folder of degraded pictures, in place of --data.")
@click.option("--gt", type=PATH, help="Folder of clean pictures, in place of --data.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the reports.")
@sampling_options
@click.option(
    "--crop-border", type=click.IntRange(0, 256), default=CROP_BORDER, show_default=True, help="Pixels not measured."
)
@click.option("--lpips-weights", type=PATH, help="AlexNet weights of torchvision (.pth): measures LPIPS too.")
@click.option("--fid-weights", type=PATH, help="Inception weights of torch-fidelity (.pth): measures FID too.")
@click.option("--worst", type=click.IntRange(0, 64), default=8, show_default=True, help="Pictures on worst.png.")
@click.option("--save-pictures", is_flag=True, help="Write the restored pictures too.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@device_options
def evaluate(
    engine: Path,
    data: Path | None,
    lq: Path | None,
    gt: Path | None,
    output: Path,
    sampling: Sampling,
    crop_border: int,
    lpips_weights: Path | None,
    fid_weights: Path | None,
    worst: int,
    save_pictures: bool,
    overwrite: bool,
    device_settings: dict[str, Any],
) -> None:
    """Measure how well a model restores a data set of degraded and clean pictures.

    PSNR and SSIM, on RGB and luma, seconds and evaluations a picture; writes pictures.csv, summary.json, summary.md and
    worst.png. A picture that fails is reported and the rest goes on (exit code 4).
    """
    with requires_extra("evaluate", "evaluating"):
        import skimage  # noqa: F401 (SSIM; said before anything long starts)
    from ..pictures.restoring import Restoring
    from ..reports.evaluation import Evaluation, WorstPictures, format_summary, write_reports
    from ..reports.evaluation import evaluate as evaluate_pairs
    from ..restorer import load

    pairs = _pairs(data, lq, gt)
    _require_output(output, pairs, overwrite)
    restorer = require_rgb(load(engine, **device_settings), engine)
    restoring = Restoring(restorer, sampling)
    note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    keeping = _Keeping(WorstPictures(worst), _frechet(fid_weights), output if save_pictures else None)
    about = {"engine": str(engine), "runtime": restorer.engine.name, **restoring.about, "crop_border": crop_border}
    evaluation = Evaluation(about)
    restore = partial(_counted, restoring)
    try:
        with progress(len(pairs), "evaluating") as advance:
            for measurement in evaluate_pairs(restore, pairs, crop_border, _perceptual(lpips_weights), keeping):
                evaluation.measurements.append(measurement)
                if measurement.error:
                    say(measurement.error)
                advance(len(evaluation.measurements))
        if keeping.frechet is not None:
            about["fid"] = keeping.frechet.value()
    finally:
        about["runtime"] = restorer.engine.name  # the one that was chosen by then
        if restoring.tilings:
            about["tiles"] = ", ".join(restoring.tilings)
        if evaluation.measurements:
            write_reports(evaluation, output)
            keeping.worst.write(output / "worst.png")
    if restoring.blind:
        note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    click.echo(format_summary(evaluation.summary()).rstrip())
    if any(m.error for m in evaluation.measurements):
        sys.exit(EXIT_SOME_FAILED)


def _require_output(output: Path, pairs: list[Pair], overwrite: bool) -> None:
    from ..system.files import require_writable

    if (output / "summary.json").exists() and not overwrite:
        raise OutputFileError(f"{output}: holds a report already: pass --overwrite to replace it")
    folders = {path.resolve().parent for pair in pairs for path in (pair.lq, pair.gt)}
    if inside := [folder for folder in folders if output.resolve().is_relative_to(folder)]:
        raise OutputFileError(f"{output}: is inside {inside[0]}, whose pictures are measured: choose another folder")
    require_writable(output / "summary.json")


def _counted(restoring: Restoring, picture: Any) -> tuple[Any, int]:
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

    def __call__(self, measurement: Measurement, lq: Any, restored: Any, gt: Any) -> None:
        from ..pictures.files import Picture, to_eight_bit, write_picture

        if self.folder is not None:
            write_picture(self.folder / "restored" / f"{measurement.name}.png", Picture(restored))
        self.worst.add(measurement, (lq, restored, gt))
        if self.frechet is not None:
            self.frechet.add(to_eight_bit(restored), to_eight_bit(gt))


def _pairs(data: Path | None, lq: Path | None, gt: Path | None) -> list[Pair]:
    from ..pictures.pairs import find_pairs, pair_folders

    if data is not None and lq is None and gt is None:
        return find_pairs(data)
    if data is None and lq is not None and gt is not None:
        return pair_folders(lq, gt)
    raise InvalidValueError("give either --data FOLDER (with LQ and GT in it) or both --lq and --gt")


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
