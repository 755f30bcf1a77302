"""JPEG streams inside of TIFF files: tables and pixels put together, and what their channels are said outright."""

from __future__ import annotations

from PIL.ExifTags import Base as Tag

from .jpeg import decode_channels, essential_segments
from .scan import Damaged, Pixels, Unsupported
from .tiff_directories import Directory


def decode_tiff_jpeg(content: bytes, page: Directory, is_ycbcr: bool, samples: int) -> Pixels:
    """The values of a strip or tile, (h, w, samples) uint8; YCbCr as RGB."""
    tables = page.raw(Tag.JPEGTables) or b""
    for stream in (tables, content):
        if stream and not stream.startswith(b"\xff\xd8"):
            raise Damaged("a strip or tile is no JPEG")
    # Adobe's segment says whether the channels are YCbCr, of which libjpeg would else have an opinion of its own.
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([1 if is_ycbcr else 0])
    parts = [b"\xff\xd8", adobe, essential_segments(tables), essential_segments(content)]
    if samples == 2:
        raise Unsupported("is compressed as JPEG with 2 channels, which is not read: save it with LZW or Deflate first")
    values = decode_channels(b"".join(parts))
    if values.ndim == 2:
        values = values[:, :, None]
    if samples == 4:
        values = 255 - values  # Pillow takes four channels for CMYK as Adobe has it, upside down
    if values.shape[2] != samples:
        raise Damaged(f"a strip or tile has {values.shape[2]} channels, and {samples} were expected")
    return values
