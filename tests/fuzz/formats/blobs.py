"""What travels inside pictures: EXIF, ICC profiles, XMP; as they should be, and not."""

from __future__ import annotations

import struct
from random import Random

from .. import damage


def exif(rng: Random) -> bytes:
    """A small TIFF structure with an orientation, right or wrong."""
    order = rng.choice("<>")
    entries = [(0x0112, 3, 1, rng.choice((1, 3, 6, 8, 0, 9, 65535)))]
    for _ in range(rng.randrange(4)):
        entries.append(
            (
                rng.choice((0x0112, 0x010F, 0x8769, 0x8825, 0xA005, 0x9286, 0x0131, 0x02BC)),
                rng.choice((1, 2, 3, 4, 5, 7, 10, 12, 13, 16, 0, 99)),
                rng.choice((0, 1, 2, 5, 2**31, damage.number(rng) & 0xFFFFFFFF)),
                rng.choice((0, 8, 26, 2**31 - 1, damage.number(rng) & 0xFFFFFFFF)),
            )
        )
    begin = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count)
        if kind == 3 and count == 1:
            body += struct.pack(order + "HH", value & 0xFFFF, 0)
        else:
            body += struct.pack(order + "I", value & 0xFFFFFFFF)
    whole = begin + body + struct.pack(order + "I", rng.choice((0, 0, 8)))
    return rng.choice((whole, whole, damage.spoil(rng, whole), bytes(rng.randrange(4)), rng.randbytes(40)))


def icc(rng: Random) -> bytes:
    """A profile: a header of 128 bytes and a table of tags."""
    space = rng.choice((b"RGB ", b"RGB ", b"GRAY", b"CMYK", b"Lab ", b"XYZ "))
    tags = struct.pack(">I", 1) + b"desc" + struct.pack(">II", 144, 16) + b"desc\0\0\0\0\0\0\0\2x\0\0\0"
    filling = bytes(rng.choice((0, 0, 1000, 70_000)))
    size = 128 + len(tags) + len(filling)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x04300000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    whole = head.ljust(128, b"\0") + tags + filling
    return rng.choice((whole, whole, damage.spoil(rng, whole), whole[: rng.randrange(200)], rng.randbytes(64), b""))


def xmp(rng: Random) -> bytes:
    """A packet of XML; sometimes one that grows when it is read."""
    entity = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
    return rng.choice((packet, entity + b"<x>&b;</x>", b"<" * 10_000, damage.spoil(rng, packet)))
