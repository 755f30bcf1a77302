"""Padding on the right and at the bottom, to the multiple that a network needs; what the exported graph leaves out."""

from __future__ import annotations

import numpy as np

from .protocol import Float32


def pad_to_multiple(x: Float32, multiple: int, mode: str) -> Float32:
    """(B, C, H, W) -> (B, C, H', W'), H' and W' the next multiples.

    Args:
        x: any float32 batch.
        multiple: of both sides.
        mode: `zero`, or `reflect` without repeating the edge. Reflection needs a side longer than the padding; a
            shorter side repeats its edge instead.
    """
    for axis in (2, 3):
        side = x.shape[axis]
        missing = -side % multiple
        if missing:
            widths = [(0, 0)] * 4
            widths[axis] = (0, missing)
            x = np.pad(x, widths) if mode == "zero" else np.pad(x, widths, mode="reflect" if side > missing else "edge")
    return x
