"""How alike two pictures are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidValueError


def psnr(image: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB, over all pixels and channels; infinite for equal pictures.

    Args:
        image, reference: same shape.
        peak: the white value; by default the type's maximum for integers and 1 for floating point.

    Raises:
        InvalidValueError: the shapes differ.
    """
    if image.shape != reference.shape:
        raise InvalidValueError(f"PSNR compares pictures of one shape, not {image.shape} with {reference.shape}")
    if peak is None:
        peak = float(np.iinfo(reference.dtype).max) if np.issubdtype(reference.dtype, np.integer) else 1.0
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
