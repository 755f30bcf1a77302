"""How alike two pictures are: PSNR and SSIM on RGB and on luma, as the reference has them; errors at the border."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.comparison import white_value
from ..errors import InvalidValueError, requires_extra

CROP_BORDER = 4
"""Pixels on each side that are left out, as in the reference."""

SSIM_WINDOW = 11
"""Side of the window in pixels, and the least that a picture's sides may have."""

RING = 8
"""Outermost rows and columns whose error is told apart from the rest's: twice as many as the reference leaves out."""

_LUMA = np.array([65.481, 128.553, 24.966])  # weights of red, green and blue in 0..1; they add up to 235 - 16


def ssim(image: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float | None = None) -> float:
    """Structural similarity (Wang et al., 2004), by scikit-image: Gaussian window 11x11 of 1.5, mean over channels.

    Args:
        image, reference: two pictures of one shape, (H, W) or (H, W, C), with sides of at least 11.
        peak: the white value; by default the type's maximum for integers and 1 for floating point.

    Raises:
        InvalidValueError: the shapes differ or are too small.
        MissingPackageError: scikit-image is not installed.
    """
    if image.shape != reference.shape or min(image.shape[:2]) < SSIM_WINDOW:
        raise InvalidValueError(
            f"SSIM compares pictures of one shape with sides of at least {SSIM_WINDOW}, not {image.shape} with "
            f"{reference.shape}"
        )
    with requires_extra("evaluate", "SSIM"):
        from skimage.metrics import structural_similarity
    channel_axis = 2 if image.ndim == 3 else None
    # Gaussian weights, this sigma and no sample covariance are the paper's; scikit-image's defaults are others.
    return float(
        structural_similarity(
            image.astype(np.float64),
            reference.astype(np.float64),
            data_range=peak or white_value(reference),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=channel_axis,
        )
    )


def luma(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Y of ITU-R BT.601 in studio range, 16/255..235/255 for [0, 1] pictures: (H, W, 3) RGB -> (H, W) float64.

    As in MATLAB's rgb2ycbcr and the reference's bgr2ycbcr, without its rounding.
    """
    y: npt.NDArray[np.float64] = (rgb.astype(np.float64) / white_value(rgb) @ _LUMA + 16) / 255
    return y


def ring_error(image: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[float, float | None]:
    """Mean absolute error of the outermost `RING` rows and columns, and of what they surround; both of 255.

    Args:
        image, reference: two pictures of one shape and type, (H, W) or (H, W, C).

    Returns:
        (ring, interior); the interior is None where a side has not more than two rings.
    """
    white = white_value(reference)
    error = np.abs(image.astype(np.float64) - reference.astype(np.float64)) * (255 / white)
    inner = np.zeros(error.shape[:2], dtype=bool)
    inner[RING:-RING, RING:-RING] = True
    if not inner.any():
        return float(error.mean()), None
    return float(error[~inner].mean()), float(error[inner].mean())
