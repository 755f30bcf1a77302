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

_MOST_OF_PNG = 2**31 - 1  # whole numbers of four bytes
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
            elif kind == b"acTL":
                notes += _animated(body)
            elif kind in TEXT_CHUNKS:
                _require_text(kind, body)
                kept.append((kind, body))
            elif kind in COLOUR_CHUNKS:
                _require_colour(kind, body, {kind for kind, _ in kept})
                kept.append((kind, body))
        except (ValueError, zlib.error, struct.error, IndexError):
            notes.append(f"its {kind.decode()} chunk cannot be read and is left out")
    return Metadata(profile, exif, xmp, density, tuple(kept)), list(dict.fromkeys(notes))


def _animated(body: bytes) -> list[str]:
    """A note where there are several frames."""
    frames = struct.unpack(">II", body)[0]
    if frames == 0:
        raise ValueError("an animation of no frames")
    return ["is animated: its still picture is restored alone"] if frames > 1 else []


def _require_text(kind: bytes, body: bytes) -> None:
    """Raise ValueError or what zlib raises for text that no reader could show."""
    keyword, end, text = body.partition(b"\0")
    if not 1 <= len(keyword) <= 79 or not end:
        raise ValueError("its keyword has no end")
    if kind == b"tEXt":
        return
    compressed = True
    if kind == b"iTXt":
        flag, method, rest = text[0], text[1], text[2:]
        compressed, text = bool(flag), bytes([method]) + rest.split(b"\0", 2)[2]
        if flag > 1:
            raise ValueError("neither compressed nor plain")
    if compressed:
        if text[0] != 0:
            raise ValueError("an unknown compression")
        text = text[:1] + _whole_text(text[1:])
    if kind == b"iTXt":
        text[1:].decode()  # UTF-8


def _whole_text(body: bytes) -> bytes:
    """Compressed text, which may be empty."""
    inflate = zlib.decompressobj()
    found = inflate.decompress(body, MOST_INFLATED)
    if not inflate.eof:
        raise ValueError("too large, or cut short")
    return found


def _require_colour(kind: bytes, body: bytes, known: set[bytes]) -> None:
    """Raise ValueError for words on colour that mean nothing, or come a second time."""
    if len(body) != COLOUR_CHUNKS[kind] or kind in known:
        raise ValueError("of another length, or for the second time")
    wide: tuple[int, ...] = ()  # which PNG has up to 2**31 - 1
    if kind == b"sRGB" and body[0] > 3:
        raise ValueError("an unknown rendering intent")
    if kind == b"cICP" and (body[2] != 0 or body[3] > 1):
        raise ValueError("colours that are not RGB")
    if kind in (b"gAMA", b"cHRM", b"cLLI"):
        wide = struct.unpack(f">{len(body) // 4}I", body)
    elif kind == b"mDCV":
        wide = struct.unpack_from(">2I", body, 16)
    if max(wide, default=0) > _MOST_OF_PNG or (kind == b"gAMA" and wide == (0,)):
        raise ValueError("a number that means nothing")
    if kind == b"cHRM" and (wide[1] == 0 or _area(wide[2:]) == 0):
        raise ValueError("primaries of which no colours can be mixed")


def _area(primaries: tuple[int, ...]) -> int:
    """Twice that of the triangle of red, green and blue."""
    red_x, red_y, green_x, green_y, blue_x, blue_y = primaries
    return (green_x - red_x) * (blue_y - red_y) - (blue_x - red_x) * (green_y - red_y)


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
    return min(max(pair[0], 1), _MOST_OF_PNG), min(max(pair[1], 1), _MOST_OF_PNG)
