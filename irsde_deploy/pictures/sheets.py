"""Pictures with a line of text, for sheets that show several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

_BAND = 20
"""Height of a line of text in pixels."""


def headings(words: Sequence[str], width: int) -> Pixels:
    """A band with a word over each column of a sheet whose columns are `width` pixels wide."""
    return np.hstack([labelled(np.zeros((0, width, 3), np.uint8), word) for word in words])


def labelled(image: Pixels, text: str) -> Pixels:
    """The picture (H, W, 3) under a band with a line of text."""
    # OpenCV writes into the array that it is given, which must be in one piece.
    framed = np.ascontiguousarray(np.pad(image, [(_BAND, 0), (0, 0), (0, 0)]))
    cv2.putText(framed, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return framed
