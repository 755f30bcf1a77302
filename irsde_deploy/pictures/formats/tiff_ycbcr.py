"""Luma and chroma of TIFF files to RGB: subsampled chroma is repeated, as libtiff does."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL.ExifTags import Base as Tag

from .scan import Damaged, Pixels
from .tiff_directories import Directory

_BT601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0, 255, 128, 255, 128, 255)


@dataclass(frozen=True)
class YCbCr:
    """How values become colours.

    Attributes:
        across, down: pixels that share their chroma.
        weights: of red, green and blue in luma.
        reference: code values of black and white, of luma and both chromas.
    """

    across: int
    down: int
    weights: tuple[float, ...]
    reference: tuple[float, ...]

    @classmethod
    def of(cls, page: Directory) -> YCbCr:
        """As a page says it, or TIFF's defaults."""
        across, down = [*page.values(Tag.YCbCrSubSampling, (2, 2)), 0, 0][:2]
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise Damaged("its chroma has no known subsampling")
        weights = _floats(page.values(Tag.YCbCrCoefficients, _BT601), 3)
        reference = _floats(page.values(Tag.ReferenceBlackWhite, _FULL_RANGE), 6)
        if not all(0 < weight < 1 for weight in weights):
            raise Damaged("its luma has no known weights")
        if any(reference[at] == reference[at + 1] for at in (0, 2, 4)):
            raise Damaged("its luma or chroma has no known range")
        return cls(across, down, weights, reference)

    def size(self, rows: int, width: int) -> int:
        """Bytes of so many pixels: blocks of all their luma values, then both chromas."""
        return -(-rows // self.down) * -(-width // self.across) * (self.across * self.down + 2)

    def rgb(self, data: bytes, rows: int, width: int) -> Pixels:
        """(rows, width, 3) uint8."""
        high, wide = -(-rows // self.down), -(-width // self.across)
        blocks = np.frombuffer(data, np.uint8).reshape(high, wide, -1)
        luma = blocks[:, :, :-2].reshape(high, wide, self.down, self.across).transpose(0, 2, 1, 3)
        luma = luma.reshape(high * self.down, wide * self.across)[:rows, :width]
        chroma = blocks[:, :, -2:].repeat(self.down, axis=0).repeat(self.across, axis=1)[:rows, :width]
        black, white, *of_chroma = self.reference
        y = (luma.astype(np.float32) - black) * (255 / (white - black))
        cb = (chroma[:, :, 0].astype(np.float32) - of_chroma[0]) * (127 / (of_chroma[1] - of_chroma[0]))
        cr = (chroma[:, :, 1].astype(np.float32) - of_chroma[2]) * (127 / (of_chroma[3] - of_chroma[2]))
        red, green, blue = self.weights
        r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
        g = (y - red * r - blue * b) / green
        return np.asarray(np.rint(np.clip(np.stack([r, g, b], axis=2), 0, 255)).astype(np.uint8))


def _floats(values: list[Fraction | float | None], count: int) -> tuple[float, ...]:
    if len(values) < count or None in values[:count]:
        raise Damaged("its luma and chroma cannot be understood")
    return tuple(float(value) for value in values[:count] if value is not None)
