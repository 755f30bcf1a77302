"""EXIF data: a small TIFF file that cameras put beside the pixels."""

from __future__ import annotations

import struct
from fractions import Fraction

from PIL.ExifTags import Base as Tag

from .tiff_directories import LONG, RATIONAL, SHORT, Directory, Field, Head, read_directory, read_head, write_directory

PREFIX = b"Exif\0\0"


def read(data: bytes) -> tuple[Head, Directory]:
    """The first directory; raises ValueError where there is none."""
    head = read_head(data)
    return head, read_directory(data, head, head.first)


def orientation(data: bytes) -> int | None:
    """The orientation, or None where they do not say; raises ValueError where they cannot be read."""
    directory = read(data)[1]
    return directory.value(Tag.Orientation, 0) or None


def upright(data: bytes, turned: bool) -> bytes:
    """The same data for a picture that was turned upright: changed in place, as makers' notes hold places.

    Their thumbnail is cut off: it shows the picture as it was.

    Args:
        data: that `orientation` has read.
        turned: whether height became width.
    """
    head, directory = read(data)
    changed = bytearray(data)
    if Tag.Orientation in directory.fields:
        _put(changed, head, directory.fields[Tag.Orientation], 1)
    if directory.next:
        size = 8 if head.big else 4
        changed[directory.next_at : directory.next_at + size] = bytes(size)
    if turned:
        _exchange(changed, directory, Tag.XResolution, Tag.YResolution)
        below = directory.children.get(Tag.ExifOffset, Directory())
        _exchange(changed, below, Tag.ExifImageWidth, Tag.ExifImageHeight)
    return bytes(changed)


def _exchange(data: bytearray, directory: Directory, across: int, down: int) -> None:
    """Exchange the values of two tags, where both are there and of one type."""
    one, other = directory.fields.get(across), directory.fields.get(down)
    if one is None or other is None or (one.kind, len(one.raw)) != (other.kind, len(other.raw)):
        return
    size = len(one.raw)
    first, second = data[one.at : one.at + size], data[other.at : other.at + size]
    data[one.at : one.at + size] = second
    data[other.at : other.at + size] = first


def made(directory: Directory) -> bytes:
    """EXIF data with these fields."""
    return b"II*\0" + struct.pack("<I", 8) + write_directory(directory, 8)


def resolution_fields(x: Fraction, y: Fraction, unit: int) -> dict[int, Field]:
    """The fields of a resolution; `unit` is TIFF's: 1 none, 2 inch, 3 centimetre."""
    return {
        Tag.XResolution: _rational(x),
        Tag.YResolution: _rational(y),
        Tag.ResolutionUnit: Field(SHORT, struct.pack("<H", unit)),
    }


def _rational(value: Fraction) -> Field:
    bounded = value.limit_denominator(10_000)
    return Field(RATIONAL, struct.pack("<II", min(bounded.numerator, 2**32 - 1), bounded.denominator))


def _put(data: bytearray, head: Head, field: Field, value: int) -> None:
    """Overwrite a whole number."""
    code = {SHORT: "H", LONG: "I"}.get(field.kind)
    if code is not None:
        struct.pack_into(head.order + code, data, field.at, value)
