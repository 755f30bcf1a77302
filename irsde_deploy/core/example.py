"""A synthetic picture and noise to compare engines on where no pictures are given."""

from __future__ import annotations

import numpy as np

from .arrays import Float32
from .card import ModelCard
from .noise import normal_field

SEED = 2023


def example_picture(card: ModelCard, batch: int, height: int, width: int) -> Float32:
    """Smooth pictures with some grain, (B, C, H, W) in [0, 1], the same at every call."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phase = np.arange(batch * card.channels, dtype=np.float32).reshape(batch, card.channels, 1, 1)
    smooth = 0.5 + 0.3 * np.sin(0.21 * x + phase) * np.cos(0.13 * y - phase)
    picture: Float32 = np.clip(smooth + 0.02 * normals(card, 1, batch, height, width, seed=1)[0], 0, 1)
    return picture.astype(np.float32)


def normals(card: ModelCard, steps: int, batch: int, height: int, width: int, *, seed: int = SEED) -> Float32:
    """Standard normals (steps, B, C, H, W), which are different for every step and picture."""
    normal = np.empty((steps, batch, card.channels, height, width), np.float32)
    for k in range(steps):
        for b in range(batch):
            normal[k, b] = normal_field(seed, k, normal.shape[2:], frame=b)
    return normal
