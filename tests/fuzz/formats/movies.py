"""MP4 and QuickTime boxes, Matroska elements, packets of a transport stream."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from .. import damage
from ..trees import Format, Node

_NESTED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf", b"ilst"}
_TABLES = (
    b"stsz",
    b"stco",
    b"co64",
    b"stts",
    b"ctts",
    b"stsc",
    b"stss",
    b"elst",
    b"stsd",
    b"mvhd",
    b"tkhd",
    b"mdhd",
    b"trun",
)


def _parse_boxes(data: bytes) -> list[Node]:
    nodes, at = [], 0
    while at + 8 <= len(data):
        (size,), tag, head = struct.unpack_from(">I", data, at), data[at + 4 : at + 8], 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        if size == 0 or at + size > len(data) or size < head:
            size = len(data) - at
        inner = data[at + head : at + size]
        if tag in _NESTED:
            nodes.append(Node(tag, b"", _parse_boxes(inner)))
        else:
            nodes.append(Node(tag, inner))
        at += size
    return nodes


def _join_boxes(nodes: Sequence[Node]) -> bytes:
    parts = []
    for node in nodes:
        inner = node.data + (b"" if node.children is None else _join_boxes(node.children))
        size = len(inner) + 8 if node.lie is None else node.lie & 0xFFFFFFFF
        parts += [struct.pack(">I", size), node.tag[:4].ljust(4), inner]
    return b"".join(parts)


def _box_extra(rng: Random) -> Node:
    number = struct.pack(">I", damage.number(rng) & 0xFFFFFFFF)
    boxes = (
        (b"colr", b"nclx" + struct.pack(">HHHB", *(rng.choice((0, 1, 2, 9, 16, 18, 255)) for _ in range(4)))),
        (b"colr", b"prof" + rng.randbytes(40)),
        (b"pasp", number + struct.pack(">I", rng.choice((0, 1, 2**31)))),
        (b"elst", struct.pack(">II", 0, 1) + number + number + struct.pack(">HH", rng.choice((0, 1, 2)), 0)),
        (b"stts", struct.pack(">II", 0, 1) + number + number),
        (b"meta", rng.randbytes(30)),
        (b"\xa9nam", rng.choice(damage.MAGIC)),
        (b"chpl", struct.pack(">IBI", 0x01000000, 0, 1) + rng.randbytes(12)),
        (b"uuid", rng.randbytes(24)),
        (b"free", b""),
        (b"mdat", rng.randbytes(50)),
        (b"sidx", rng.randbytes(40)),
        (b"moof", rng.randbytes(60)),
    )
    return Node(*rng.choice(boxes))


def _inside_box(rng: Random, node: Node) -> bytes | None:
    """Numbers of four bytes in the tables that say where frames are and when."""
    if node.tag not in _TABLES or len(node.data) < 8:
        return None
    changed = bytearray(node.data)
    for _ in range(rng.randrange(1, 4)):
        at = 4 * rng.randrange(len(changed) // 4)
        struct.pack_into(">I", changed, at, damage.number(rng) & 0xFFFFFFFF)
    return bytes(changed)


BOXES = Format(_parse_boxes, _join_boxes, _box_extra, _inside_box)

_MASTER_NUMBERS = (
    "1A45DFA3 18538067 114D9B74 4DBB 1549A966 1654AE6B AE E0 E1 1F43B675 A0 1C53BB6B BB B7 1254C367 7373 67C8 55B0 "
    "1941A469 61A7 1043A770 45B9 B6 80 63C0"
)
_MASTERS = frozenset(map(bytes.fromhex, _MASTER_NUMBERS.split()))
"""Elements that hold others."""


def _vint_length(first: int) -> int:
    if not first:
        raise ValueError("no EBML number")
    return 9 - first.bit_length()


def _parse_ebml(data: bytes, depth: int = 0) -> list[Node]:
    nodes, at = [], 0
    while at < len(data):
        length = _vint_length(data[at])
        tag, at = data[at : at + length], at + length
        length = _vint_length(data[at])
        raw = int.from_bytes(data[at : at + length], "big")
        at += length
        size = raw & (1 << 7 * length) - 1
        if size == (1 << 7 * length) - 1 or at + size > len(data):  # unknown: to the end
            size = len(data) - at
        inner = data[at : at + size]
        if tag in _MASTERS and depth < 8:
            nodes.append(Node(tag, b"", _parse_ebml(inner, depth + 1)))
        else:
            nodes.append(Node(tag, inner))
        at += size
    return nodes


def _join_ebml(nodes: Sequence[Node]) -> bytes:
    parts = []
    for node in nodes:
        inner = node.data + (b"" if node.children is None else _join_ebml(node.children))
        size = len(inner) if node.lie is None else node.lie
        parts += [node.tag, (1 << 56 | size & (1 << 56) - 1).to_bytes(8, "big"), inner]
    return b"".join(parts)


def _ebml_extra(rng: Random) -> Node:
    """Colours, sizes, times, tags, attachments, encryption, compression: an element of a small number or text."""
    names = (
        "B0 BA 54B0 54BA 54B2 9A 9D 53B8 53C0 55B1 55B2 55B5 55B9 55BA 55BB 23E383 2AD7B1 4489 7BA9 86 83 73C5 D7 B9 "
        "E7 A3 AB FB 9B 75A2 4254 5031 5034 47E1 466E 465C 4660 4461 22B59C 536E 7670 7673 4487 45A3 63C5 E5 EC BF A4"
    )
    value = rng.choice((b"", b"\0", b"\1", rng.randbytes(rng.choice((1, 2, 4, 8, 30))), rng.choice(damage.MAGIC)))
    return Node(bytes.fromhex(rng.choice(names.split())), value)


def _inside_ebml(rng: Random, node: Node) -> bytes | None:
    if 0 < len(node.data) <= 8:
        return rng.choice((rng.randbytes(len(node.data)), b"\xff" * len(node.data), bytes(len(node.data)), b"\x7f" * 8))
    return None


EBML = Format(_parse_ebml, _join_ebml, _ebml_extra, _inside_ebml)

PACKET = 188


def spoil_packets(rng: Random, data: bytes) -> bytes:
    """A transport stream in which packets are lost, doubled, in another order, of another stream, or damaged."""
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    for _ in range(rng.choice((1, 2, 5))):
        k = rng.randrange(len(packets))
        kind = rng.randrange(6)
        if kind == 0 and len(packets) > 1:
            del packets[k : k + rng.choice((1, 1, 10))]
            packets = packets or [bytes(PACKET)]
        elif kind == 1:
            packets.insert(rng.randrange(len(packets) + 1), packets[k])
        elif kind == 2:
            packets.insert(rng.randrange(len(packets)), packets.pop(k))
        elif kind == 3:  # another stream's number
            packets[k] = packets[k][:1] + bytes([rng.choice((0, 0x40, 0x41)), rng.randrange(256)]) + packets[k][3:]
        elif kind == 4:  # the stream once more behind its end: the clock starts again
            packets += packets[:k]
        else:
            packets[k] = damage.spoil(rng, packets[k])[:PACKET].ljust(PACKET, b"\xff")
    return b"".join(packets)
