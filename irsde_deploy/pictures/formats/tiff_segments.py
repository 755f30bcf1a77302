"""Strips and tiles of a TIFF file: found, decompressed, and put together as an array of whole numbers."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from .scan import Damaged, Pixels, Unsupported
from .scan_data import Data
from .silent_libtiff import silence_libtiff
from .tiff_directories import LONG, SHORT, Directory, Field, write_directory
from .tiff_jpeg import decode_tiff_jpeg
from .tiff_ycbcr import YCbCr

_NONE, _CCITT, _JPEG, _DEFLATE = 1, (2, 3, 4), 7, (8, 32946)
_BY_LIBTIFF = {5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}
_NAMES = {6: "old JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP"}
_NAMES |= {34676: "LogLuv", 34677: "LogLuv", 50002: "JPEG XL", 52546: "JPEG XL", 34892: "lossy JPEG (DNG)"}
_PREDICTED = (5, *_DEFLATE, 34925, 50000)
"""Compressions that a predictor goes with; libtiff leaves the tag alone where there is another, or none."""
_FAX_OPTIONS = (Tag.T4Options, Tag.T6Options)
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
MAX_VALUES = 500_000_000
"""Values of a picture, those of all its channels, at most: its pixels are limited elsewhere, its channels are not."""

_BYTES_AT_ONCE = 16 << 20  # that are decompressed together
_VALUES_AT_ONCE = 1 << 20  # that are unpacked together


@dataclass(frozen=True)
class Layout:
    """How the values of a picture lie in its strips or tiles.

    Attributes:
        width, height: of the picture.
        bits: of a value, 1..16.
        channels: values a pixel.
        planes: 1, or as many as there are channels, each by itself.
        tile_width, tile_height: of a strip or tile; those at the edges reach beyond where `tiled`.
        tiled: whether there are tiles.
        order: of bytes, `<` or `>`.
        compression, predictor: TIFF's numbers.
        reversed_bits: whether the first bit of a byte is its lowest.
        ycbcr: how luma and chroma become RGB; None for other colours.
        page: the directory.
    """

    width: int
    height: int
    bits: int
    channels: int
    planes: int
    tile_width: int
    tile_height: int
    tiled: bool
    order: str
    compression: int
    predictor: int
    reversed_bits: bool
    ycbcr: YCbCr | None
    page: Directory

    @classmethod
    def of(cls, page: Directory, bits: int, channels: int, is_ycbcr: bool, order: str) -> Layout:
        """The layout of a page; raises Unsupported or Damaged for one that is not read."""
        width, height = page.value(Tag.ImageWidth, 0), page.value(Tag.ImageLength, 0)
        tiled = Tag.TileWidth in page.fields
        tile_width, tile_height = width, min(page.value(Tag.RowsPerStrip, height) or height, height)
        if tiled:
            tile_width, tile_height = page.value(Tag.TileWidth, 0), page.value(Tag.TileLength, 0)
        if not (0 < tile_width < 1 << 20 or tile_width == width) or not 0 < tile_height < 1 << 31:
            raise Damaged("its strips or tiles have no size")
        separate = page.value(Tag.PlanarConfiguration, 1) == 2
        compression = page.value(Tag.Compression, 1)
        found = cls(
            width=width,
            height=height,
            bits=bits,
            channels=channels,
            planes=channels if separate else 1,
            tile_width=tile_width,
            tile_height=tile_height,
            tiled=tiled,
            order=order,
            compression=compression,
            predictor=page.value(Tag.Predictor, 1) if compression in _PREDICTED else 1,
            reversed_bits=page.value(Tag.FillOrder, 1) == 2,
            ycbcr=YCbCr.of(page) if is_ycbcr else None,
            page=page,
        )
        found._require_known()
        return found

    def _require_known(self) -> None:
        compression = self.compression
        known = compression in (_NONE, _JPEG, *_DEFLATE, *_CCITT, *_BY_LIBTIFF)
        if not known:
            name = _NAMES.get(compression, "unknown")
            raise Unsupported(f"its compression ({compression}, {name}) is not read: save it with LZW or Deflate first")
        if compression in _CCITT and (self.bits, self.samples) != (1, 1):
            raise Damaged("it is compressed as a fax, and has more than black and white")
        if compression == _JPEG and self.bits != 8:
            raise Unsupported(f"is compressed as JPEG with {self.bits} bits a channel, and 8 are read")
        if self.predictor not in (1, 2) or (self.predictor == 2 and self.bits not in (8, 16)):
            raise Unsupported(
                f"its predictor {self.predictor} at {self.bits} bits is not read: save it without one first"
            )
        if self.ycbcr is not None and (self.bits != 8 or self.planes != 1 or self.channels != 3 or self.predictor != 1):
            raise Unsupported("is YCbCr of an uncommon layout, which is not read: save it as RGB first")
        stored = self.across * self.tile_width * self.down * self.tile_height
        if stored > 4 * self.width * self.height + (1 << 20):
            raise Damaged("its strips or tiles are far larger than the picture")
        if self.width * self.height * self.channels > MAX_VALUES:
            raise Unsupported(f"{self.width}x{self.height} pixels of {self.channels} channels are too many")

    @property
    def samples(self) -> int:
        """Values of a pixel within one strip or tile."""
        return 1 if self.planes > 1 else self.channels

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    @property
    def down(self) -> int:
        """Rows of strips or tiles."""
        return -(-self.height // self.tile_height)

    def rows_of(self, row: int) -> int:
        """Rows of pixels in the strips or tiles of a row of them."""
        if self.tiled:
            return self.tile_height
        return min(self.tile_height, self.height - row * self.tile_height)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a strip or tile."""
        return (self.tile_width * self.samples * self.bits + 7) // 8


@dataclass(frozen=True)
class Segments:
    """Where the strips or tiles are.

    Attributes:
        data: the file.
        places: (offset, bytes) of each, plane after plane, row after row.
    """

    data: Data
    places: list[tuple[int, int]]

    @classmethod
    def of(cls, data: Data, page: Directory, layout: Layout) -> Segments:
        """Those of a page; raises Damaged where some are missing."""
        offsets = page.values(Tag.TileOffsets) or page.values(Tag.StripOffsets)
        counts = page.values(Tag.TileByteCounts) or page.values(Tag.StripByteCounts)
        wanted = layout.planes * layout.across * layout.down
        if len(offsets) < wanted:
            raise Damaged(f"it has {len(offsets)} of {wanted} strips or tiles")
        if len(counts) < wanted:  # as old writers left them out: it is what lies before the end
            counts = [len(data)] * wanted
        return cls(data, list(zip(offsets[:wanted], counts[:wanted], strict=True)))

    def content(self, number: int) -> bytes:
        """The bytes of one."""
        offset, count = self.places[number]
        if not 0 < offset < len(self.data) or count <= 0:
            raise Damaged("a strip or tile lies outside of the file")
        return self.data[offset : min(offset + count, len(self.data))]


def read_samples(segments: Segments, layout: Layout) -> Pixels:
    """All values, (H, W, channels), uint8 or, above 8 bits, uint16; not scaled."""
    whole = np.empty((layout.height, layout.width, layout.channels), np.uint8 if layout.bits <= 8 else np.uint16)
    for first, places in _together(layout):
        contents = [segments.content(first + number) for number in range(len(places))]
        blocks = _values(contents, layout, layout.rows_of(places[0].row))
        for place, block in zip(places, blocks, strict=True):
            channels = slice(place.plane, place.plane + 1) if layout.planes > 1 else slice(None)
            top, left = place.row * layout.tile_height, place.column * layout.tile_width
            target = whole[top : top + layout.tile_height, left : left + layout.tile_width, channels]
            target[...] = block[: target.shape[0], : target.shape[1]]
    return whole


class _Place(NamedTuple):
    plane: int
    row: int
    column: int


def _together(layout: Layout) -> Iterator[tuple[int, list[_Place]]]:
    """Strips or tiles that are of one size and decompressed at once: the number of the first, and where they belong."""
    most = 1
    if layout.compression != _JPEG and layout.ycbcr is None and layout.compression not in _CCITT:
        most = max(1, _BYTES_AT_ONCE // (layout.row_bytes * layout.tile_height))
    columns = range(layout.across)
    places = [_Place(p, r, c) for p in range(layout.planes) for r in range(layout.down) for c in columns]
    for _, run in groupby(enumerate(places), lambda numbered: layout.rows_of(numbered[1].row)):
        of_one_size = list(run)
        for first in range(0, len(of_one_size), most):
            part = of_one_size[first : first + most]
            yield part[0][0], [place for _, place in part]


def _values(contents: list[bytes], layout: Layout, rows: int) -> Pixels:
    """The values of strips or tiles of one size, (count, rows, width, samples)."""
    if layout.compression == _JPEG:
        values = decode_tiff_jpeg(contents[0], layout.page, layout.ycbcr is not None, layout.samples)
        if values.shape[0] < rows or values.shape[1] < layout.tile_width:
            raise Damaged("a strip or tile is smaller than it should be")
        return values[None, :rows]
    if layout.ycbcr is not None:
        size = layout.ycbcr.size(rows, layout.tile_width)
        return layout.ycbcr.rgb(_decompressed(contents, layout, 1, size), rows, layout.tile_width)[None]
    data = _decompressed(contents, layout, rows, layout.row_bytes)
    values = _unpacked(data, layout, len(contents) * rows)
    values = values.reshape(len(contents), rows, layout.tile_width, layout.samples)
    if layout.predictor == 2:
        values = np.cumsum(values, axis=2, dtype=values.dtype)  # beyond the white it begins again, as is meant
    return values


def _unpacked(data: bytes, layout: Layout, rows: int) -> Pixels:
    bits, width = layout.bits, layout.tile_width * layout.samples
    if bits == 8:
        return np.frombuffer(data, np.uint8)
    if bits == 16:
        return np.frombuffer(data, layout.order + "u2").astype(np.uint16)
    packed = np.frombuffer(data, np.uint8).reshape(rows, -1)
    values = np.empty((rows, width), np.uint8 if bits < 8 else np.uint16)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint16)
    step = max(1, _VALUES_AT_ONCE // width)
    for first in range(0, rows, step):
        part = np.unpackbits(packed[first : first + step], axis=1, count=width * bits)
        values[first : first + step] = part.reshape(-1, width, bits).astype(np.uint16) @ weights
    return values


def _decompressed(contents: list[bytes], layout: Layout, rows: int, row_bytes: int) -> bytes:
    """The bytes of strips or tiles of one size; raises Damaged where some are missing."""
    wanted, compression = rows * row_bytes, layout.compression
    if layout.reversed_bits:  # what is compressed, whatever by, but JPEG
        contents = [_REVERSED[np.frombuffer(content, np.uint8)].tobytes() for content in contents]
    if compression in _BY_LIBTIFF:
        return _by_libtiff(contents, layout, row_bytes, rows, bits=8)
    if compression in _CCITT:
        return _by_libtiff(contents, layout, layout.tile_width, rows, bits=1)
    found = [content[:wanted] if compression == _NONE else _inflated(content, wanted) for content in contents]
    if min(map(len, found)) < wanted:
        raise Damaged("a strip or tile ends early")
    return b"".join(found)


def _inflated(content: bytes, wanted: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, wanted)
    except zlib.error as error:
        raise Damaged(str(error)) from None


def _by_libtiff(contents: list[bytes], layout: Layout, width: int, rows: int, bits: int) -> bytes:
    """Decompress as strips of a grey picture of bytes, or of bits: whatever it is, libtiff has no opinion on it."""
    silence_libtiff()
    offsets = np.cumsum([8, *map(len, contents)])
    numbers = {Tag.ImageWidth: width, Tag.ImageLength: rows * len(contents), Tag.RowsPerStrip: rows}
    fields: dict[int, Field] = {tag: Field(LONG, struct.pack("<I", value)) for tag, value in numbers.items()}
    fields[Tag.StripOffsets] = Field(LONG, offsets[:-1].astype("<u4").tobytes())
    fields[Tag.StripByteCounts] = Field(LONG, np.diff(offsets).astype("<u4").tobytes())
    shorts = {Tag.BitsPerSample: bits, Tag.Compression: layout.compression}
    shorts |= {Tag.PhotometricInterpretation: 1, Tag.SamplesPerPixel: 1}
    fields |= {tag: Field(SHORT, struct.pack("<H", value)) for tag, value in shorts.items()}
    fields |= {tag: layout.page.fields[tag] for tag in _FAX_OPTIONS if tag in layout.page.fields}
    at = int(offsets[-1] + offsets[-1] % 2)
    file = b"".join([b"II*\0", struct.pack("<I", at), *contents, b"\0" * int(offsets[-1] % 2)])
    with TiffImageFile(io.BytesIO(file + write_directory(Directory(fields), at))) as image:
        image.load()
        return bytes(image.tobytes())
