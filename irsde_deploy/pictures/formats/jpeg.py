"""JPEG: its segments read here; libjpeg (by Pillow) is given those that make the pixels alone."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from .exif import PREFIX as EXIF_PREFIX
from .jpeg_ends import completed
from .metadata import ASPECT, CENTIMETRE, INCH, Density, Metadata
from .scan import Damaged, Decoded, Pixels, Scan, Unsupported
from .scan_data import Data

SIGNATURE = b"\xff\xd8\xff"
PROFILE_PREFIX = b"ICC_PROFILE\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_LONG_XMP_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_SOF = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; the last two with arithmetic coding
_MOST_LOOKED_AT = 4096  # segments: a profile of full length and all else that cameras write take a tenth of them
_APP0, _APP1, _APP2, _APP13, _APP14, _COM, _SOS, _EOI = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDA, 0xD9


class _Segment(NamedTuple):
    marker: int
    begin: int
    end: int


class _Frame(NamedTuple):
    marker: int
    precision: int
    height: int
    width: int
    components: int


def scan(data: Data) -> Scan:
    """What a JPEG file says of itself."""
    segments = list(_segments(data))
    frame = _frame(data, segments)
    metadata, notes = _metadata(data, segments)
    return Scan(frame.width, frame.height, partial(_decode, data, segments, frame), metadata, notes=tuple(notes))


def _segments(data: Data) -> Iterator[_Segment]:
    """The segments before the pixels; the last one is the first scan's, which goes on to the end of the file."""
    at = 2
    while at + 4 <= len(data):
        if data[at : at + 1] != b"\xff":
            at += 1  # rubbish between two segments, which libjpeg skips too
            continue
        marker = data[at + 1 : at + 2][0]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2  # filling, or a marker without a body
            continue
        if marker == _EOI:
            return
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SOS:
            yield _Segment(marker, at, len(data))
            return
        if end > len(data):
            return
        yield _Segment(marker, at, end)
        at = max(end, at + 4)


def _frame(data: Data, segments: list[_Segment]) -> _Frame:
    for segment in segments:
        if segment.marker in _SOF and segment.end - segment.begin >= 10:
            found = _Frame(segment.marker, *struct.unpack_from(">BHHB", data, segment.begin + 4))
            break
    else:
        raise Damaged("its header is missing")
    if found.marker not in _READ_SOF:
        raise Unsupported("is a lossless or hierarchical JPEG, which is not read: save it as PNG first")
    if found.precision != 8:
        raise Unsupported(f"is a JPEG of {found.precision} bits a channel, and 8 are read: save it as PNG first")
    if found.components not in (1, 3, 4):
        raise Unsupported(f"is a JPEG of {found.components} channels: pictures are grey, RGB or CMYK")
    return found


def _essential(data: Data, segments: list[_Segment]) -> bytes:
    """The file without metadata: what a decoder needs, JFIF's and Adobe's words on colour included."""
    parts = [b"\xff\xd8"]
    for segment in segments:
        body = data[segment.begin + 4 : segment.begin + 16]
        if segment.marker == _APP0 and not body.startswith(b"JFIF\0"):
            continue
        if segment.marker == _APP14 and not body.startswith(b"Adobe"):
            continue
        if segment.marker == _COM or 0xE1 <= segment.marker <= 0xED or segment.marker == 0xEF:
            continue
        parts.append(data[segment.begin : segment.end])
    return b"".join(parts)


def _decode(data: Data, segments: list[_Segment], frame: _Frame) -> Decoded:
    values, notes = _channels(_essential(data, segments))
    if frame.components == 1:
        return Decoded(np.repeat(values[:, :, None], 3, axis=2), grey=True, notes=notes)
    if frame.components == 4:
        return Decoded(_from_cmyk(values), notes=notes)
    return Decoded(values, notes=notes)


def _channels(content: bytes) -> tuple[Pixels, tuple[str, ...]]:
    """The values of a stream whose end may be missing, and a note where it is."""
    try:
        return decode_channels(content), ()
    except OSError:
        values = completed(content, decode_channels)
        if values is None:
            raise
    return values, ("its end is missing (no EOI), and its pixels are whole",)


def essential_segments(stream: bytes) -> bytes:
    """The segments of a stream that a decoder needs, without those that say what its channels are."""
    wanted = [s for s in _segments(stream) if s.marker == _COM or not 0xE0 <= s.marker <= 0xEF]
    return b"".join(stream[s.begin : s.end] for s in wanted)


def decode_channels(content: bytes) -> Pixels:
    """The values of a JPEG stream, (H, W) or (H, W, 3 or 4), uint8: grey, RGB or CMYK."""
    with JpegImageFile(io.BytesIO(content)) as image:
        image.load()
        return np.array(image)


def _from_cmyk(cmyk: Pixels) -> Pixels:
    """RGB by the plain formula, light = (1 - ink) (1 - black), in whole numbers."""
    light = 255 - cmyk[:, :, :3].astype(np.int32)
    white = 255 - cmyk[:, :, 3:].astype(np.int32)
    return (white - ((255 - light) * white >> 8)).astype(np.uint8)


def _metadata(data: Data, segments: list[_Segment]) -> tuple[Metadata, list[str]]:
    exif = xmp = density = None
    iptc = long_xmp = several = False
    pieces: dict[int, bytes] = {}
    for segment in segments[:_MOST_LOOKED_AT]:
        body = data[segment.begin + 4 : segment.end] if 0xE0 <= segment.marker <= 0xED else b""
        if segment.marker == _APP0 and body.startswith(b"JFIF\0") and density is None:
            density = _density(body)
        elif segment.marker == _APP1 and body.startswith(EXIF_PREFIX):
            exif = exif or body[len(EXIF_PREFIX) :]
        elif segment.marker == _APP1 and body.startswith(XMP_PREFIX):
            xmp = xmp or body[len(XMP_PREFIX) :]
        elif segment.marker == _APP2 and body.startswith(PROFILE_PREFIX) and len(body) > 14:
            pieces.setdefault(body[12], body[14:])
        elif segment.marker == _APP2 and body.startswith(b"MPF\0"):
            several = True
        iptc = iptc or (segment.marker == _APP13 and b"8BIM\x04\x04" in body)
        long_xmp = long_xmp or body.startswith(_LONG_XMP_PREFIX)
    profile = b"".join(pieces[number] for number in sorted(pieces)) or None
    notes = []
    if long_xmp:
        notes.append("its XMP data go on in a second part, which is left out")
    if several:
        notes.append("holds several pictures (MPO): the first is restored alone")
    return Metadata(profile, exif, xmp, density, iptc=iptc), notes


def _density(body: bytes) -> Density | None:
    if len(body) < 12:
        return None
    unit, x, y = struct.unpack_from(">BHH", body, 7)
    if not x or not y or (unit == 0 and x == y):
        return None
    name = {1: INCH, 2: CENTIMETRE}.get(unit, ASPECT)
    return Density(Fraction(x), Fraction(y), name)


# -- written -----------------------------------------------------------------------------------------------------------

_MOST = 65_533  # bytes of a segment without its marker and length
_PIECE = _MOST - len(PROFILE_PREFIX) - 2  # of a profile, behind the numbers of this piece and of all
_MOST_PIECES = 255


def too_long(metadata: Metadata) -> list[str]:
    """Which of the metadata no JPEG can hold, in words."""
    lost = []
    if len(metadata.exif or b"") > _MOST - len(EXIF_PREFIX):
        lost.append("its EXIF data, which are too long")
    if len(metadata.xmp or b"") > _MOST - len(XMP_PREFIX):
        lost.append("its XMP data, which are too long")
    if len(metadata.profile or b"") > _MOST_PIECES * _PIECE:
        lost.append("its colour profile, which is too long")
    return lost


def with_metadata(content: bytes, metadata: Metadata) -> bytes:
    """A JPEG file with metadata put in, without what is `too_long`."""
    parts: list[bytes] = []
    head, rest = content[:2], content[2:]
    if content[2:4] == b"\xff\xe0":  # JFIF comes first
        end = 4 + struct.unpack_from(">H", content, 4)[0]
        head, rest = _with_density(content[:end], metadata.density), content[end:]
    if metadata.exif is not None:
        parts += _single(_APP1, EXIF_PREFIX + metadata.exif)
    if metadata.xmp is not None:
        parts += _single(_APP1, XMP_PREFIX + metadata.xmp)
    if metadata.profile is not None:
        parts += _profile_segments(metadata.profile)
    return head + b"".join(parts) + rest


def _single(marker: int, body: bytes) -> list[bytes]:
    """A body as one segment, or none where it is too long."""
    return [_segment(marker, body)] if len(body) <= _MOST else []


def _profile_segments(profile: bytes) -> list[bytes]:
    """A profile in as many segments as it takes, or none where those would be too many."""
    count = -(-len(profile) // _PIECE)
    if count > _MOST_PIECES:
        return []
    pieces = []
    for number in range(count):
        numbers = bytes([number + 1, count])
        pieces.append(_segment(_APP2, PROFILE_PREFIX + numbers + profile[number * _PIECE : (number + 1) * _PIECE]))
    return pieces


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _with_density(head: bytes, density: Density | None) -> bytes:
    """The start of a file, its JFIF segment included, with a resolution in it."""
    if density is None or len(head) < 18:
        return head
    unit = {INCH: 1, CENTIMETRE: 2}.get(density.unit, 0)
    x, y = (min(max(value, 1), 65_535) for value in density.per(density.unit))
    return head[:13] + struct.pack(">BHH", unit, x, y) + head[18:]
