"""Image file directories, as TIFF files and EXIF data have them: read into plain fields, and written.

A directory is a count, then entries of (tag, type, count, value or where the values are), then where the next one is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from PIL.ExifTags import Base as Tag

from .scan_data import Data

_CHILDREN = (Tag.ExifOffset, Tag.GPSInfo, Tag.ExifInteroperabilityOffset)

# type -> NumPy's code of one element, of which a rational has two
_CODES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4", 11: "f4"}
_CODES |= {12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_RATIONALS = (5, 10)


@dataclass(frozen=True)
class Field:
    """The values of a tag.

    Attributes:
        kind: TIFF's number of their type.
        raw: them, little-endian.
        at: where they are in the file; 0 for one that is made.
    """

    kind: int
    raw: bytes
    at: int = 0

    @property
    def values(self) -> list[Any]:
        """Whole numbers, floats, or fractions (None where a denominator is 0)."""
        numbers: list[Any] = np.frombuffer(self.raw, "<" + _CODES[self.kind]).tolist()
        if self.kind not in _RATIONALS:
            return numbers
        return [_fraction(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


@dataclass
class Directory:
    """A directory with those below it.

    Attributes:
        fields: by tag.
        children: by the tag that points to them.
        unread: tags that are there, and whose values or directory cannot be read.
        next_at: where the file says where the next one is.
        next: where that is; 0: there is none.
    """

    fields: dict[int, Field] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    next_at: int = 0
    next: int = 0

    def values(self, tag: int, default: Any = ()) -> list[Any]:
        """The values of a tag."""
        return self.fields[tag].values if tag in self.fields else list(default)

    def raw(self, tag: int) -> bytes | None:
        """The bytes of a tag's values; None where it is not there."""
        return self.fields[tag].raw if tag in self.fields else None

    def value(self, tag: int, default: int) -> int:
        """The first value of a tag, a whole number; the default where it is none, as libtiff has it."""
        values = self.values(tag)
        return values[0] if values and isinstance(values[0], int) else default


@dataclass(frozen=True)
class Head:
    """How a file begins.

    Attributes:
        order: `<` or `>`, as struct has it.
        big: whether it is a BigTIFF, with eight bytes where others have four.
        first: where the first directory is.
    """

    order: str
    big: bool
    first: int


def read_head(data: Data) -> Head:
    """Read the first bytes; raises ValueError where they are not a TIFF file's."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("it does not begin as TIFF does")
    magic = struct.unpack_from(order + "H", data, 2)[0]
    if magic == 42:
        return Head(order, False, struct.unpack_from(order + "I", data, 4)[0])
    if magic != 43 or len(data) < 16 or struct.unpack_from(order + "HH", data, 4) != (8, 0):
        raise ValueError("it does not begin as TIFF does")
    return Head(order, True, struct.unpack_from(order + "Q", data, 8)[0])


def read_directory(data: Data, head: Head, at: int, depth: int = 0) -> Directory:
    """Read a directory and the known ones below it; a field of unknown type or outside of the file is left out.

    Raises:
        ValueError: the directory itself lies outside of the file.
    """
    count_code, entry, inline = ("Q", "HHQ8s", 8) if head.big else ("H", "HHI4s", 4)
    size = struct.calcsize("<" + entry)
    begin = at + struct.calcsize("<" + count_code)
    if begin > len(data) or at < 8:
        raise ValueError("its directory lies outside of the file")
    count = struct.unpack_from(head.order + count_code, data, at)[0]
    found = Directory(next_at=begin + count * size)
    if found.next_at > len(data):
        raise ValueError("its directory ends outside of the file")
    for number in range(count):
        where = begin + number * size
        tag, kind, length, value = struct.unpack_from(head.order + entry, data, where)
        read = _field(data, head, kind, length, value, where + size - inline)
        if read is None:
            found.unread.add(tag)
        else:
            found.fields.setdefault(tag, read)
    if found.next_at + inline <= len(data):
        found.next = struct.unpack_from(head.order + ("Q" if head.big else "I"), data, found.next_at)[0]
    if depth < 2:
        _add_children(found, data, head, depth)
    return found


def _field(data: Data, head: Head, kind: int, length: int, value: bytes, inline_at: int) -> Field | None:
    code = _CODES.get(kind)
    if code is None:
        return None
    elements = length * (2 if kind in _RATIONALS else 1)
    size = elements * int(code[1])
    if size <= len(value):
        raw, at = value[:size], inline_at
    else:
        at = struct.unpack(head.order + ("Q" if head.big else "I"), value)[0]
        if at + size > len(data):
            return None
        raw = data[at : at + size]
    return Field(kind, np.frombuffer(raw, head.order + code).astype("<" + code).tobytes(), at)


def _add_children(found: Directory, data: Data, head: Head, depth: int) -> None:
    for tag in _CHILDREN:
        if tag not in found.fields:
            continue
        where = found.fields.pop(tag)
        try:
            found.children[tag] = read_directory(data, head, int(where.values[0]), depth + 1)
        except (ValueError, IndexError, TypeError):
            found.unread.add(tag)


def write_directory(directory: Directory, at: int) -> bytes:
    """A directory and those below it as little-endian bytes that begin at the place `at` of a file."""
    entries = dict(directory.fields)
    below = b""
    tags = sorted({*entries, *directory.children})
    place = at + 2 + 12 * len(tags) + 4
    for tag, child in directory.children.items():
        begin = place + len(below)
        below += write_directory(child, begin)
        entries[tag] = Field(LONG, struct.pack("<I", begin))
    head = struct.pack("<H", len(tags))
    for tag in tags:
        one = entries[tag]
        elements = len(one.raw) // int(_CODES[one.kind][1])
        count = elements // 2 if one.kind in _RATIONALS else elements
        value = one.raw.ljust(4, b"\0")
        if len(one.raw) > 4:
            value = struct.pack("<I", place + len(below))
            below += one.raw + b"\0" * (len(one.raw) % 2)
        head += struct.pack("<HHI4s", tag, one.kind, count, value)
    return head + struct.pack("<I", 0) + below


def _fraction(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator else None
