"""Our default and presets against the reference's way: 100 posterior steps in eager PyTorch, on the same pictures.

    python benchmarks/vs_pytorch.py CHECKPOINT ENGINE.onnx PHOTOS

Six held-out photographs, 256x256, in heavy rain of the training's generator; all ways take turns on each. Prints
Markdown: seconds a picture (median), times the reference's, PSNR (mean).
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from models import HELD_OUT, rain

from irsde_deploy import Restorer, load, plan_steps
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.presets import PRESETS
from irsde_deploy.export.parity import reference_engine
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

SIDE = 256
PATH = click.Path(path_type=Path, exists=True)


def reference_loop(model: torch.nn.Module, restorer: Restorer) -> Callable[[np.ndarray], np.ndarray]:
    """The reference's posterior sampling over all timesteps, tensors throughout, noise by PyTorch."""
    table = plan_steps(restorer.sde, "posterior", restorer.sde.T)
    rows = list(zip(table.t, table.a, table.c, table.s, strict=True))

    def restore(picture: np.ndarray) -> np.ndarray:
        torch.manual_seed(0)
        mu = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            x = mu + torch.randn_like(mu) * table.start
            for t, a, c, s in rows:
                noise = model(x, mu, torch.tensor([float(t)]))
                x = mu + a * (x - mu) + c * noise + s * torch.randn_like(x)
        return (x[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()

    return restore


@click.command()
@click.argument("checkpoint", type=PATH)
@click.argument("engine", type=PATH)
@click.argument("photos", type=PATH)
def main(checkpoint: Path, engine: Path, photos: Path) -> None:
    """Compare every way on every picture."""
    auto, plain = load(engine, provider="auto"), load(engine)
    model = reference_engine(plain.card, read_checkpoint(checkpoint)).model
    default = f"default ({plain.card.sampler}, {plain.card.steps} steps)"
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "eager PyTorch, posterior, 100 steps": reference_loop(model, plain),
        "ours, posterior, 100 steps": lambda p: auto(p, sampler="posterior", steps=100, t0=100),
        f"ours, {default}": auto,
        f"ours, {default}, ONNX Runtime": plain,
        **{f"ours, {name} ({PRESETS[name]})": lambda p, q=name: auto(p, quality=q) for name in PRESETS},
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    decibels: dict[str, list[float]] = {name: [] for name in ways}
    for number, name in enumerate(HELD_OUT):
        clean = read_picture(photos / f"{name}.jpg").rgb
        scale = SIDE / min(clean.shape[:2])
        clean = cv2.resize(clean, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:SIDE, :SIDE]
        rainy = rain(clean, 100 * number)
        if number == 0:
            for way in list(ways.values())[2:]:
                way(rainy)  # warm up, and let `auto` choose
        for label, way in ways.items():
            started = time.perf_counter()
            restored = way(rainy)
            taken[label].append(time.perf_counter() - started)
            decibels[label].append(psnr(restored, clean))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")
    print(f"engine: {auto.engine.name}\n\n| way | seconds | times as fast | PSNR |\n|---|---|---|---|")
    first = statistics.median(next(iter(taken.values())))
    for label in ways:
        seconds = statistics.median(taken[label])
        print(f"| {label} | {seconds:.3f} | {first / seconds:.1f} | {np.mean(decibels[label]):.2f} dB |")


if __name__ == "__main__":
    main()
