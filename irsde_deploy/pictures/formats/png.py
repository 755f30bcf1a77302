"""PNG: its chunks read and checked here; libpng unfilters pixel data that are known to be whole, and sees nothing else.

So no chunk beside the pixels can cost them, and no library has an opinion of its own on transparency or gamma.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np

from .png_metadata import read_metadata
from .scan import Damaged, Decoded, Pixels, Scan, Unsupported
from .scan_data import Data

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_METADATA = 64_000_000
"""Bytes of a chunk beside the pixels that are looked at."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> values a pixel
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
# Where the seven passes of an interlaced picture begin, and their strides: x, y, across, down.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class _Chunk(NamedTuple):
    """A chunk: its type, where its body is, whether the file has all of it, and the checksum it comes with."""

    kind: bytes
    begin: int
    end: int
    whole: bool
    checksum: int


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    colours: int
    interlaced: bool

    def row_bytes(self, width: int) -> int:
        """Bytes of a row, without that of its filter."""
        return (width * _CHANNELS[self.colours] * self.depth + 7) // 8

    def passes(self) -> list[tuple[int, int]]:
        """(rows, bytes a row with its filter's) of every pass that has pixels."""
        if not self.interlaced:
            return [(self.height, 1 + self.row_bytes(self.width))]
        sizes = []
        for x, y, across, down in _PASSES:
            width, height = -((x - self.width) // across), -((y - self.height) // down)
            if width > 0 and height > 0:
                sizes.append((height, 1 + self.row_bytes(width)))
        return sizes


@dataclass
class _Parts:
    """The chunks that matter for the pixels, and all others."""

    pixels: list[_Chunk] = field(default_factory=list)
    palette: bytes | None = None
    transparency: bytes | None = None
    beside: list[tuple[bytes, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: bool = False


def scan(data: Data) -> Scan:
    """What a PNG file says of itself."""
    chunks = _chunks(data)
    header = _header(data, next(chunks, None))
    parts = _Parts()
    for chunk in chunks:
        _take(data, chunk, parts)
        if parts.ended:
            break
    metadata, notes = read_metadata(parts.beside)
    return Scan(
        header.width,
        header.height,
        partial(_decode, data, header, parts),
        metadata,
        notes=(*parts.notes, *notes),
    )


def _chunks(data: Data) -> Iterator[_Chunk]:
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha():
            return  # what follows is none
        end = at + 8 + length
        whole = end + 4 <= len(data)
        yield _Chunk(kind, at + 8, min(end, len(data)), whole, struct.unpack_from(">I", data, end)[0] if whole else 0)
        at = end + 4


def _sound(data: Data, chunk: _Chunk) -> bool:
    """Whether a chunk is whole and its checksum right."""
    return chunk.whole and zlib.crc32(data[chunk.begin : chunk.end], zlib.crc32(chunk.kind)) == chunk.checksum


def _header(data: Data, chunk: _Chunk | None) -> _Header:
    if chunk is not None and chunk.kind == b"CgBI":
        raise Unsupported("is a PNG of Apple's own kind (CgBI): save it as an ordinary PNG first")
    if chunk is None or chunk.kind != b"IHDR" or chunk.end - chunk.begin != 13:
        raise Damaged("its header is missing")
    if not _sound(data, chunk):
        raise Damaged("the checksum of its header is wrong")
    width, height, depth, colours, compression, filters, interlaced = struct.unpack_from(">IIBBBBB", data, chunk.begin)
    if depth not in _DEPTHS.get(colours, ()) or compression or filters or interlaced > 1:
        raise Damaged("its header has values that PNG does not know")
    return _Header(width, height, depth, colours, bool(interlaced))


def _take(data: Data, chunk: _Chunk, parts: _Parts) -> None:
    """Sort a chunk in."""
    kind = chunk.kind
    if kind == b"IDAT":
        parts.pixels.append(chunk)
    elif kind == b"IEND":
        parts.ended = True
    elif kind in (b"PLTE", b"tRNS"):
        _take_colours(data, chunk, parts)
    elif kind[:1].isupper():
        raise Unsupported(f"is a PNG with a chunk {kind.decode()}, without which it cannot be shown, and it is unknown")
    elif chunk.end - chunk.begin > MAX_METADATA:
        parts.notes.append(f"its {kind.decode()} chunk is too large and is left out")
    elif not _sound(data, chunk):
        parts.notes.append(f"its {kind.decode()} chunk is damaged and is left out")
    else:
        parts.beside.append((kind, data[chunk.begin : chunk.end]))


def _take_colours(data: Data, chunk: _Chunk, parts: _Parts) -> None:
    body = data[chunk.begin : chunk.end]
    if chunk.kind == b"tRNS":
        if _sound(data, chunk):
            parts.transparency = body
        else:
            parts.notes.append("its tRNS chunk is damaged: its transparency is left out")
        return
    if not _sound(data, chunk):
        raise Damaged("the checksum of its palette is wrong")
    if not parts.pixels:  # one that stands behind them is none for any decoder
        parts.palette = body


def _decode(data: Data, header: _Header, parts: _Parts) -> Decoded:
    notes = () if parts.ended else ("its end is missing (no IEND), and its pixels are whole",)
    pixels = _unfiltered(header, _checked(data, header, parts.pixels))
    if header.colours == _PALETTE:
        places = pixels // (255 // (2**header.depth - 1))  # which were spread over 8 bits, being taken for grey
        return _of_palette(places, parts, notes)
    alpha = None
    if header.colours in (_GREY_ALPHA, _RGB_ALPHA):
        alpha = np.ascontiguousarray(pixels[:, :, 3])
    elif parts.transparency is not None:
        alpha = _keyed(pixels, header, parts.transparency)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    rgb = np.ascontiguousarray(pixels[:, :, 2::-1])
    return Decoded(rgb, alpha, header.colours in (_GREY, _GREY_ALPHA), notes)


def _checked(data: Data, header: _Header, chunks: list[_Chunk]) -> bytes:
    """The compressed rows as one chunk's body that libpng cannot complain about; raises Damaged where some are missing.

    A stream that ends as it should is given as it is; of another, what it has is compressed anew, by storing.
    """
    inflate = zlib.decompressobj()
    wanted = sum(rows * size for rows, size in header.passes())
    found = used = 0
    kept: list[bytes] = []  # of interlaced pictures, whose rows have several lengths
    for block in _inflated(data, chunks, inflate, wanted):
        used += 1
        if header.interlaced:
            kept.append(block)
        else:
            _require_filters(block, found, header.passes()[0][1])
        found += len(block)
    if found < wanted:
        raise Damaged("its pixel data end early")
    if header.interlaced:
        _require_filters_of_passes(b"".join(kept), header.passes())
    if inflate.eof and not inflate.unused_data and used == len(chunks):
        return b"".join(data[chunk.begin : chunk.end] for chunk in chunks)
    return zlib.compress(b"".join(_inflated(data, chunks, zlib.decompressobj(), wanted)), 0)


def _inflated(data: Data, chunks: list[_Chunk], inflate: Any, wanted: int) -> Iterator[bytes]:
    """The filtered rows, as many bytes as are wanted at most, from chunks that are known to be whole."""
    for chunk in chunks:
        if chunk.whole and not _sound(data, chunk):
            raise Damaged("the checksum of its pixel data is wrong")
        if wanted <= 0 and inflate.eof:
            continue
        try:  # a byte more than is wanted, for the stream's end to be seen
            block = inflate.decompress(data[chunk.begin : chunk.end], max(wanted, 0) + 1)[: max(wanted, 0)]
        except zlib.error as error:
            raise Damaged(str(error)) from None
        wanted -= len(block)
        yield block


def _require_filters(rows: bytes, offset: int, size: int) -> None:
    """Raise Damaged where a row of `size` bytes, of which some are given from an offset on, has an unknown filter."""
    filters = np.frombuffer(rows, np.uint8)[-offset % size :: size]
    if filters.size and filters.max() > 4:
        raise Damaged("a row has a filter that PNG does not know")


def _require_filters_of_passes(rows: bytes, passes: list[tuple[int, int]]) -> None:
    """The same for the rows of an interlaced picture, pass after pass: (rows, bytes a row) of each."""
    at = 0
    for count, size in passes:
        _require_filters(rows[at : at + count * size], 0, size)
        at += count * size


def _unfiltered(header: _Header, compressed: bytes) -> Pixels:
    """The pixels as OpenCV gives them: grey, BGR or BGRA; 8 bits a value where there are fewer."""
    colours = _GREY if header.colours == _PALETTE else header.colours
    head = struct.pack(">IIBBBBB", header.width, header.height, header.depth, colours, 0, 0, header.interlaced)
    essential = [(b"IHDR", head), (b"IDAT", compressed), (b"IEND", b"")]
    content = SIGNATURE + b"".join(chunk_bytes(*chunk) for chunk in essential)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise Damaged("libpng cannot decode its pixel data")
    return np.asarray(pixels)


def _of_palette(places: Pixels, parts: _Parts, notes: tuple[str, ...]) -> Decoded:
    if parts.palette is None or len(parts.palette) % 3 or not parts.palette:
        raise Damaged("its palette is missing")
    colours = np.zeros((256, 3), np.uint8)
    entries = np.frombuffer(parts.palette, np.uint8).reshape(-1, 3)[:256]
    colours[: len(entries)] = entries
    alpha = None
    if parts.transparency is not None:
        shades = np.full(256, 255, np.uint8)
        given = np.frombuffer(parts.transparency, np.uint8)[:256]
        shades[: len(given)] = given
        alpha = shades[places]
    return Decoded(colours[places], alpha, False, notes)


def _keyed(pixels: Pixels, header: _Header, transparency: bytes) -> Pixels | None:
    """Alpha that is 0 where a pixel has the one colour that is transparent."""
    wanted = 1 if header.colours == _GREY else 3
    if len(transparency) < 2 * wanted:
        return None
    key: Any = np.array(struct.unpack_from(f">{wanted}H", transparency), np.uint32) & (2**header.depth - 1)
    if header.depth < 8:
        key = key * (255 // (2**header.depth - 1))
    values = pixels[:, :, None] if pixels.ndim == 2 else pixels[:, :, ::-1]
    white = np.iinfo(pixels.dtype).max
    return np.where((values == key).all(axis=2), 0, white).astype(pixels.dtype)


def chunk_bytes(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
