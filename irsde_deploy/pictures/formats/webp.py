"""WebP: its chunks read here; libwebp (by Pillow) is given those that make the pixels alone."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

from . import exif
from .metadata import ASPECT, CENTIMETRE, Density, Metadata
from .scan import Damaged, Decoded, Scan
from .scan_data import Data
from .tiff_directories import Directory

_PICTURE = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_PROFILE_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x04, 0x02


def is_webp(head: bytes) -> bool:
    """Whether a file that begins like this is a WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def scan(data: Data) -> Scan:
    """What a WebP file says of itself."""
    chunks = list(_chunks(data))
    width, height, flags = _size(chunks)
    found: dict[bytes, bytes] = {}
    for kind, body in chunks:
        found.setdefault(kind, body)
    data_of_camera = None
    if flags & _EXIF_FLAG:  # without it no decoder sees them, and the picture is shown as it is stored
        data_of_camera = found.get(b"EXIF", b"").removeprefix(exif.PREFIX) or None
    metadata = Metadata(found.get(b"ICCP") or None, data_of_camera, found.get(b"XMP ") or None)
    notes = []
    if b"ANMF" in found:
        notes.append("is animated: its first frame is restored alone")
    return Scan(width, height, partial(_decode, chunks, flags), metadata, notes=tuple(notes))


def _chunks(data: Data) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _size(chunks: list[tuple[bytes, bytes]]) -> tuple[int, int, int]:
    """(width, height, flags of the extended format, 0 without it)."""
    if not chunks:
        raise Damaged("it has no pixel data")
    kind, body = chunks[0]
    if kind == b"VP8X" and len(body) >= 10:
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return width, height, body[0]
    if kind == b"VP8L" and len(body) >= 5:
        bits = struct.unpack_from("<I", body, 1)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 0
    if kind == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF, 0
    raise Damaged("its header is missing")


def _decode(chunks: list[tuple[bytes, bytes]], flags: int) -> Decoded:
    parts = []
    for kind, body in chunks:
        if kind == b"VP8X":
            parts.append((kind, bytes([flags & (_ALPHA_FLAG | _ANIMATION_FLAG)]) + body[1:10]))
        elif kind in _PICTURE:
            parts.append((kind, body))
    with WebPImageFile(io.BytesIO(_file(parts))) as image:
        image.load()
        values = np.array(image if image.mode == "RGBA" else image.convert("RGB"))
    if values.shape[2] == 4 and not (flags & _ANIMATION_FLAG and values[:, :, 3].min() == 255):  # which all have alpha
        return Decoded(np.ascontiguousarray(values[:, :, :3]), np.ascontiguousarray(values[:, :, 3]))
    return Decoded(np.ascontiguousarray(values[:, :, :3]))


def _file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    content = b"WEBP"
    for kind, body in chunks:
        content += kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def with_metadata(content: bytes, metadata: Metadata, width: int, height: int) -> bytes:
    """A WebP file of one picture with metadata put in."""
    data = metadata.exif
    density = metadata.density
    if data is None and density is not None and density.unit != ASPECT:
        data = exif.made(_resolution(density))
    if metadata.profile is None and data is None and metadata.xmp is None:
        return content
    chunks = [chunk for chunk in _chunks(content) if chunk[0] in _PICTURE]
    flags = _ALPHA_FLAG if _has_alpha(content) else 0
    before, behind = [], []
    if metadata.profile is not None:
        flags |= _PROFILE_FLAG
        before.append((b"ICCP", metadata.profile))
    if data is not None:
        flags |= _EXIF_FLAG
        behind.append((b"EXIF", data))
    if metadata.xmp is not None:
        flags |= _XMP_FLAG
        behind.append((b"XMP ", metadata.xmp))
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _file([(b"VP8X", bytes([flags, 0, 0, 0]) + size), *before, *chunks, *behind])


def _has_alpha(content: bytes) -> bool:
    kind, body = next(_chunks(content))
    if kind == b"VP8X":
        return bool(body[0] & _ALPHA_FLAG)
    return kind == b"VP8L" and bool(body[4] & 0x10)


def _resolution(density: Density) -> Directory:
    unit = 3 if density.unit == CENTIMETRE else 2
    return Directory(exif.resolution_fields(density.x, density.y, unit))
