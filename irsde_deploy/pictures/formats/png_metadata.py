"""PNG's chunks beside the pixels: colour profile, EXIF, XMP, resolution, words on colour, text; read and written."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

from .exif import PREFIX
from .metadata import ASPECT, CENTIMETRE, Density, Metadata

COLOUR_CHUNKS = {b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""Chunks about colour that are kept as they are, and how long they are."""

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp"
MOST_INFLATED = 16_700_000
"""Bytes that a compressed piece of metadata may have; what a JPEG can hold of a profile."""

_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")  # as ImageMagick wrote it before PNG had eXIf


def read_metadata(chunks: list[tuple[bytes, bytes]]) -> tuple[Metadata, list[str]]:
    """The metadata in chunks (type, body), and what cannot be read, in sentences."""
    profile = exif = xmp = density = None
    kept: list[tuple[bytes, bytes]] = []
    notes = []
    for kind, body in chunks:
        try:
            if kind == b"iCCP":
                profile = profile or _inflated(body.partition(b"\0")[2][1:])
            elif kind == b"eXIf":
                exif = body.removeprefix(PREFIX)
            elif kind == b"pHYs":
                density = _density(body)
            elif kind == b"iTXt" and body.startswith(XMP_KEYWORD + b"\0"):
                xmp = _international(body)
            elif kind == b"zTXt" and body.partition(b"\0")[0] in _RAW_EXIF:
                exif = exif or _raw_profile(body).removeprefix(PREFIX)
            elif kind in TEXT_CHUNKS or len(body) == COLOUR_CHUNKS.get(kind):
                kept.append((kind, body))
        except (ValueError, zlib.error, struct.error, IndexError):
            notes.append(f"its {kind.decode()} chunk cannot be read and is left out")
    return Metadata(profile, exif, xmp, density, tuple(kept)), notes


def _inflated(body: bytes) -> bytes:
    inflate = zlib.decompressobj()
    found = inflate.decompress(body, MOST_INFLATED)
    if inflate.unconsumed_tail or not found:
        raise ValueError("too large, or empty")
    return found


def _international(body: bytes) -> bytes:
    """The text of an iTXt chunk, UTF-8."""
    flags = body[len(XMP_KEYWORD) + 1 :]
    compressed = flags[0]
    text = flags[2:].split(b"\0", 2)[2]
    return _inflated(text) if compressed else text


def _raw_profile(body: bytes) -> bytes:
    """Bytes that are written as hexadecimal text: a name, a length, digits."""
    text = _inflated(body.partition(b"\0")[2][1:])
    digits = b"".join(text.split()[2:])
    return bytes.fromhex(digits.decode("ascii"))


def _density(body: bytes) -> Density | None:
    x, y, unit = struct.unpack(">IIB", body)
    if not x or not y:
        return None
    if unit == 1:  # the metre
        return Density(Fraction(x, 100), Fraction(y, 100), CENTIMETRE)
    return Density(Fraction(x), Fraction(y), ASPECT)


def chunks_of(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Metadata as chunks (type, body), in an order that PNG allows before the palette and the pixels."""
    chunks = []
    for kind, body in metadata.chunks:
        if kind == b"sRGB" and metadata.profile is not None:
            continue  # PNG has one or the other
        chunks.append((kind, body))
    colour = [chunk for chunk in chunks if chunk[0] in COLOUR_CHUNKS]
    text = [chunk for chunk in chunks if chunk[0] in TEXT_CHUNKS]
    if metadata.profile is not None:
        colour.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile)))
    if metadata.density is not None:
        colour.append((b"pHYs", _physical(metadata.density)))
    if metadata.exif is not None:
        colour.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        text.append((b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return colour + text


def _physical(density: Density) -> bytes:
    if density.unit == ASPECT:
        return struct.pack(">IIB", *_bounded(density.per(ASPECT)), 0)
    a_hundred_times = Density(density.x * 100, density.y * 100, density.unit)
    return struct.pack(">IIB", *_bounded(a_hundred_times.per(CENTIMETRE)), 1)


def _bounded(pair: tuple[int, int]) -> tuple[int, int]:
    return min(max(pair[0], 1), 2**31 - 1), min(max(pair[1], 1), 2**31 - 1)
