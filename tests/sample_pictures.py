"""Small made-up photographs: smooth shades, edges and texture, seeded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from irsde_deploy.pictures.files import Picture, write_picture


def photograph(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.uniform(30, 220, (4, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(5):
        corner, size = rng.integers(0, (width, height)), rng.integers(6, 24, 2)
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), colour, -1)
    image += rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_photographs(folder: Path, count: int = 6) -> Path:
    """A folder of photographs called p0.png, p1.png, ..."""
    for seed in range(count):
        write_picture(folder / f"p{seed}.png", Picture(photograph(seed)))
    return folder


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
