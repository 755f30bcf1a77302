"""EXIF data: a small TIFF file that cameras put beside the pixels."""

from __future__ import annotations

import struct
from fractions import Fraction

from .tiff_directories import EXIF_IFD, LONG, RATIONAL, SHORT, Directory, Field, Head, read_directory, read_head
from .tiff_directories import write_directory as _written

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the picture, once more
PREFIX = b"Exif\0\0"


def read(data: bytes) -> tuple[Head, Directory]:
    """The first directory; raises ValueError where there is none."""
    head = read_head(data)
    return head, read_directory(data, head, head.first)


def orientation(data: bytes) -> int | None:
    """The orientation, or None where they do not say; raises ValueError where they cannot be read."""
    directory = read(data)[1]
    return directory.value(ORIENTATION, 0) or None


def upright(data: bytes, turned: bool) -> bytes:
    """The same data for a picture that was turned upright: changed in place, as makers' notes hold places.

    Their thumbnail is cut off: it shows the picture as it was.

    Args:
        data: that `orientation` has read.
        turned: whether height became width.
    """
    head, directory = read(data)
    changed = bytearray(data)
    if ORIENTATION in directory.fields:
        _put(changed, head, directory.fields[ORIENTATION], 1)
    if directory.next:
        size = 8 if head.big else 4
        changed[directory.next_at : directory.next_at + size] = bytes(size)
    pairs = [(directory, X_RESOLUTION, Y_RESOLUTION), (directory.children.get(EXIF_IFD, Directory()), _WIDTH, _HEIGHT)]
    for where, across, down in pairs:
        one, other = where.fields.get(across), where.fields.get(down)
        if turned and one and other and (one.kind, len(one.raw)) == (other.kind, len(other.raw)):
            for to, source in ((one, other), (other, one)):
                changed[to.at : to.at + len(to.raw)] = data[source.at : source.at + len(to.raw)]
    return bytes(changed)


def made(directory: Directory) -> bytes:
    """EXIF data with these fields."""
    return b"II*\0" + struct.pack("<I", 8) + _written(directory, 8)


def resolution_fields(x: Fraction, y: Fraction, unit: int) -> dict[int, Field]:
    """The fields of a resolution; `unit` is TIFF's: 1 none, 2 inch, 3 centimetre."""
    return {
        X_RESOLUTION: _rational(x),
        Y_RESOLUTION: _rational(y),
        RESOLUTION_UNIT: Field(SHORT, struct.pack("<H", unit)),
    }


def _rational(value: Fraction) -> Field:
    bounded = value.limit_denominator(10_000)
    return Field(RATIONAL, struct.pack("<II", min(bounded.numerator, 2**32 - 1), bounded.denominator))


def _put(data: bytearray, head: Head, field: Field, value: int) -> None:
    """Overwrite a whole number."""
    code = {SHORT: "H", LONG: "I"}.get(field.kind)
    if code is not None:
        struct.pack_into(head.order + code, data, field.at, value)
