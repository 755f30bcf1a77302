"""Padding on the right and at the bottom, to the multiple that a network needs; what the exported graph leaves out."""

from __future__ import annotations

import numpy as np

from ...core.arrays import Float32


def pad_to_multiple(x: Float32, multiple: int, mode: str) -> Float32:
    """(B, C, H, W) -> (B, C, H', W'), H' and W' the next multiples.

    Args:
        x: any float32 batch.
        multiple: of both sides.
        mode: `zero`, or `reflect` without repeating the edge. Reflection needs a side longer than the padding; a
            shorter side repeats its edge instead.
    """
    height, width = x.shape[2:]
    sides = (height + -height % multiple, width + -width % multiple)
    if sides == (height, width):
        return x
    padded = np.empty((*x.shape[:2], *sides), x.dtype)
    padded[:, :, :height, :width] = x
    fill_padding(padded, height, width, mode)
    return padded


def fill_padding(padded: Float32, height: int, width: int, mode: str) -> None:
    """Fill what is right of and below the picture (B, C, height, width) at the upper left of `padded`."""
    for axis, side in ((2, height), (3, width)):
        lines = padded.swapaxes(2, axis)
        missing = lines.shape[2] - side
        if mode == "zero":
            lines[:, :, side:] = 0
        elif side > missing:
            lines[:, :, side:] = lines[:, :, side - 1 - missing : side - 1][:, :, ::-1]
        else:
            lines[:, :, side:] = lines[:, :, side - 1 : side]
