"""PNG, JPEG, and RIFF (WebP, AVI): chunks and segments with a length and a check sum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from random import Random

from .. import damage
from ..trees import Format, Node
from .blobs import exif, icc, xmp

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def _parse_png(data: bytes) -> list[Node]:
    nodes, at = [], len(PNG_MAGIC)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        nodes.append(Node(data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return nodes


def _join_png(nodes: Sequence[Node]) -> bytes:
    parts = [PNG_MAGIC]
    for node in nodes:
        tag = node.tag[:4].ljust(4, b"x")
        size, check = len(node.data), zlib.crc32(tag + node.data)
        if node.lie is not None and node.lie % 2:
            size = node.lie & 0xFFFFFFFF
        elif node.lie is not None:
            check ^= node.lie & 0xFFFFFFFF
        parts += [struct.pack(">I", size), tag, node.data, struct.pack(">I", check)]
    return b"".join(parts)


def _png_extra(rng: Random) -> Node:
    """A chunk that describes colours, or text, or frames; well made or not."""
    u32 = damage.number(rng) & 0xFFFFFFFF
    packed = zlib.compress(rng.choice((icc(rng), xmp(rng), bytes(200_000))))
    chunks = (
        (b"gAMA", struct.pack(">I", u32)),
        (b"cHRM", struct.pack(">8I", *(damage.number(rng) & 0xFFFFFFFF for _ in range(8)))),
        (b"sRGB", bytes([rng.randrange(6)])),
        (b"cICP", bytes([rng.choice((1, 2, 9, 255)), rng.choice((1, 13, 16, 18)), rng.randrange(3), rng.randrange(3)])),
        (b"mDCV", rng.randbytes(24)),
        (b"cLLI", rng.randbytes(8)),
        (b"eXIf", exif(rng)),
        (b"iCCP", rng.choice((b"icc", b"", b"x" * 90)) + b"\0" + rng.choice((b"\0", b"\1")) + packed),
        (b"iCCP", b"icc\0\0" + damage.spoil(rng, packed)),
        (b"tRNS", rng.randbytes(rng.choice((1, 2, 6, 3, 256, 300)))),
        (b"PLTE", rng.randbytes(rng.choice((3, 768, 4, 771, 0)))),
        (b"bKGD", rng.randbytes(6)),
        (b"sBIT", rng.randbytes(rng.randrange(5))),
        (b"pHYs", struct.pack(">IIB", u32, u32, rng.randrange(3))),
        (b"tIME", rng.randbytes(7)),
        (b"tEXt", b"Comment\0" + rng.choice(damage.MAGIC)),
        (b"zTXt", b"Comment\0\0" + packed),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        (b"acTL", struct.pack(">II", u32, u32)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, u32 % 99, 5, 0, 0, 1, 1, rng.randrange(4), rng.randrange(3))),
        (b"fdAT", struct.pack(">I", 1) + zlib.compress(bytes(99))),
        (b"IHDR", struct.pack(">IIBBBBB", u32, 7, rng.choice((1, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 5)), 0, 0, 0)),
        (b"ABCD", rng.randbytes(9)),
        (b"IDAT", zlib.compress(rng.randbytes(50))),
        (b"IEND", b""),
    )
    return Node(*rng.choice(chunks))


def _inside_png(rng: Random, node: Node) -> bytes | None:
    if node.tag == b"IHDR" and len(node.data) == 13:
        fields = list(struct.unpack(">IIBBBBB", node.data))
        k = rng.randrange(7)
        if k < 2:
            fields[k] = rng.choice((0, 1, fields[k] + 1, fields[k] * 2, 30_000, 2**31 - 1, 2**31))
        else:
            fields[k] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        return struct.pack(">IIBBBBB", *fields)
    if node.tag == b"IDAT":
        try:
            return zlib.compress(damage.spoil(rng, zlib.decompress(node.data)))
        except zlib.error:
            return None
    return None


PNG = Format(_parse_png, _join_png, _png_extra, _inside_png)

_BARE = {0xD8, 0xD9, 0x01, *range(0xD0, 0xD8)}
"""Markers of JPEG without a length."""


def _parse_jpeg(data: bytes) -> list[Node]:
    """Segments; what is coded follows the marker that begins a scan, up to the next one."""
    nodes, at = [], 0
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        at += 2
        if marker in _BARE:
            nodes.append(Node(bytes([marker])))
            continue
        (size,) = struct.unpack_from(">H", data, at)
        nodes.append(Node(bytes([marker]), data[at + 2 : at + size]))
        at += size
        if marker == 0xDA:
            end = at
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
            nodes.append(Node(b"", data[at:end]))
            at = end
    return nodes


def _join_jpeg(nodes: Sequence[Node]) -> bytes:
    parts = []
    for node in nodes:
        if node.tag == b"":
            parts.append(node.data)
        elif node.tag[0] in _BARE:
            parts.append(b"\xff" + node.tag[:1])
        else:
            size = len(node.data) + 2 if node.lie is None else node.lie
            parts.append(b"\xff" + node.tag[:1] + struct.pack(">H", size & 0xFFFF) + node.data)
    return b"".join(parts)


def _jpeg_extra(rng: Random) -> Node:
    profile = icc(rng)
    number, count = rng.choice(((1, 1), (1, 2), (2, 2), (0, 0), (255, 1), (2, 1)))
    segments = (
        (0xE1, b"Exif\0\0" + exif(rng)),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(rng)),
        (0xE2, b"ICC_PROFILE\0" + bytes([number, count]) + profile),
        (0xE2, b"MPF\0" + exif(rng)),
        (0xED, b"Photoshop 3.0\x008BIM" + rng.randbytes(20)),
        (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([rng.randrange(4)])),
        (0xDD, struct.pack(">H", rng.choice((0, 1, 65535)))),
        (0xFE, rng.choice(damage.MAGIC)),
        (0xE0, b"JFIF\0\1\2" + rng.randbytes(7)),
        (0xD9, b""),
        (0xD8, b""),
        (0xDC, struct.pack(">H", 9)),
        (0xC4, rng.randbytes(20)),
        (0xDB, rng.randbytes(65)),
    )
    marker, data = rng.choice(segments)
    return Node(bytes([marker]), data[:65_000])


def _inside_jpeg(rng: Random, node: Node) -> bytes | None:
    if node.tag in (b"\xc0", b"\xc2") and len(node.data) > 8:  # frame: depth, height, width, components
        changed = bytearray(node.data)
        k = rng.randrange(4)
        if k == 0:
            changed[0] = rng.choice((1, 8, 12, 16))
        elif k < 3:
            struct.pack_into(">H", changed, 2 * k - 1, rng.choice((0, 1, 9, 300, 65535)))
        else:
            changed[rng.randrange(5, len(changed))] = rng.choice((0, 1, 2, 3, 4, 0x11, 0x21, 0x22, 0x41, 255))
        return bytes(changed)
    return None


JPEG = Format(_parse_jpeg, _join_jpeg, _jpeg_extra, _inside_jpeg)


def _parse_riff(data: bytes) -> list[Node]:
    nodes, at = [], 0
    while at + 8 <= len(data):
        tag, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        inner = data[at + 8 : at + 8 + size]
        if tag in (b"RIFF", b"LIST") and len(inner) >= 4:
            nodes.append(Node(tag, inner[:4], _parse_riff(inner[4:])))
        else:
            nodes.append(Node(tag, inner))
        at += 8 + size + size % 2
    return nodes


def _join_riff(nodes: Sequence[Node]) -> bytes:
    parts = []
    for node in nodes:
        inner = node.data + (b"" if node.children is None else _join_riff(node.children))
        size = len(inner) if node.lie is None else node.lie & 0xFFFFFFFF
        parts += [node.tag[:4].ljust(4), struct.pack("<I", size), inner, bytes(len(inner) % 2)]
    return b"".join(parts)


def _riff_extra(rng: Random) -> Node:
    chunks = (
        (b"EXIF", exif(rng)),
        (b"EXIF", b"Exif\0\0" + exif(rng)),
        (b"ICCP", icc(rng)),
        (b"XMP ", xmp(rng)),
        (b"ALPH", rng.randbytes(30)),
        (b"ANIM", rng.randbytes(6)),
        (b"ANMF", rng.randbytes(40)),
        (b"VP8X", bytes([rng.randrange(256), 0, 0, 0]) + rng.randbytes(6)),
        (b"VP8 ", rng.randbytes(30)),
        (b"VP8L", b"\x2f" + rng.randbytes(30)),
        (b"idx1", rng.randbytes(32)),
        (b"strf", rng.randbytes(40)),
        (b"JUNK", rng.randbytes(9)),
    )
    return Node(*rng.choice(chunks))


def _inside_riff(rng: Random, node: Node) -> bytes | None:
    if node.tag == b"VP8X" and len(node.data) == 10:
        flags = node.data[0] ^ (1 << rng.randrange(8))
        return bytes([flags]) + rng.choice((node.data[1:], node.data[1:4] + rng.randbytes(6)))
    if node.tag in (b"avih", b"strh", b"strf"):
        changed = bytearray(node.data)
        if len(changed) >= 4:
            at = 4 * rng.randrange(len(changed) // 4)
            struct.pack_into("<I", changed, at, damage.number(rng) & 0xFFFFFFFF)
        return bytes(changed)
    return None


RIFF = Format(_parse_riff, _join_riff, _riff_extra, _inside_riff)
