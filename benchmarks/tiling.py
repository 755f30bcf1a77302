"""What tiles change and what they save: difference from the whole picture by side and overlap, and memory.

    python benchmarks/tiling.py difference ENGINE.onnx PICTURE
    python benchmarks/tiling.py memory
    python benchmarks/tiling.py large ENGINE.onnx PICTURE [--megapixels 12]

`memory`: bytes that an evaluation takes for each pixel, of networks with random weights, beyond what the process has at
256x256; what `irsde_deploy/runtimes/loops/footprint.py` assumes must be above. `large`: most that `irsde-deploy run`
has in memory. Prints Markdown.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import cv2
import numpy as np
from engines import NETWORKS, SDE, random_network

from irsde_deploy import ModelCard, load
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.reports.machine import peak_memory
from irsde_deploy.reports.tiles import compare_tiled
from irsde_deploy.reports.timing import Contestant

TILINGS = [(side, overlap) for side in (128, 256, 384) for overlap in (0, 16, 32, 64)]
PATH = click.Path(path_type=Path, exists=True)


@click.group()
def main() -> None:
    """Measure tiles."""


@main.command()
@click.argument("engine", type=PATH)
@click.argument("picture", type=PATH)
def difference(engine: Path, picture: Path) -> None:
    """Tiles of several sides and overlaps of PICTURE against the whole, by the card's sampler."""
    restorer, pixels = load(engine), read_picture(picture).rgb
    height, width = pixels.shape[:2]
    print(f"{engine.name}, {picture.name} {width}x{height}, {restorer.card.sampler} {restorer.card.steps}\n")
    print(
        "of 255: mean difference near seams / elsewhere, its step from a pixel to the next over seams / beside them\n"
    )
    print("| side | overlap | PSNR to the whole | difference | step |\n|---|---|---|---|---|")
    for side, overlap in TILINGS:
        report = compare_tiled(restorer, pixels, Tiling(side, overlap))
        cells = (f"{report.across:.3f} / {report.inside:.3f}", f"{report.edge:.4f} / {report.beside:.4f}")
        print(f"| {side} | {overlap} | {report.decibels:.2f} dB | {' | '.join(cells)} |", flush=True)


@main.command()
@click.option("--network", default="", help="Measure the networks that have this in their name alone.")
def memory(network: str) -> None:
    """Bytes a pixel of every network on both engines."""
    print("| network | engine | bytes a pixel at 512x512 | at 768x768 |\n|---|---|---|---|")
    for name, make in NETWORKS.items():
        if network not in name:
            continue
        model = random_network(make)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, ModelCard("benchmark", {}, 3, model.multiple_of, model.pad_mode, SDE), path)
            del model
            for provider in ("onnxruntime", "openvino"):
                restorer = load(path, provider=provider)
                used = [peak_memory(Contestant("", restorer, path, provider), (side, side)) for side in (256, 512, 768)]
                each = [(used[k] - used[0]) / (side**2 - 256**2) for k, side in ((1, 512), (2, 768))]
                print(f"| {name} | {provider} | {each[0]:.0f} | {each[1]:.0f} |", flush=True)


@main.command()
@click.argument("engine", type=PATH)
@click.argument("picture", type=PATH)
@click.option("--megapixels", type=float, default=12, show_default=True)
@click.option("--tile", type=int, default=512, show_default=True)
def large(engine: Path, picture: Path, megapixels: float, tile: int) -> None:
    """PICTURE enlarged, restored in tiles with 2 evaluations by a process of its own."""
    pixels = read_picture(picture).rgb
    scale = (megapixels * 1e6 / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    enlarged = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.png", Path(folder) / "out.png"
        write_picture(source, Picture(np.ascontiguousarray(enlarged)))
        command = [sys.executable, "-m", "irsde_deploy", "run", "--engine", engine, source, "-o", target]
        subprocess.run([*map(str, command), "--tile", str(tile), "--quality", "draft"], check=True, capture_output=True)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{enlarged.shape[1]}x{enlarged.shape[0]} in tiles of {tile}: {most / 2**30:.2f} GiB at most")


if __name__ == "__main__":
    main()
