"""Pictures in the types that people have, and what the network takes: checked, converted, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError, one_line
from .arrays import Float32
from .card import ModelCard

FLOAT_LIMIT = 2.0
"""Floating-point pictures are in [0, 1]; a value beyond this is taken for a wrong scale, not for an overshoot."""


def as_array(picture: Any) -> npt.NDArray[Any]:
    """Anything that NumPy takes for an array, such as a picture of Pillow's, as one.

    Raises:
        InvalidValueError: it is the name of a file, or no picture at all.
    """
    if isinstance(picture, (str, bytes, os.PathLike)):
        name = os.fsdecode(picture)
        raise InvalidValueError(
            f"a restorer takes an array (H, W, 3), RGB, not the name of a file: read {one_line(name)[:80]!r} first, "
            "with `irsde_deploy.pictures.files.read_picture(name).rgb` or np.asarray(PIL.Image.open(name))"
        )
    array = np.asarray(picture)
    if array.dtype == object:
        raise InvalidValueError(f"a restorer takes an array (H, W, 3), RGB, not {type(picture).__name__}")
    return array


def check_picture(card: ModelCard, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Check that the card's network can take a picture or a batch.

    Args:
        card: the model card.
        picture: (H, W, C), or a batch (B, H, W, C).

    Returns:
        The batch, of one picture where one was given.

    Raises:
        InvalidValueError: another shape or type, values that are not finite, or a floating-point picture far beyond
            [0, 1].
    """
    batch = picture[None] if picture.ndim == 3 else picture
    check_shape(card, batch.shape, picture.shape)
    latent = card.value_range is None
    if picture.dtype.kind == "u" and picture.dtype.itemsize <= 2 and not latent:
        return batch  # every value of uint8 and uint16 is a picture's
    if not np.issubdtype(picture.dtype, np.floating):
        expected = "a picture must be uint8, uint16 or"
        if latent:
            expected = "a latent must be"
        raise InvalidValueError(f"{expected} floating point, not {picture.dtype}")
    if not np.isfinite(picture).all():
        raise InvalidValueError("the picture has NaN or infinite values: every value must be finite")
    if not latent and np.abs(picture).max() > FLOAT_LIMIT:
        raise InvalidValueError(
            f"floating-point pictures are in [0, 1], and this one goes to {np.abs(picture).max():g}: "
            "divide by its white value first"
        )
    return batch


def check_shape(card: ModelCard, batch: tuple[int, ...], given: tuple[int, ...]) -> None:
    """Raise InvalidValueError unless the shape `batch` is (B, H, W, C) with the card's channels and nothing empty."""
    channels = card.channels
    if len(batch) != 4 or batch[3] != channels or 0 in batch:
        raise InvalidValueError(
            f"a picture must have the shape (H, W, {channels}) or (B, H, W, {channels}), not {given}"
        )


def require_rgb_pictures(card: ModelCard, engine: str | Path) -> None:
    """Raise InvalidValueError unless the network of the file `engine` restores RGB pictures."""
    if card.value_range is None:
        arrays = "latents"
    elif card.channels != 3:
        arrays = "arrays"
    else:
        return
    raise InvalidValueError(
        f"{engine}: this network works on {card.channels}-channel {arrays}, not on RGB pictures: "
        "use it from Python (irsde_deploy.load)"
    )


def to_network(batch: npt.NDArray[Any]) -> Float32:
    """A checked batch (B, H, W, C) as the network takes it, mu (B, C, H, W) float32; integers become [0, 1]."""
    mu: Float32 = batch.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if batch.dtype.kind == "u":
        mu /= np.float32(np.iinfo(batch.dtype).max)
    return mu


def from_network(restored: Float32, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Restored pictures (B, C, H, W) as (B, H, W, C) in the type that came in; integers are rounded and saturated."""
    values = restored.transpose(0, 2, 3, 1)
    if not np.issubdtype(dtype, np.floating):
        values = np.clip(values, 0, 1)  # a new array, which the lines below may write to
        values *= np.float32(np.iinfo(dtype).max)
        np.rint(values, out=values)
    of_its_type: npt.NDArray[Any] = values.astype(dtype, order="C")
    return of_its_type
