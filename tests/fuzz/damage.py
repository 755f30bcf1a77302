"""Bytes spoilt without knowing what they mean: what a bad disk, a broken download or a careless tool does to a file.

Every function takes a `random.Random`, so that a file is the same whenever it is made from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe1",
    b"Exif\0\0",
    b"RIFF",
    b"WEBP",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"ftypmp42",
    b"\x1aE\xdf\xa3",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x01\x02",
    b"YUV4MPEG2 ",
    b"FRAME\n",
    b"\x93NUMPY\x01\x00",
    b"\x80\x02",
    b"OggS",
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",
    b"irsde-card:",
    b"irsde-steps 1\n",
    b"ICC_PROFILE\0\x01\x01",
    b"acsp",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"%s%n",
    b"\x1b]0;x\x07\x1b[2J",
    b"\xed\xa0\x80",
    b"../../../../etc/passwd",
)
"""What begins formats, and what upsets those who print."""

EDGES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
"""Numbers that lie at the edge of something."""


def number(rng: Random) -> int:
    """A whole number as headers have them, or as they should not."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(EDGES)
    if kind == 1:
        return rng.choice(EDGES) + rng.choice((-2, -1, 1, 2)) & 2**64 - 1
    if kind == 2:
        return rng.randrange(64)
    return rng.getrandbits(rng.choice((8, 16, 32, 64)))


def _place(rng: Random, data: bytes) -> int:
    """Somewhere in the data: headers are at the beginning, and are hit more often than their share."""
    if rng.random() < 0.4:
        return rng.randrange(min(len(data), 256))
    return rng.randrange(len(data))


def _length(rng: Random, data: bytes) -> int:
    return rng.randrange(1, min(len(data), rng.choice((2, 8, 64, 4096))) + 1)


def flip(rng: Random, data: bytes) -> bytes:
    """One to eight bits are flipped."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 9)):
        spoilt[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def overwrite(rng: Random, data: bytes) -> bytes:
    """One to sixteen bytes become others."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 17)):
        spoilt[_place(rng, data)] = rng.choice((0, 255, 127, 128, 32, 10, rng.randrange(256)))
    return bytes(spoilt)


def length_field(rng: Random, data: bytes) -> bytes:
    """One or two whole numbers of 1, 2, 4 or 8 bytes become others."""
    spoilt = data
    for _ in range(rng.randrange(1, 3)):
        size = rng.choice((1, 2, 4, 8))
        at = _place(rng, spoilt)
        value = (number(rng) & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("big", "little")))
        spoilt = spoilt[:at] + value + spoilt[at + size :]
    return spoilt


def truncate(rng: Random, data: bytes) -> bytes:
    """The end is missing."""
    return data[: _place(rng, data)]


def behead(rng: Random, data: bytes) -> bytes:
    """The beginning is missing."""
    return data[_length(rng, data) :]


def insert(rng: Random, data: bytes) -> bytes:
    """Something is inserted."""
    at = _place(rng, data)
    return data[:at] + rng.randbytes(_length(rng, data)) + data[at:]


def magic(rng: Random, data: bytes) -> bytes:
    """What begins some format is written over something, or put before it."""
    at, word = _place(rng, data), rng.choice(MAGIC)
    return data[:at] + word + data[at + rng.choice((0, len(word))) :]


def delete(rng: Random, data: bytes) -> bytes:
    """A block is missing."""
    at = _place(rng, data)
    return data[:at] + data[at + _length(rng, data) :]


def copy_block(rng: Random, data: bytes) -> bytes:
    """A block is copied somewhere else, over what is there or before it."""
    source, at, size = _place(rng, data), _place(rng, data), _length(rng, data)
    return data[:at] + data[source : source + size] + data[at + rng.choice((0, size)) :]


def blank(rng: Random, data: bytes) -> bytes:
    """A block becomes zeros, as after a crash of a file system."""
    at, size = _place(rng, data), _length(rng, data)
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def repeat(rng: Random, data: bytes) -> bytes:
    """A block is there many times."""
    at, size = _place(rng, data), _length(rng, data)
    times = min(rng.choice((2, 16, 1000)), 1 + 200_000 // size)
    return data[:at] + data[at : at + size] * times + data[at + size :]


WAYS: Sequence[Callable[[Random, bytes], bytes]] = (
    flip,
    flip,
    overwrite,
    length_field,
    length_field,
    truncate,
    behead,
    insert,
    magic,
    delete,
    copy_block,
    blank,
    repeat,
)


def spoil(rng: Random, data: bytes) -> bytes:
    """Bytes in which one to three things went wrong."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(WAYS)(rng, data)
    return data


def splice(rng: Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]
