"""Restore a picture with an exported engine and write it beside the original: before_after.png.

python examples/before_after.py demo/derain.onnx assets/rain.png assets/clean.png -o demo/before_after.png
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import cv2
import numpy as np

from irsde_deploy import load
from irsde_deploy.core.comparison import psnr
from irsde_deploy.pictures.files import Picture, read_picture, write_picture

PATH = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("engine", type=PATH)
@click.argument("degraded", type=PATH)
@click.argument("clean", type=PATH)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(engine: Path, degraded: Path, clean: Path, output: Path) -> None:
    """Restore DEGRADED with ENGINE, compare with CLEAN, and write both beside each other."""
    restorer = load(engine)
    before, truth = read_picture(degraded).rgb, read_picture(clean).rgb
    started = time.perf_counter()
    after = restorer(before)
    seconds = time.perf_counter() - started
    db_before, db_after = psnr(before, truth), psnr(after, truth)
    pair = [labelled(before, f"before: {db_before:.1f} dB"), labelled(after, f"after: {db_after:.1f} dB")]
    write_picture(output, Picture(np.hstack(pair)))
    height, width = before.shape[:2]
    print(f"engine   {restorer.engine.name}")
    print(f"picture  {width}x{height}, {len(restorer.plan())} steps of {restorer.card.sampler}")
    print(f"time     {seconds:.1f} s")
    print(f"PSNR     {db_before:.2f} dB before, {db_after:.2f} dB after")
    print(f"wrote    {output}")


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text on a dark band in its lower left corner."""
    out = picture.copy()
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    out[-height - 16 :, : width + 20] //= 4
    cv2.putText(out, text, (10, len(out) - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return out


if __name__ == "__main__":
    main()
