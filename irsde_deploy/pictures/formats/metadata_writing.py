"""Metadata into the content of a picture file that is about to be written, format by format."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from . import jpeg, png, tiff, webp
from .kinds import JPEG_SUFFIXES, TIFF_SUFFIXES
from .metadata import ASPECT, NO_METADATA, Metadata
from .png_metadata import COLOUR_CHUNKS, TEXT_CHUNKS, chunks_of

_Embed: TypeAlias = Callable[[bytes, Metadata], bytes]


def with_metadata(content: bytes, suffix: str, metadata: Metadata, shape: tuple[int, ...]) -> tuple[bytes, list[str]]:
    """A picture file with metadata put in.

    Args:
        content: the file without any.
        suffix: of its format.
        metadata: that `settle` has checked.
        shape: of the pixels as written: (H, W), or with 3 or 4 channels.

    Returns:
        The file, and what it cannot hold, in words such as "its EXIF data, which are too long".
    """
    embed = _embedder(suffix, shape)
    try:
        return embed(content, metadata), unkept(metadata, suffix)
    except (ValueError, struct.error, OverflowError, KeyError):
        return embed(content, NO_METADATA), ["its metadata"]  # they have passed every check, and never cost pixels


def _embedder(suffix: str, shape: tuple[int, ...]) -> _Embed:
    if suffix == ".png":
        return _with_chunks
    if suffix in JPEG_SUFFIXES:
        return jpeg.with_metadata
    if suffix in TIFF_SUFFIXES:
        return partial(tiff.with_metadata, alpha=len(shape) == 3 and shape[2] == 4)
    return partial(webp.with_metadata, width=shape[1], height=shape[0])


def _with_chunks(content: bytes, metadata: Metadata) -> bytes:
    chunks = b"".join(png.chunk_bytes(kind, body) for kind, body in chunks_of(metadata))
    end = len(png.SIGNATURE) + 25  # behind IHDR, before palette and pixels
    return content[:end] + chunks + content[end:]


def unkept(metadata: Metadata, suffix: str) -> list[str]:
    """What a format cannot hold of metadata, in words."""
    if suffix == ".png":
        return []
    lost = []
    if metadata.profile is None and not _says_srgb(metadata):
        names = [kind.decode() for kind, _ in metadata.chunks if kind in COLOUR_CHUNKS]
        if names:
            lost.append(f"its description of colour ({', '.join(names)})")
    if metadata.has_chunk(*TEXT_CHUNKS):
        lost.append("its text")
    if suffix in JPEG_SUFFIXES:
        lost += jpeg.too_long(metadata)
    if suffix == ".webp" and metadata.density is not None and metadata.density.unit == ASPECT:
        lost.append("the shape of its pixels")
    return lost


# sRGB in PNG's older words: a gamma of 1/2.2, and BT.709's primaries with the white of daylight, in 1/100000.
_SRGB_GAMMA = 45_455
_SRGB_PRIMARIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_NEAR = 60


def _says_srgb(metadata: Metadata) -> bool:
    """Whether PNG's chunks say nothing but that the colours are sRGB, as every picture without words on colour is."""
    chunks = dict(metadata.chunks)
    if chunks.get(b"cICP", b"\x01\x0d\x00\x01") != b"\x01\x0d\x00\x01" or b"mDCV" in chunks or b"cLLI" in chunks:
        return False
    if b"sRGB" in chunks or b"cICP" in chunks:
        return True
    gamma = struct.unpack(">I", chunks.get(b"gAMA", struct.pack(">I", _SRGB_GAMMA)))[0]
    primaries = struct.unpack(">8I", chunks.get(b"cHRM", struct.pack(">8I", *_SRGB_PRIMARIES)))
    near = [abs(found - meant) <= _NEAR for found, meant in zip(primaries, _SRGB_PRIMARIES, strict=True)]
    return abs(gamma - _SRGB_GAMMA) <= _NEAR and all(near)
