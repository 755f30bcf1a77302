"""How much memory an evaluation of a network takes, and the loop around it."""

from __future__ import annotations

import math

from ...core.card import ModelCard

_LOOP_BYTES_PER_VALUE = 44
"""mu, x and their padded forms, y, q, q before, a term, eps, noise (float32), a picture on its way in and out."""

_NETWORK_BYTES_PER_PIXEL = {"ConditionalNAFNet": ("width", 40), "ConditionalUNet": ("nf", 240)}
"""Network -> the setting that its activations grow with, and bytes a pixel for each unit of it, at most, on ONNX
Runtime or OpenVINO (docs/tiling.md)."""


def bytes_per_pixel(card: ModelCard) -> int | None:
    """What one pixel of what the network sees takes during an evaluation; None for networks that are not known."""
    setting, factor = _NETWORK_BYTES_PER_PIXEL.get(card.network, ("", 0))
    width = card.settings.get(setting)
    return factor * width if isinstance(width, int) and width > 0 else None


def loop_bytes(shape: tuple[int, ...]) -> int:
    """What the loop itself keeps for pictures of a shape, at most."""
    return _LOOP_BYTES_PER_VALUE * math.prod(shape)
