"""Temporal stability: how much a restored video flickers where nothing moves, by noise field and sampler.

    python benchmarks/flicker.py derain.onnx assets/clean.png [--frames 6] [--size 128]

The scene is one clean picture, still: its true motion is zero, so that warping a frame to the next is the identity and
the warping error is the mean absolute difference between neighbours (0..255). The degradation is still too (the same
rain in every frame: all that differs is noise), or falls anew in each frame. Noise is the same field in every frame
(`--noise fixed`, the default of `irsde-deploy run`), or one of each frame's own. Prints a table; times play no part.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from irsde_deploy import Restorer, load
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.pictures.spoiling import rain

SAMPLERS = [("mean", 2), ("mean", 10), ("sde-2m", 10), ("posterior", 20)]


def scene(clean: np.ndarray, frames: int, moving: bool) -> np.ndarray:
    """(N, H, W, 3) float32: rain on a still picture; one rain for all frames, or one a frame."""
    return np.stack([rain(clean, np.random.default_rng(k if moving else 0)) for k in range(frames)])


def warping_error(frames: np.ndarray) -> float:
    """Mean absolute difference of neighbours on the 0..255 scale: the warping error where nothing moves."""
    return float(255 * np.abs(np.diff(np.clip(frames, 0, 1), axis=0)).mean())


def psnr(frames: np.ndarray, clean: np.ndarray) -> float:
    """Mean over the frames, dB."""
    errors = ((np.clip(frames, 0, 1) - clean) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(-10 * np.log10(errors)))


def restored(restorer: Restorer, degraded: np.ndarray, sampler: str, steps: int, fixed: bool) -> np.ndarray:
    numbers = [0 if fixed else k for k in range(len(degraded))]
    pairs = zip(degraded, numbers, strict=True)
    return np.stack([restorer(frame[None], sampler=sampler, steps=steps, frames=[k])[0] for frame, k in pairs])


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True))
@click.argument("picture", type=click.Path(path_type=Path, exists=True))
@click.option("--frames", default=6, show_default=True)
@click.option("--size", default=128, show_default=True, help="Side of the middle of the picture that is used.")
def main(engine: Path, picture: Path, frames: int, size: int) -> None:
    """Restore a still scene with both kinds of noise and print how much neighbouring frames differ."""
    restorer = load(engine)
    clean = read_picture(picture).rgb.astype(np.float32) / 255
    top, left = (max(0, (side - size) // 2) for side in clean.shape[:2])
    clean = clean[top : top + size, left : left + size]
    print(f"{restorer.engine.name}; {frames} frames of {clean.shape[1]}x{clean.shape[0]}")
    print("| rain | sampler | warping error before | fixed noise | per-frame noise | PSNR fixed | PSNR per-frame |")
    print("|---|---|---|---|---|---|---|")
    for moving in (False, True):
        degraded = scene(clean, frames, moving)
        for sampler, steps in SAMPLERS:
            fixed, own = (restored(restorer, degraded, sampler, steps, kind) for kind in (True, False))
            print(
                f"| {'falls' if moving else 'still'} | {sampler} {steps} | {warping_error(degraded):.2f} "
                f"| {warping_error(fixed):.3f} | {warping_error(own):.3f} "
                f"| {psnr(fixed, clean):.2f} | {psnr(own, clean):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
