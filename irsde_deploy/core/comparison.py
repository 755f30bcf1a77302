"""How far two arrays are apart, in dB and in tolerances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError

HALF_TOLERANCE = 2e-2
"""What engines with FP16 inside may be off, relative to the largest value: 40 units of the last place (2^-11), since
some 30 layers each round once."""

INT8_TOLERANCE = 0.5
"""What states of engines with INT8 inside may be off, and the reference output of their packs, where another processor
rounds values next to the border of two levels to the other one: single pixels of the committed de-raining model's
restored pictures are off FP32's by up to 0.37 of the largest value, at 46 dB (benchmarks/int8.py). It tells a wrong
graph, not a good one."""

DIVERGED = 1e6
"""A state of the reference beyond this is no picture: its weights were never trained. Nothing is compared past it."""

DIVERGENCE = "PyTorch's own trajectory diverges on these weights, so it was compared only until then: are they trained?"
"""What to say of a trajectory that was not compared to its end."""


def psnr(image: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB, over all pixels and channels; infinite for equal pictures.

    Args:
        image, reference: two pictures of one shape.
        peak: the white value; by default the type's maximum for integers and 1 for floating point.

    Raises:
        InvalidValueError: the shapes differ.
    """
    if image.shape != reference.shape:
        raise InvalidValueError(f"PSNR compares pictures of one shape, not {image.shape} with {reference.shape}")
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    if error == 0:
        return math.inf
    white = peak or white_value(reference)
    return 10 * math.log10(white**2 / error)


def white_value(image: npt.NDArray[Any]) -> float:
    """The value of white in a picture's type: the maximum of integers, 1 for floating point."""
    if np.issubdtype(image.dtype, np.integer):
        return float(np.iinfo(image.dtype).max)
    return 1.0


@dataclass(frozen=True)
class Comparison:
    """How far a candidate is from the reference.

    Attributes:
        case: what was compared, in words.
        max_abs: the largest absolute difference.
        mean_abs: the mean absolute difference.
        relative: the largest absolute difference over the largest absolute value of the reference.
        psnr: against the reference, in dB, with 1 for white.
        tolerance: the most that `relative` may be.
    """

    case: str
    max_abs: float
    mean_abs: float
    relative: float
    psnr: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the candidate is within tolerance; one with a NaN is not."""
        return self.relative <= self.tolerance


def tolerance_of(precision: str, fp32: float) -> float:
    """The tolerance for an engine's precision.

    Args:
        precision: as model cards name it.
        fp32: the tolerance for FP32 engines, which depends on what is compared.
    """
    return {"fp32": fp32, "int8": INT8_TOLERANCE}.get(precision, HALF_TOLERANCE)


def compare(case: str, candidate: npt.NDArray[Any], reference: npt.NDArray[Any], tolerance: float) -> Comparison:
    """Compare two arrays of one shape."""
    difference = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    scale = float(np.abs(reference).max())
    max_abs = float(difference.max())
    if scale > 0:
        relative = max_abs / scale
    elif max_abs == 0:  # both are zero throughout
        relative = 0.0
    else:
        relative = math.inf
    return Comparison(case, max_abs, float(difference.mean()), relative, psnr(candidate, reference, 1.0), tolerance)


def worst_of(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison with the largest relative error; an error that is not a number is worse than any."""
    return max(comparisons, key=lambda c: (math.isnan(c.relative), c.relative))


def format_heading(reference: str = "PyTorch") -> str:
    """Heading of a table of comparisons."""
    return f"{f'compared with {reference}':<36} {'max abs':>9} {'relative':>9} {'PSNR dB':>8}"


def format_comparison(c: Comparison) -> str:
    """One line: case, max abs, relative, PSNR, ok or FAILED."""
    verdict = "ok" if c.passed else f"FAILED (allowed {c.tolerance:.0e})"
    decibels = "equal" if math.isinf(c.psnr) else f"{c.psnr:.1f}"
    return f"{c.case:<36} {c.max_abs:>9.1e} {c.relative:>9.1e} {decibels:>8}  {verdict}"
