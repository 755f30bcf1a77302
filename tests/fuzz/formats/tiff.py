"""TIFF: directories of tags, each with a type, a count and a value or where the values are."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

from .. import damage
from .blobs import icc, xmp

_TAGS = (256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 292, 301, 317, 318, 320, 322, 323, 324, 325)
_MORE = (330, 332, 338, 339, 340, 347, 529, 530, 531, 532, 700, 33723, 34377, 34665, 34675, 34853, 50706)
_TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 255)
_VALUES = {
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34887, 50000, 50001),
    262: (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 32803, 32844, 34892),
    258: (1, 2, 4, 8, 12, 16, 24, 32, 64),
    277: (0, 1, 2, 3, 4, 5, 6, 255),
    284: (0, 1, 2, 3),
    317: (1, 2, 3, 4),
    338: (0, 1, 2, 3),
    339: (1, 2, 3, 4, 5, 6),
    274: (0, 1, 3, 5, 6, 8, 9),
    266: (1, 2),
}
"""Tag -> values that mean something: other compressions, colours, depths, planes, predictors, alphas, sample types."""


@dataclass(frozen=True)
class _Kind:
    """Classic TIFF or BigTIFF: formats of a directory's length, an entry and an offset; where the first offset is."""

    count: str
    entry: str
    offset: str
    first: int


_CLASSIC, _BIG = _Kind("H", "HHII", "I", 4), _Kind("Q", "HHQQ", "Q", 8)


def spoil(rng: Random, data: bytes) -> bytes:
    """A TIFF in which one to three entries of its first directory are others, more or fewer."""
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic not in (42, 43):
        raise ValueError("no TIFF")
    form = _CLASSIC if magic == 42 else _BIG
    size, head = struct.calcsize("=" + form.entry), struct.calcsize("=" + form.count)
    (at,) = struct.unpack_from(order + form.offset, data, form.first)
    (count,) = struct.unpack_from(order + form.count, data, at)
    entries = [list(struct.unpack_from(order + form.entry, data, at + head + size * k)) for k in range(count)]
    (following,) = struct.unpack_from(order + form.offset, data, at + head + size * count)
    body = data
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(10)
        if kind == 0 and entries:
            del entries[rng.randrange(len(entries))]
        elif kind == 1:
            body = body + bytes(len(body) % 2)
            entry, more = _further(rng, len(body))
            body += more
            entries.append(entry)
        elif kind == 2:
            following = rng.choice((at, 0, len(body), damage.number(rng) & 0xFFFFFFFF))
        elif kind == 3 and entries:
            entries.append(list(rng.choice(entries)))
        elif entries:
            _change(rng, rng.choice(entries), order, form is _BIG)
    if rng.random() < 0.8:
        entries.sort()
    table = struct.pack(order + form.count, len(entries))
    for entry in entries:
        table += struct.pack(order + form.entry, *entry)
    table += struct.pack(order + form.offset, following)
    body += bytes(len(body) % 2)
    start = struct.pack(order + form.offset, len(body))
    return body[: form.first] + start + body[form.first + len(start) :] + table


def _further(rng: Random, at: int) -> tuple[list[int], bytes]:
    """(an entry, what it points to at the file's end)."""
    blob = rng.choice((icc(rng), xmp(rng), rng.randbytes(40), bytes(8)))
    tag = rng.choice((34675, 34675, 700, 338, 339, 33723, 270, 34665, 330, 347, *_TAGS, *_MORE))
    kind = rng.choice((1, 7, *_TYPES))
    return [tag, kind, rng.choice((len(blob), 1, 2, 3, damage.number(rng) & 0xFFFFFFFF)), at], blob


def _change(rng: Random, entry: list[int], order: str, big: bool) -> None:
    """Change one field of an entry in place."""
    field = rng.randrange(5)
    if field == 0:
        entry[0] = rng.choice((*_TAGS, *_MORE))
    elif field == 1:
        entry[1] = rng.choice(_TYPES)
    elif field == 2:
        entry[2] = rng.choice((0, 1, 2, 3, 4, entry[2] + 1, damage.number(rng) & 0xFFFFFFFF))
    else:
        value = rng.choice(_VALUES.get(entry[0], (damage.number(rng) & 0xFFFFFFFF,)))
        if entry[1] == 3 and order == ">":
            value <<= 48 if big else 16  # a short stands at the left of its four or eight bytes
        entry[3] = value & (2**64 - 1 if big else 0xFFFFFFFF)
