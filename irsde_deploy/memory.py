"""Memory: how much there is for a picture on the CPU, and how much an evaluation of a network takes."""

from __future__ import annotations

import math
from pathlib import Path

from .card import ModelCard

SHARE = 0.8
"""Of the available memory that a picture may take: other programs take some meanwhile."""

_LOOP_BYTES_PER_VALUE = 44
"""mu, x and their padded forms, y, q, q before, a term, eps, noise (float32), a picture on its way in and out."""

_NETWORK_BYTES_PER_PIXEL = {"ConditionalNAFNet": ("width", 40), "ConditionalUNet": ("nf", 240)}
"""Network -> the setting that its activations grow with, and bytes a pixel for each unit of it, at most, on ONNX
Runtime or OpenVINO (docs/tiling.md)."""


def available_memory() -> int | None:
    """Bytes that a process can get without swapping, within the limit of its container; None where nobody says."""
    found = [value for value in (_free_memory(), _free_in_container()) if value is not None]
    return min(found, default=None)


def bytes_per_pixel(card: ModelCard) -> int | None:
    """What one pixel of what the network sees takes during an evaluation; None for networks that are not known."""
    setting, factor = _NETWORK_BYTES_PER_PIXEL.get(card.network, ("", 0))
    width = card.settings.get(setting)
    return factor * width if isinstance(width, int) and width > 0 else None


def loop_bytes(shape: tuple[int, ...]) -> int:
    """What the loop itself keeps for pictures of a shape, at most."""
    return _LOOP_BYTES_PER_VALUE * math.prod(shape)


def _free_memory() -> int | None:
    """Linux: MemAvailable, in kB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_in_container() -> int | None:
    """Linux control groups, version 2 and 1: the limit, less what is in use and cannot be dropped."""
    for limit, usage, statistics, inactive in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        folder = Path("/sys/fs/cgroup")
        try:
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            lines = (folder / statistics).read_text().splitlines()
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        droppable = next((int(line.split()[1]) for line in lines if line.startswith(f"{inactive} ")), 0)
        return max(0, most - used + droppable)
    return None
