"""Sheets of pictures with lines of text."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

_BAND = 20


def labelled(image: Pixels, text: str) -> Pixels:
    """The picture under a band with a line of text."""
    framed = np.ascontiguousarray(np.pad(image, [(_BAND, 0), (0, 0), (0, 0)]))
    cv2.putText(framed, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return framed
