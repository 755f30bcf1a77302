"""Writes TIFF files of any layout, so that a reader can be held against the values that went in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Pixels = np.ndarray


def pack_rows(rows: Pixels, bits: int, order: str) -> bytes:
    """Values (h, w) of so many bits, every row from a new byte."""
    if bits in (8, 16, 32, 64):
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    digits = (rows[:, :, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def differences(block: Pixels) -> Pixels:
    """Predictor 2: each value less the one to its left, (h, w, c), beyond zero from the top again."""
    return np.concatenate([block[:, :1], block[:, 1:] - block[:, :-1]], axis=1)


def packbits(data: bytes) -> bytes:
    """PackBits in its plainest form: nothing is repeated."""
    parts = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def lzw(data: bytes) -> bytes:
    """LZW in its plainest form: the table is cleared before it grows, so every code has nine bits."""
    codes = []
    for at, value in enumerate(data):
        if at % 200 == 0:
            codes.append(256)
        codes.append(value)
    codes.append(257)
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


CODECS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: lzw,
    8: zlib.compress,
    32946: zlib.compress,
    32773: packbits,
}


def write_tiff(
    path: Path,
    values: Pixels,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    tile: int = 0,
    rows_per_strip: int = 0,
    compression: int = 1,
    predictor: int = 1,
    tags: dict[int, tuple[str, Any]] | None = None,
    rationals: tuple[int, ...] = (),
) -> None:
    """Write values (H, W, C) as they are.

    Args:
        path: of the file.
        values: whole numbers below 2**bits.
        bits: of a value.
        photometric: TIFF's number.
        order: of bytes, `<` or `>`.
        big: as a BigTIFF.
        planar: channel after channel.
        tile: side of square tiles; 0: strips.
        rows_per_strip: 0: all.
        compression, predictor: TIFF's numbers.
        tags: more of them, tag -> (struct's code of one value, values).
        rationals: tags whose values, whole numbers, are written as fractions.
    """
    height, width, channels = values.shape
    planes = [values[:, :, [c]] for c in range(channels)] if planar else [values]
    high, wide = (tile, tile) if tile else (rows_per_strip or height, width)
    blocks = []
    for plane in planes:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                block = plane[top : top + high, left : left + wide]
                if tile:
                    block = np.pad(block, [(0, tile - block.shape[0]), (0, tile - block.shape[1]), (0, 0)])
                if predictor == 2:
                    block = differences(block)
                blocks.append(CODECS[compression](pack_rows(block.reshape(len(block), -1), bits, order)))
    content = b"".join(block + b"\0" * (len(block) % 2) for block in blocks)
    start = 16 if big else 8
    sizes = [len(block) for block in blocks]
    offsets = [start + sum(size + size % 2 for size in sizes[:at]) for at in range(len(sizes))]
    where = {324: ("I", offsets), 325: ("I", sizes), 322: ("H", [tile]), 323: ("H", [tile])}
    if not tile:
        where = {273: ("I", offsets), 279: ("I", sizes), 278: ("I", [high])}
    entries: dict[int, tuple[str, Any]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        277: ("H", [channels]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
        **where,
        **(tags or {}),
    }
    for tag in rationals:
        entries[tag] = ("rational", [part for value in entries[tag][1] for part in (value, 1)])
    path.write_bytes(_file(content, entries, order, big))


_KINDS = {"B": 1, "s": 2, "H": 3, "I": 4, "rational": 5, "f": 11, "Q": 16, "X": 7}


def _file(content: bytes, entries: dict[int, tuple[str, Any]], order: str, big: bool) -> bytes:
    entry, inline, offset = ("HHQ", 8, "Q") if big else ("HHI", 4, "I")
    start = (16 if big else 8) + len(content)
    place = start + (8 if big else 2) + len(entries) * (struct.calcsize("<" + entry) + inline) + inline
    head, behind = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for tag, (code, values) in sorted(entries.items()):
        letter = "I" if code == "rational" else code
        raw = bytes(values) if code in "sX" else struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(raw) > inline:
            value = struct.pack(order + offset, place + len(behind))
            behind += raw + b"\0" * (len(raw) % 2)
        else:
            value = raw.ljust(inline, b"\0")
        head += struct.pack(order + entry, tag, _KINDS[code], len(values) // (1 + (code == "rational"))) + value
    signature = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    signature += struct.pack(order + "HHQ", 8, 0, start) if big else struct.pack(order + "I", start)
    return signature + content + head + struct.pack(order + offset, 0) + behind
