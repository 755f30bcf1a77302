"""irsde-deploy evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, requires_extra
from ..noise_level import estimate_noise
from ..runtimes.protocol import DEVICES
from ..samplers import SAMPLERS
from ..sde import DenoisingSDE
from .common import EXIT_SOME_FAILED, PATH, SEED, progress, require_rgb, say

if TYPE_CHECKING:
    from ..evaluation import Perceptual
    from ..export.perceptual import FrechetDistance
    from ..pairs import Pair
    from ..restorer import Restorer


@click.command()
@click.option("--engine", type=PATH, required=True, help="Model to evaluate: .onnx, or a PyTorch checkpoint.")
@click.option("--data", type=PATH, help="Folder with two subfolders, LQ and GT.")
@click.option("--lq", type=PATH, help="Folder of degraded pictures, in place of --data.")
@click.option("--gt", type=PATH, help="Folder of clean pictures, in place of --data.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the reports.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), help="[default: the model card's]")
@click.option("--steps", type=int, help="Network evaluations a picture [default: the model card's].")
@click.option("--t0", type=int, help="First timestep [default: T].")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise.")
@click.option("--debias", is_flag=True, help="Take the bias of maximum-likelihood training out.")
@click.option("--clip", is_flag=True, help="Keep the predicted picture within [0, 1] at each step.")
@click.option("--noise-level", type=float, help="Of the pictures, 0..255 scale [default: estimated]; denoising models.")
@click.option("--crop-border", type=click.IntRange(0, 256), default=4, show_default=True, help="Pixels not measured.")
@click.option("--lpips-weights", type=PATH, help="AlexNet weights of torchvision (.pth): measures LPIPS too.")
@click.option("--fid-weights", type=PATH, help="Inception weights of torch-fidelity (.pth): measures FID too.")
@click.option("--worst", type=click.IntRange(0, 64), default=8, show_default=True, help="Pictures on worst.png.")
@click.option("--save-pictures", is_flag=True, help="Write the restored pictures too.")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)
def evaluate(
    engine: Path,
    data: Path | None,
    lq: Path | None,
    gt: Path | None,
    output: Path,
    sampler: str | None,
    steps: int | None,
    t0: int | None,
    seed: int,
    debias: bool,
    clip: bool,
    noise_level: float | None,
    crop_border: int,
    lpips_weights: Path | None,
    fid_weights: Path | None,
    worst: int,
    save_pictures: bool,
    device: str,
) -> None:
    """Measure how well a model restores a data set of degraded and clean pictures.

    PSNR and SSIM, on RGB and luma, seconds and evaluations a picture; writes pictures.csv, summary.json, summary.md and
    worst.png. A picture that fails is reported and the rest goes on (exit code 4).
    """
    with requires_extra("evaluate", "evaluating"):
        import skimage  # noqa: F401 (SSIM; said before anything long starts)
    from ..evaluation import Evaluation, format_summary, write_contact_sheet, write_reports
    from ..evaluation import evaluate as evaluate_pairs
    from ..files import require_writable
    from ..images import Picture, write_picture
    from ..restorer import load

    pairs = _pairs(data, lq, gt)
    require_writable(output / "summary.json")
    restorer = require_rgb(load(engine, device), engine)
    denoising = isinstance(restorer.sde, DenoisingSDE)
    table = restorer.plan(sampler, steps, debias, t0, noise_level)
    name = sampler or restorer.card.sampler

    def restore(picture: Any) -> Any:
        level = estimate_noise(picture) if denoising and noise_level is None and t0 is None else noise_level
        evaluations: list[int] = [0]
        options: dict[str, Any] = {"debias": debias, "t0": t0, "clip": clip, "noise_level": level}
        restored = restorer(picture, name, steps, seed, on_step=evaluations.append, **options)
        return restored, evaluations[-1]

    kept: dict[str, tuple[Any, Any, Any]] = {}

    def keep(picture: str, *images: Any) -> None:
        kept[picture] = images[0], images[1], images[2]
        for surplus in set(kept) - {m.name for m in evaluation.worst(worst)} - {picture}:
            del kept[surplus]
        if frechet is not None:
            frechet.add(images[1], images[2])
        if save_pictures:
            write_picture(output / "restored" / f"{picture}.png", Picture(images[1]))

    frechet = _frechet(fid_weights)
    about = _about(restorer, engine, name, len(table), seed, debias, t0, clip, crop_border)
    evaluation = Evaluation(about)
    with progress(len(pairs), "evaluating") as advance:
        for measurement in evaluate_pairs(restore, pairs, crop_border, _perceptual(lpips_weights), keep):
            evaluation.measurements.append(measurement)
            if measurement.error:
                say(measurement.error)
            advance(len(evaluation.measurements))
    if frechet is not None:
        about["fid"] = frechet.value()
    write_reports(evaluation, output)
    shown = [(f"{m.name}  {m.values['psnr']:.2f} dB", *kept[m.name]) for m in evaluation.worst(worst) if m.name in kept]
    if shown:
        write_contact_sheet(output / "worst.png", shown)
    click.echo(format_summary(evaluation.summary()).rstrip())
    if any(m.error for m in evaluation.measurements):
        sys.exit(EXIT_SOME_FAILED)


def _pairs(data: Path | None, lq: Path | None, gt: Path | None) -> list[Pair]:
    from ..evaluation import find_pairs
    from ..pairs import pair_folders

    if data is not None and lq is None and gt is None:
        return find_pairs(data)
    if data is None and lq is not None and gt is not None:
        return pair_folders(lq, gt)
    raise InvalidValueError("give either --data FOLDER (with LQ and GT in it) or both --lq and --gt")


def _about(
    restorer: Restorer,
    engine: Path,
    sampler: str,
    steps: int,
    seed: int,
    debias: bool,
    t0: int | None,
    clip: bool,
    crop_border: int,
) -> dict[str, Any]:
    return {
        "engine": str(engine),
        "runtime": restorer.engine.name,
        "sampler": sampler,
        "steps": steps,
        "t0": t0 or restorer.sde.T,
        "seed": seed,
        "debias": debias,
        "clip": clip,
        "crop_border": crop_border,
    }


def _perceptual(lpips_weights: Path | None) -> dict[str, Perceptual]:
    if lpips_weights is None:
        return {}
    with requires_extra("export", "LPIPS"):
        from ..export.perceptual import open_lpips
    return {"lpips": open_lpips(lpips_weights)}


def _frechet(weights: Path | None) -> FrechetDistance | None:
    if weights is None:
        return None
    with requires_extra("export", "FID"):
        from ..export.perceptual import FrechetDistance
    return FrechetDistance(weights)
