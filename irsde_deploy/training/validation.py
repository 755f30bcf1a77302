"""Validation while training: held-out pictures restored with the averaged weights, their PSNR, a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import psnr
from ..core.noise import normal_field, seeded_noise
from ..core.sde import DenoisingSDE
from ..errors import NotFiniteError
from ..pictures.files import Picture, write_picture
from ..pictures.pairs import Size
from ..pictures.sheets import labelled
from ..runtimes.engines.torch_engine import TorchEngine
from ..runtimes.loops import numpy_loop
from .data import Pairs
from .plan import DataPlan

SEED = 2024
MOST_VALIDATED = 32
MOST_ROWS = 8
_GAP = 4


@dataclass(frozen=True)
class Example:
    """One held-out pair, (1, C, H, W) float32 in [0, 1]."""

    name: str
    lq: Float32
    gt: Float32


@dataclass(frozen=True)
class Validated:
    """An example with its restoration, and the PSNR of both against the clean picture (8 bit, as written)."""

    example: Example
    restored: Float32
    before: float
    after: float


def read_examples(pairs: Pairs, card: ModelCard, data: DataPlan) -> list[Example]:
    """The middle of each picture, at most `data.side` squared, degraded the same way each time it is read.

    For a Denoising-SDE, normal noise of `data.noise_level` (0..255 scale) is the degradation. Of more than
    `MOST_VALIDATED` pictures, as many evenly spaced ones are taken.
    """
    side = data.side

    def middle(size: Size) -> tuple[slice, slice]:
        top, left = (max(0, (length - side) // 2) for length in size)
        return slice(top, top + side), slice(left, left + side)

    examples = []
    count = len(pairs.names)
    for index in range(0, count, -(-count // MOST_VALIDATED)):
        name = pairs.names[index]
        lq, gt = (_planes(image) for image in pairs.read(index, middle, [SEED, index]))
        if isinstance(card.sde, DenoisingSDE):
            noise = normal_field(SEED, index, lq.shape[1:])
            lq = (gt + np.float32(data.noise_level / 255) * noise).astype(np.float32)
        examples.append(Example(name, lq, gt))
    return examples


def validate(
    model: nn.Module,
    card: ModelCard,
    examples: Sequence[Example],
    noise_level: float,
    device: str = "cpu",
    keep_going: Callable[[], bool] = lambda: True,
    debias: bool = False,
) -> list[Validated] | None:
    """Restore every example with the card's sampler; None if `keep_going` said no on the way.

    An example whose restoration is not finite (training has diverged) counts as 0 dB.
    """
    engine = TorchEngine(model, card, device)
    table = card.plan(debias=debias, noise_level=noise_level if isinstance(card.sde, DenoisingSDE) else None).table
    results = []
    for example in examples:
        try:
            restored = numpy_loop.restore(
                engine, example.lq, table, seeded_noise(SEED, example.lq.shape), on_step=_stopping(keep_going)
            )
            after = psnr(_eight_bit(restored), _eight_bit(example.gt))
        except _StoppedError:
            return None
        except NotFiniteError:
            restored, after = np.zeros_like(example.lq), 0.0
        results.append(Validated(example, restored, psnr(_eight_bit(example.lq), _eight_bit(example.gt)), after))
    return results


def mean_psnr(results: Sequence[Validated]) -> float:
    """Mean PSNR of the restored examples, dB."""
    return float(np.mean([result.after for result in results]))


def write_sheet(path: Path, results: Sequence[Validated]) -> None:
    """Write a picture with one row an example, at most 8: degraded, restored, clean, under their names and PSNR."""
    rows = [
        _row(
            [
                (f"{result.example.name}  {result.before:.2f} dB", result.example.lq),
                (f"restored  {result.after:.2f} dB", result.restored),
                ("clean", result.example.gt),
            ]
        )
        for result in results[:MOST_ROWS]
    ]
    width = max(row.shape[1] for row in rows)
    sheet = np.vstack([np.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)]) for row in rows])
    write_picture(path, Picture(np.ascontiguousarray(sheet)))


def _row(cells: Sequence[tuple[str, Float32]]) -> npt.NDArray[np.uint8]:
    drawn = [labelled(_eight_bit(image)[0].transpose(1, 2, 0), text) for text, image in cells]
    return np.hstack([np.pad(cell, [(0, _GAP), (0, _GAP), (0, 0)]) for cell in drawn])


class _StoppedError(Exception):
    """Validation was asked to stop."""


def _stopping(keep_going: Callable[[], bool]) -> Callable[[int], None]:
    def on_step(step: int) -> None:
        if not keep_going():
            raise _StoppedError

    return on_step


def _planes(image: npt.NDArray[Any]) -> Float32:
    planes: Float32 = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
    return planes


def _eight_bit(image: Float32) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded
