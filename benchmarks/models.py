"""What the models of assets/ reach on held-out photographs, degraded as in training and otherwise.

    python benchmarks/models.py PHOTOS [MODEL ...]

Makes the pairs (seeded), runs `irsde-deploy evaluate` on the exported engine, keeps its summary and CSV in
assets/MODEL/evaluation/ (no pictures: most may not be copied), and prints a table. `lines` is rain that the training's
generator does not make: straight anti-aliased lines of one angle, blended, blurred and slightly veiled.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from irsde_deploy.export.sources import read_recipe
from irsde_deploy.pictures.degradations import degradation, degrade_picture
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.reports.evaluation import format_summary

ASSETS = Path(__file__).parents[1] / "assets"
HELD_OUT = ("astronaut", "coffee", "rocket", "chelsea", "Garden", "friends_by_Aitzol_Berasategi")
LONGEST = 512


def rain(clean: np.ndarray, seed: int) -> np.ndarray:
    """Heavy rain by the training's generator."""
    parameters = dict(read_recipe("derain-small").data["degradation"])
    return degrade_picture(clean, degradation(parameters.pop("kind"), parameters), seed)


def lines(clean: np.ndarray, seed: int) -> np.ndarray:
    """Rain drawn as lines: no code in common with the training's generator."""
    rng = np.random.default_rng(seed)
    height, width = clean.shape[:2]
    canvas = np.zeros((height, width), np.uint8)
    slant, long = rng.uniform(-0.35, 0.35), rng.integers(18, 45)
    for _ in range(int(height * width * rng.uniform(0.002, 0.005))):
        x, y = rng.integers(-long, width + long), rng.integers(-long, height)
        end = (int(x + slant * long), int(y + long))
        cv2.line(canvas, (int(x), int(y)), end, int(rng.integers(90, 230)), int(rng.integers(1, 3)), cv2.LINE_AA)
    alpha = cv2.GaussianBlur(canvas, (0, 0), 0.6)[:, :, None] / 255
    veiled = clean * 0.95 + 10
    return np.rint(veiled * (1 - alpha) + 235 * alpha).clip(0, 255).astype(np.uint8)


def noise(sigma: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """Normal noise, clipped and rounded to 8 bits."""
    made = degradation("gaussian-noise", {"sigma": sigma})
    return lambda clean, seed: degrade_picture(clean, made, seed)


CASES: dict[str, list[tuple[str, Callable[[np.ndarray, int], np.ndarray], list[str]]]] = {
    "derain_nafnet_w16": [("rain", rain, []), ("lines", lines, [])],
    "denoise_nafnet_w16": [
        ("sigma25", noise(25), ["--noise-level", "25"]),
        ("sigma25-blind", noise(25), []),
        ("sigma15-blind", noise(15), []),
        ("sigma50-blind", noise(50), []),
    ],
}


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.argument("models", nargs=-1)
def main(photos: Path, models: tuple[str, ...]) -> None:
    """Evaluate MODELS (all by default) on the held-out ones of PHOTOS."""
    print(f"{platform.machine()}, Python {platform.python_version()}, pictures of at most {LONGEST} px")
    columns = f"{'PSNR before':>12}{'after':>8}{'gain':>7}{'SSIM before':>13}{'after':>8}{'s/picture':>11}"
    print(f"{'model':<20}{'case':<15}{columns}")
    with tempfile.TemporaryDirectory() as name:
        for model in models or CASES:
            engine = Path(name) / f"{model}.onnx"
            irsde("export", ASSETS / f"{model}.safetensors", "-o", engine)
            for case, degrade, options in CASES[model]:
                data = Path(name) / model / case
                make_pairs(photos, data, degrade)
                report = ASSETS / model / "evaluation" / case
                shutil.rmtree(report, ignore_errors=True)
                irsde("evaluate", "--engine", engine, "--data", data, "-o", report, "--worst", 0, *options)
                show(model, case, report)


def make_pairs(photos: Path, data: Path, degrade: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """LQ and GT of each held-out photograph, reduced to `LONGEST`, twice with different seeds."""
    for number, name in enumerate(HELD_OUT):
        clean = read_picture(photos / f"{name}.jpg").rgb
        scale = LONGEST / max(clean.shape[:2])
        clean = cv2.resize(clean, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for seed in (0, 1):
            write_picture(data / "GT" / f"{name}_{seed}.png", Picture(clean))
            write_picture(data / "LQ" / f"{name}_{seed}.png", Picture(degrade(clean, 100 * number + seed)))


def irsde(*arguments: Any) -> None:
    """Run a command of irsde-deploy; its output is shown if it fails."""
    command = [sys.executable, "-m", "irsde_deploy", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise click.ClickException(result.stderr + result.stdout)


def show(model: str, case: str, report: Path) -> None:
    """One row of the table, from the summary."""
    summary = json.loads((report / "summary.json").read_text())
    summary["engine"] = Path(summary["engine"]).name  # without the temporary folder
    (report / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (report / "summary.md").write_text(format_summary(summary))
    mean = summary["mean"]
    before, after = mean["input_psnr"], mean["psnr"]
    print(
        f"{model:<20}{case:<15}{before:12.2f}{after:8.2f}{after - before:7.2f}{mean['input_ssim']:13.3f}"
        f"{mean['ssim']:8.3f}{mean['seconds']:11.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
