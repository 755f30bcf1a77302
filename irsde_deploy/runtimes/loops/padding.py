"""Padding on the right and at the bottom, to the multiple that a network needs; what the exported graph leaves out."""

from __future__ import annotations

import numpy as np

from ...core.arrays import Float32


def pad_to_multiple(x: Float32, multiple: int, mode: str) -> Float32:
    """(B, C, H, W) -> (B, C, H', W'), where H' and W' are the next multiples.

    Args:
        x: any float32 batch.
        multiple: what both sides become multiples of.
        mode: `zero`, or `reflect` without repeating the edge. Reflection needs a side longer than the padding; a
            shorter side repeats its edge instead.

    Returns:
        A new array; x itself where its sides are multiples already.
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
    # Rows before columns: the columns that are reflected second hold the reflected rows, which fills the corner.
    for axis, side in ((2, height), (3, width)):
        lines = padded.swapaxes(2, axis)
        missing = lines.shape[2] - side
        if mode == "zero":
            lines[:, :, side:] = 0
        elif side > missing:
            # The edge itself is not repeated, as in PyTorch's reflect: the line at side - 1 stays the mirror.
            lines[:, :, side:] = lines[:, :, side - 1 - missing : side - 1][:, :, ::-1]
        else:
            # PyTorch refuses to reflect a side that is too short; the reference cannot restore such pictures at all.
            lines[:, :, side:] = lines[:, :, side - 1 : side]
