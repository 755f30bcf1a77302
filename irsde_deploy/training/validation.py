"""Validation while training: held-out pictures restored with the averaged weights, their PSNR, a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import psnr
from ..core.margin import surrounded
from ..core.noise import normal_field, seeded_noise
from ..core.sde import DenoisingSDE
from ..errors import NotFiniteError
from ..pictures.files import Picture, write_picture
from ..pictures.metrics import ring_error
from ..pictures.pairs import Size
from ..pictures.sheets import labelled
from ..runtimes.engines.torch_engine import TorchEngine
from ..runtimes.loops import numpy_loop
from .data import Pairs
from .margins import CANDIDATES, MarginError, Margins, measured_until_good
from .plan import DataPlan

SEED = 2024
"""What degradations and noise of validations are drawn from: not the run's seed, so that runs can be compared."""

MOST_VALIDATED = 32
"""Pictures that are validated, so that a validation takes no longer than a small part of the training between two."""

MOST_ROWS = 8
"""Pictures on a sheet."""

_GAP = 4
"""Pixels between the pictures of a sheet."""


@dataclass(frozen=True)
class Example:
    """A held-out pair: a name, the degraded and the clean picture, both (1, C, H, W) float32 in [0, 1]."""

    name: str
    lq: Float32
    gt: Float32


@dataclass(frozen=True)
class Validated:
    """An example and what was made of it.

    Attributes:
        example: the held-out pair.
        restored: the restored picture (1, C, H, W) float32.
        before: PSNR of the degraded picture against the clean one in dB, both rounded to 8 bit as files are.
        after: PSNR of the restored picture, likewise.
        ring, interior: mean absolute error, of 255, of its outermost pixels and of what they surround; None where
            nothing is inside.
    """

    example: Example
    restored: Float32
    before: float
    after: float
    ring: float
    interior: float | None


def read_examples(pairs: Pairs, card: ModelCard, data: DataPlan) -> list[Example]:
    """Read the middle of each held-out picture, degraded the same way each time.

    Args:
        pairs: the held-out pictures; of more than `MOST_VALIDATED`, that many evenly spaced ones are taken at most.
        card: the model's. For a Denoising-SDE, the degradation is normal noise of `data.noise_level`.
        data: says how large the middle is at most (`side`), and the noise level, on the scale 0..255.
    """
    side = data.side

    def middle(size: Size) -> tuple[slice, slice]:
        top, left = max(0, (size[0] - side) // 2), max(0, (size[1] - side) // 2)
        return slice(top, top + side), slice(left, left + side)

    examples = []
    count = len(pairs.names)
    spacing = -(-count // MOST_VALIDATED)  # rounded up, so that there are no more than that
    for index in range(0, count, spacing):
        lq_image, gt_image = pairs.read(index, middle, [SEED, index])
        lq, gt = _planes(lq_image), _planes(gt_image)
        if isinstance(card.sde, DenoisingSDE):
            noise = normal_field(SEED, index, lq.shape[1:])
            lq = (gt + np.float32(data.noise_level / 255) * noise).astype(np.float32)
        examples.append(Example(pairs.names[index], lq, gt))
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
    """Restore every example with the card's sampler, and measure what comes out.

    Args:
        model: the network.
        card: its card.
        examples: the held-out pairs, see `read_examples`.
        noise_level: of the examples of a Denoising-SDE, on the scale 0..255; not looked at for another SDE.
        device: `cpu` or `cuda`.
        keep_going: asked after every step; where it says no, validation ends.
        debias: take the training target's bias out, see `plan_steps`.

    Returns:
        The results in the order of the examples, or None where `keep_going` said no. An example whose restoration is
        not finite (training has diverged) counts as 0 dB.
    """
    engine = TorchEngine(model, card, device)
    level = None
    if isinstance(card.sde, DenoisingSDE):
        level = noise_level
    table = card.plan(debias=debias, noise_level=level).table
    results = []
    for example in examples:
        try:
            around = surrounded(example.lq.shape[2], example.lq.shape[3], card.margin)
            noise = seeded_noise(SEED, (1, card.channels, *around))
            restored = numpy_loop.restore(engine, example.lq, table, noise, on_step=_stopping(keep_going))
            after = psnr(_eight_bit(restored), _eight_bit(example.gt))
        except _StoppedError:
            return None
        except NotFiniteError:
            restored, after = np.zeros_like(example.lq), 0.0  # the run goes on: the loss says more about why
        border = ring_error(_pixels(restored), _pixels(example.gt))
        before = psnr(_eight_bit(example.lq), _eight_bit(example.gt))
        results.append(Validated(example, restored, before, after, *border))
    return results


def validate_margins(
    restored_with: Callable[[ModelCard], list[Validated] | None], card: ModelCard, margin: int | None
) -> tuple[list[Validated], Margins] | None:
    """Validate with one margin after another, until one is enough (`margins`).

    Args:
        restored_with: a card -> the validated examples, or None where it was asked to stop; `validate` is one.
        card: the model's; the cards that are tried differ from it in the margin.
        margin: the only one to try, where somebody has said it.

    Returns:
        The examples as restored with the margin that was chosen, and all that was measured; None where validation was
        asked to stop.
    """
    found: dict[int, list[Validated]] = {}

    def measure(tried: int) -> MarginError | None:
        results = restored_with(replace(card, margin=tried))
        if results is None:
            return None
        found[tried] = results
        return margin_error(tried, results)

    errors = measured_until_good(measure, CANDIDATES if margin is None else (margin,))
    if errors is None:
        return None
    margins = Margins.of(errors)
    return found[margins.chosen.margin], margins


def margin_error(margin: int, results: Sequence[Validated]) -> MarginError:
    """The error at the border over all examples; those that have no interior tell nothing, unless all are such."""
    pairs = [(result.ring, result.interior) for result in results if result.interior is not None]
    if not pairs:
        pairs = [(result.ring, result.ring) for result in results]
    ring, interior = np.mean(pairs, axis=0).tolist()
    return MarginError(margin, ring, interior)


def mean_psnr(results: Sequence[Validated]) -> float:
    """The mean PSNR of the restored examples in dB."""
    return float(np.mean([result.after for result in results]))


def write_sheet(path: Path, results: Sequence[Validated], heading: str = "") -> None:
    """Write a picture with a row for each of the first `MOST_ROWS` results: degraded, restored, clean.

    Each is under its name and PSNR, the restored one with its error at the border; `heading` is a line above them all.
    """
    rows = [_row(result) for result in results[:MOST_ROWS]]
    width = max(row.shape[1] for row in rows)
    filled = []
    for row in rows:
        filled.append(np.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)]))
    sheet = np.vstack(filled)
    if heading:
        sheet = labelled(sheet, heading)
    write_picture(path, Picture(np.ascontiguousarray(sheet)))


def _row(result: Validated) -> npt.NDArray[np.uint8]:
    """One row of a sheet, (H, W, 3)."""
    cells = [
        (f"{result.example.name}  {result.before:.2f} dB", result.example.lq),
        (f"restored  {result.after:.2f} dB, ring {result.ring:.1f}", result.restored),
        ("clean", result.example.gt),
    ]
    drawn = []
    for text, image in cells:
        cell = labelled(_pixels(image), text)
        drawn.append(np.pad(cell, [(0, _GAP), (0, _GAP), (0, 0)]))
    return np.hstack(drawn)


class _StoppedError(Exception):
    """Validation was asked to stop."""


def _stopping(keep_going: Callable[[], bool]) -> Callable[[int], None]:
    """What a loop is to call after each step, so that it can be left in the middle: by an exception alone."""

    def on_step(step: int) -> None:
        if not keep_going():
            raise _StoppedError

    return on_step


def _planes(image: npt.NDArray[Any]) -> Float32:
    """A picture (H, W, C) as networks take it, (1, C, H, W) float32."""
    planes: Float32 = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
    return planes


def _pixels(image: Float32) -> npt.NDArray[np.uint8]:
    """A picture (1, C, H, W) as a file of 8 bit holds it, (H, W, C)."""
    pixels: npt.NDArray[np.uint8] = _eight_bit(image)[0].transpose(1, 2, 0)
    return pixels


def _eight_bit(image: Float32) -> npt.NDArray[np.uint8]:
    """Values in [0, 1] as a file of 8 bit holds them."""
    rounded: npt.NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded
