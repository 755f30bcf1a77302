"""How noisy a picture is: the blind start of a Denoising-SDE."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.comparison import white_value
from ..core.sde import DenoisingSDE
from ..errors import requires_extra

LEAST = 0.1
"""The least estimate, on the 0..255 scale: every picture has a timestep to start from."""


def estimate_start(picture: npt.NDArray[Any], sde: DenoisingSDE) -> float:
    """The estimated noise level of a picture, limited to the highest that the model was trained for."""
    pixels = picture
    if picture.dtype.kind != "u":
        pixels = np.clip(picture, 0, 1)  # what is beyond would count as noise, and no picture shows it
    return min(estimate_noise(pixels), 255 * float(sde.sigma[-1]))


def estimate_noise(picture: npt.NDArray[Any]) -> float:
    """Standard deviation of a picture's normal noise on the 0..255 scale, estimated from the picture alone.

    The median of the finest wavelet coefficients (Donoho and Johnstone, 1994), averaged over the channels, by
    scikit-image. Texture counts as noise to some degree; clipped noise is estimated too low.

    Args:
        picture: (H, W, C), uint8, uint16, or floating point in [0, 1].

    Raises:
        MissingPackageError: scikit-image is not installed.
    """
    with requires_extra("evaluate", "estimating the noise level"):
        from skimage.restoration import estimate_sigma
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of pictures with a single row, or with nothing in them
        sigma = estimate_sigma(picture.astype(np.float64) / white_value(picture), average_sigmas=True, channel_axis=-1)
    return max(LEAST, 255 * float(np.nan_to_num(sigma)))
