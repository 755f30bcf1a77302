"""Which format a file is, by its content and by its name; which are read, which are written, which are neither."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import by_pillow, jpeg, png, pnm, tiff, webp
from .scan import Scan, Unsupported
from .scan_data import Data

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", *JPEG_SUFFIXES, ".webp", *TIFF_SUFFIXES)
"""Of pictures that are read and written."""

READ_ONLY_SUFFIXES = (
    *(".bmp", ".dib", ".gif", ".avif", ".apng", ".btf"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
)
"""Of pictures that are read, and written as PNG."""

READ_WORDS = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PNM or JPEG 2000"
"""The formats that are read, for people."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_JPEG2000 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")

# What is known and not read, by how it begins: each is named, and what to do is the same.
_OTHERS = (
    ("a Photoshop file", (b"8BPS",)),
    ("an OpenEXR picture", (b"v/1\x01",)),
    ("a Radiance HDR picture", (b"#?RADIANCE", b"#?RGBE")),
    ("a JPEG XL picture", (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")),
    ("a PDF file", (b"%PDF",)),
    ("an SVG drawing", (b"<svg",)),
    ("a PFM picture of floating-point values", (b"PF\n", b"Pf\n")),
    ("a camera's raw file", (b"FUJIFILM", b"IIRO", b"IIU\0", b"FOVb")),
)


def scan(data: Data) -> Scan:
    """What a file says of itself, by its content, whatever its name.

    Raises:
        Unsupported: it is no picture of a format that is read. Damaged, and what parsers raise: it is damaged.
    """
    head = data[:64]
    reader = _reader(head)
    if reader is None:
        raise Unsupported(_what_else(head))
    return reader(data)


def _reader(head: bytes) -> Callable[[Data], Scan] | None:
    readers: tuple[tuple[bool, Callable[[Data], Scan]], ...] = (
        (head.startswith(png.SIGNATURE), png.scan),
        (head.startswith(jpeg.SIGNATURE), jpeg.scan),
        (webp.is_webp(head), webp.scan),
        (head.startswith(tiff.SIGNATURES), tiff.scan),
        (head.startswith(b"BM"), partial(by_pillow.scan, kind="BMP")),
        (head.startswith((b"GIF87a", b"GIF89a")), partial(by_pillow.scan, kind="GIF")),
        (head[4:8] == b"ftyp" and bool(_brands(head) & set(_AVIF_BRANDS)), partial(by_pillow.scan, kind="AVIF")),
        (head.startswith(_JPEG2000), partial(by_pillow.scan, kind="JPEG2000")),
        (pnm.is_pnm(head), pnm.scan),
    )
    for fits, reader in readers:
        if fits:
            return reader
    return None


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: what it is, and what it can be read as."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[at : at + 4] for at in (8, *range(16, end - 3, 4))}


def _what_else(head: bytes) -> str:
    advice = "save it as PNG, TIFF or JPEG first"
    if head[4:8] == b"ftyp" and _brands(head) & set(_HEIC_BRANDS):
        return f"is a HEIC picture, which is not read: {advice}"
    for name, signatures in _OTHERS:
        if head.startswith(signatures):
            return f"is {name}, which is not read: {advice}"
    return f"not a {READ_WORDS} picture"
