"""Make the files of this folder: the demonstration checkpoint (float16, with its card) and a photograph in rain.

    python assets/make_demo_assets.py CHECKPOINT.pth OPTIONS.yml PHOTO.jpg

The photograph is cut to 384x512 and rained on with a fixed seed, so the same inputs give the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from irsde_deploy.export.checkpoints import read_checkpoint, save_checkpoint
from irsde_deploy.export.settings import describe, read_options_file
from irsde_deploy.images import Picture, read_picture, write_picture

HERE = Path(__file__).parent
SIZE = (384, 512)


def rain(clean: np.ndarray, seed: int, density: float = 0.006, length: int = 41, angle: float = 10.0) -> np.ndarray:
    """Add bright streaks to a picture: random drops of random strength, blurred along a slanted line.

    clean: (H, W, 3) uint8; density: drops a pixel; length of a streak in pixels; angle in degrees from the vertical.
    """
    rng = np.random.default_rng(seed)
    height, width = clean.shape[:2]
    drops = np.where(rng.random((height, width)) < density, rng.uniform(0.2, 0.9, (height, width)), 0)
    kernel = np.zeros((length, length), np.float32)
    centre = length // 2
    dx, dy = round(centre * np.sin(np.radians(angle))), round(centre * np.cos(np.radians(angle)))
    cv2.line(kernel, (centre - dx, centre - dy), (centre + dx, centre + dy), 1.0, 1, cv2.LINE_AA)
    streaks = np.clip(cv2.filter2D(drops.astype(np.float32), -1, kernel), 0, 0.8)[:, :, None]
    return np.rint(clean + streaks * 255.0).clip(0, 255).astype(np.uint8)


def main() -> None:
    """Write derain_nafnet_w16.safetensors, clean.png and rain.png beside this file."""
    weights, options, photo = sys.argv[1:]
    checkpoint = read_checkpoint(weights)
    card = describe(checkpoint, [read_options_file(options)]).card
    save_checkpoint(HERE / "derain_nafnet_w16.safetensors", checkpoint.weights, card, half=True)
    picture = read_picture(Path(photo)).rgb
    height, width = SIZE
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    clean = np.ascontiguousarray(picture[top : top + height, left : left + width])
    write_picture(HERE / "clean.png", Picture(clean))
    write_picture(HERE / "rain.png", Picture(rain(clean, seed=7)))


if __name__ == "__main__":
    main()
