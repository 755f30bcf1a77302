"""What goes wrong at the border of pictures, and what a margin of the card makes of it.

    python benchmarks/ring.py PHOTOS assets/derain_nafnet_w16.safetensors assets/denoise_nafnet_w16.safetensors

Restores the middles of the held-out photographs (those of benchmarks/models.py, degraded as there) by presets, with
margins of 0 to 32, on ONNX Runtime; prints the mean absolute error, of 255, of the outermost 8 rows and columns and of
what they surround, and PSNR with nothing left out; keeps the table in benchmarks/results/ring_NAME.csv.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
from models import HELD_OUT, noise, rain

from irsde_deploy import ModelCard, Restorer
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.export.description import describe
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.networks.detection import build_network
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.pictures.metrics import RING, ring_error
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.system.tables import markdown_table, write_csv
from irsde_deploy.training.margins import CANDIDATES

RESULTS = Path(__file__).parent / "results"
QUALITIES = ("draft", "balanced", "best")
NOISE_LEVEL = 25
COLUMNS = ("quality", "margin", "ring", "interior", "ring_over_interior", "psnr")


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.argument("checkpoints", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--name", "names", multiple=True, help="For the tables, in place of the files' names; one a checkpoint.")
@click.option("--side", default=128, show_default=True, help="Of the middles that are restored.")
def main(photos: Path, checkpoints: tuple[Path, ...], names: tuple[str, ...], side: int) -> None:
    """Measure CHECKPOINTS on the held-out ones of PHOTOS."""
    for place, path in enumerate(checkpoints):
        name = names[place] if names else path.stem
        checkpoint = read_checkpoint(path)
        card = describe(checkpoint, []).card
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "score.onnx"
            write_onnx(build_network(card.network, card.settings, checkpoint.weights), card, graph)
            content = graph.read_bytes()
        rows = list(measured(content, card, photos, side))
        write_csv(RESULTS / f"ring_{name}.csv", COLUMNS, rows)
        print(f"{name}: {len(HELD_OUT)} pictures, middles of {side} px, ring of {RING} px, mean error of 255")
        print(markdown_table(COLUMNS, rows), flush=True)


def measured(graph: bytes, card: ModelCard, photos: Path, side: int) -> Iterator[tuple[str, ...]]:
    """A row for each preset and margin."""
    pairs = list(pairs_for(card, photos, side))
    level = NOISE_LEVEL if isinstance(card.sde, DenoisingSDE) else None
    for quality in QUALITIES:
        for margin in CANDIDATES:
            restorer = Restorer(OnnxEngine.from_bytes(graph, replace(card, margin=margin)))
            sampling = Sampling(quality=quality, noise_level=level)
            errors, decibels = [], []
            for lq, gt in pairs:
                restored = restorer(lq, sampling)
                errors.append(ring_error(restored, gt))
                decibels.append(psnr(restored, gt))
            ring, interior = np.array(errors, dtype=float).mean(0)
            numbers = f"{ring:.2f}", f"{interior:.2f}", f"{ring / interior:.3f}", f"{np.mean(decibels):.2f}"
            yield quality, str(margin), *numbers


def pairs_for(card: ModelCard, photos: Path, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(degraded, clean) middles of the held-out photographs, reduced to 512 px as in benchmarks/models.py."""
    degrade = noise(NOISE_LEVEL) if isinstance(card.sde, DenoisingSDE) else rain
    for number, name in enumerate(HELD_OUT):
        clean = read_picture(photos / f"{name}.jpg").rgb
        scale = 512 / max(clean.shape[:2])
        clean = cv2.resize(clean, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = ((length - side) // 2 for length in clean.shape[:2])
        middle = np.s_[max(0, top) : max(0, top) + side, max(0, left) : max(0, left) + side]
        yield np.ascontiguousarray(degrade(clean, 100 * number)[middle]), np.ascontiguousarray(clean[middle])


if __name__ == "__main__":
    main()
