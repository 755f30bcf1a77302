"""Writes PNG files of any kind from values, so that a reader can be held against what went in."""

from __future__ import annotations

import struct
import zlib

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows_of(values: np.ndarray, depth: int) -> bytes:
    """Values (h, w, c), each row behind a byte for its filter, none."""
    flat = values.reshape(len(values), -1)
    if depth == 16:
        packed = flat.astype(">u2").view(np.uint8).reshape(len(values), -1)
    elif depth == 8:
        packed = flat.astype(np.uint8)
    else:
        digits = (flat[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1)
    return np.pad(packed, [(0, 0), (1, 0)]).tobytes()


def png_bytes(
    values: np.ndarray,
    depth: int,
    colours: int,
    *,
    interlaced: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
    end: bool = True,
) -> bytes:
    """A file with values (H, W, C) as they are.

    Args:
        values: whole numbers below 2**depth; of a palette, places in it.
        depth: bits of a value.
        colours: PNG's number of the colour type.
        interlaced: in seven passes.
        before, behind: chunks before and behind the pixels, whole.
        end: whether IEND is there.
    """
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    parts = [values]
    if interlaced:
        parts = [values[y::down, x::across] for x, y, across, down in PASSES]
    rows = b"".join(rows_of(part, depth) for part in parts if part.size)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    last = chunk(b"IEND", b"") if end else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + pixels + behind + last
