"""irsde-deploy evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import requires_extra
from ..pictures.metrics import CROP_BORDER
from .command import command, json_option, takes_engine
from .common import EXIT_SOME_FAILED, PATH, device_options, note_uncalibrated, require_rgb
from .output import TERMINAL, report, say, tell
from .sampling import opened, sampling_options

if TYPE_CHECKING:
    from ..core.sampling import Sampling
    from ..reports.evaluation import Measurement


@command(
    "irsde-deploy evaluate --engine derain.onnx --data pairs/ -o report/",
    "irsde-deploy evaluate derain.onnx --lq rainy/ --gt clean/ -o report/ --quality best --json",
)
@takes_engine("engine", "[ENGINE]", PATH, "Model to evaluate: .onnx, .plan, or a checkpoint")
@click.option("--data", type=PATH, help="Folder with the subfolders LQ (degraded pictures) and GT (clean ones).")
@click.option("--lq", type=PATH, help="Folder of degraded pictures, in place of --data.")
@click.option("--gt", type=PATH, help="Folder of clean pictures, in place of --data.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write the reports to.")
@sampling_options
@click.option(
    "--crop-border",
    type=click.IntRange(0, 256),
    default=CROP_BORDER,
    show_default=True,
    help="Pixels on each side that are not measured.",
)
@click.option(
    "--lpips-weights", type=PATH, help="AlexNet weights of torchvision (.pth); with them LPIPS is measured too."
)
@click.option(
    "--fid-weights", type=PATH, help="Inception weights of torch-fidelity (.pth); with them FID is measured too."
)
@click.option(
    "--worst", type=click.IntRange(0, 64), default=8, show_default=True, help="Number of pictures on worst.png."
)
@click.option("--save-pictures", is_flag=True, help="Write the restored pictures too.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@device_options()
@json_option("Print one JSON object on stdout: the summary, each picture's values, notes.")
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

    PSNR and SSIM, on RGB and luma, the error of the outermost pixels, seconds and evaluations a picture; writes
    pictures.csv, summary.json, summary.md and worst.png. A picture that fails is reported and the rest goes on (exit
    code 4).
    """
    with requires_extra("evaluate", "evaluating"):
        import skimage  # noqa: F401 (SSIM; said before anything long starts)
    from ..pictures.restoring import Restoring
    from ..reports.data_set import EvaluationSettings, choose_pairs, evaluate_data_set, require_report_folder
    from ..reports.evaluation import format_summary
    from ..restorer import load

    pairs = choose_pairs(data, lq, gt)
    require_report_folder(output, pairs, overwrite)
    restorer = opened(require_rgb(load(engine, **device_settings), engine))
    restoring = Restoring(restorer, sampling)
    note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    settings = EvaluationSettings(crop_border, lpips_weights, fid_weights, worst, save_pictures)
    evaluation = evaluate_data_set(str(engine), restoring, pairs, output, settings, _say_error, TERMINAL)
    if restoring.blind:
        note_uncalibrated(engine, restorer.card, restoring.uncalibrated)
    summary = evaluation.summary()
    tell(format_summary(summary).rstrip())
    files = [{"picture": m.name, **m.values, "error": m.error} for m in evaluation.measurements]
    report(summary=summary, files=files, output=output)
    if summary["failed"]:
        sys.exit(EXIT_SOME_FAILED)


def _say_error(measurement: Measurement) -> None:
    if measurement.error:
        say(measurement.error)
