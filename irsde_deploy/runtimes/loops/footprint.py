"""How much memory an evaluation of a network takes, and the loop around it."""

from __future__ import annotations

import math

from ...core.card import ModelCard

_LOOP_BYTES_PER_VALUE = 44
"""What the loop keeps of each value of a picture: mu, x and their padded forms, y, q, the q before, a term, eps and the
noise, all float32, and the picture on its way in and out."""

_NETWORK_BYTES_PER_PIXEL = {"ConditionalNAFNet": ("width", 40), "ConditionalUNet": ("nf", 240)}
"""Network -> the setting that its activations grow with, and the bytes that each unit of it takes for a pixel: the most
that ONNX Runtime or OpenVINO took in the measurements of docs/tiling.md."""


def bytes_per_pixel(card: ModelCard) -> int | None:
    """The bytes that one pixel of the network's input takes in an evaluation; None for a network that is not known."""
    setting, factor = _NETWORK_BYTES_PER_PIXEL.get(card.network, ("", 0))
    width = card.settings.get(setting)
    # Cards of other people's files may lack the setting, or have anything there.
    if not isinstance(width, int) or width <= 0:
        return None
    return factor * width


def loop_bytes(shape: tuple[int, ...]) -> int:
    """The bytes that the loop itself keeps for pictures (B, H, W, C), at most."""
    return _LOOP_BYTES_PER_VALUE * math.prod(shape)
