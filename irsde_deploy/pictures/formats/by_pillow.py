"""BMP, GIF, AVIF and JPEG 2000, which are read and not written: Pillow says what they hold, and decodes them."""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, features

from ...errors import reason
from .exif import PREFIX
from .metadata import INCH, Density, Metadata
from .scan import Damaged, Decoded, Scan, Unsupported
from .scan_data import Data

_GREY = ("1", "L", "LA", "I;16")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA")
_AVIF_PIXI, _AVIF_NCLX = b"pixi\0\0\0\0", b"colrnclx"
_REFUSED_FOR = {"AVIF": "EXIF data", "JPEG2000": "resolution or colours"}
"""Kind -> what libraries refuse a picture for, though it is beside the pixels."""

# An AVIF names its EXIF data in a box "infe" of version 2 or 3, behind version, flags, number and protection.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
# Boxes in the header of a JP2: a resolution, and colours that are not said by a number (method 1).
_ODD_BOX = re.compile(rb"res |colr(?!\x01..\x00\x00\x00)", re.DOTALL)
_SRGB = (1, 13)  # the numbers of primaries and transfer in CICP


def scan(data: Data, kind: str) -> Scan:
    """What such a file says of itself; `kind` is Pillow's name of the format."""
    content, notes = _as_it_opens(data[:], kind)
    with _opened(content, kind) as image:
        (width, height), info, mode = image.size, dict(image.info), image.mode
        animated = getattr(image, "is_animated", False)
    if animated:
        notes.append("is animated: its first frame is restored alone")
    metadata = Metadata(info.get("icc_profile") or None, _exif(info), info.get("xmp") or None, _density(info))
    if kind == "AVIF":
        metadata = _with_cicp(metadata, content)
        notes += _deeper(_bits_of_avif(content))
    if kind == "JPEG2000":
        metadata = replace(metadata, profile=_profile_of_jpeg2000(content))
        if mode != "I;16":
            notes += _deeper(_bits_of_jpeg2000(content))
    return Scan(width, height, partial(_decode, content, kind), metadata, notes=tuple(notes))


def _opened(content: bytes, kind: str) -> Image.Image:
    feature = {"AVIF": "avif", "JPEG2000": "jpg_2000"}.get(kind)
    if feature is not None and not features.check(feature):
        raise Unsupported(f"is {kind}, which this build of Pillow does not read: install Pillow's own wheel")
    if kind not in Image.OPEN:
        Image.init()
    open_it, is_of_kind = Image.OPEN[kind]
    if is_of_kind is not None and is_of_kind(content[:16]) is not True:
        raise Damaged("its header cannot be read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata
        try:  # not by Image.open, which has a limit of its own, of 179 megapixels: sizes are looked at in one place
            return open_it(io.BytesIO(content), "")
        except MemoryError:
            raise
        except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error):
            raise Damaged("its header cannot be read") from None
        except Exception as error:
            raise Damaged(reason(error)) from None


def _decode(content: bytes, kind: str) -> Decoded:
    with _opened(content, kind) as image:
        image.load()
        mode = image.mode
        if mode not in _MODES:
            raise Unsupported(f"pictures are grey, RGB or palette, and this one is {mode}: save it as RGB first")
        if mode == "I;16":
            return Decoded(np.repeat(np.array(image).astype(np.uint16)[:, :, None], 3, axis=2), grey=True)
        if "A" in mode or "transparency" in image.info:
            values = np.array(image.convert("RGBA"))
            return Decoded(values[:, :, :3].copy(), values[:, :, 3].copy(), mode in _GREY)
        return Decoded(np.array(image.convert("RGB")), None, mode in _GREY)


def _exif(info: dict[str, Any]) -> bytes | None:
    data = info.get("exif")
    return data.removeprefix(PREFIX) or None if isinstance(data, bytes) else None


def _density(info: dict[str, Any]) -> Density | None:
    try:
        x, y = (Fraction(value).limit_denominator(1000) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return Density(x, y, INCH) if x > 0 and y > 0 else None


def _deeper(bits: int) -> list[str]:
    if bits <= 8:
        return []
    return [f"its {bits} bits a channel are read as 8"]


def _as_it_opens(content: bytes, kind: str) -> tuple[bytes, list[str]]:
    """A file without what is beside its pixels where that keeps it from being opened, and a note."""
    if kind in _REFUSED_FOR:
        try:
            _opened(content, kind).close()
        except Damaged:
            hidden = _hidden(content, kind)
            if hidden != content:
                return hidden, [f"its {_REFUSED_FOR[kind]} cannot be read and are left out"]
    return content, []


def _hidden(content: bytes, kind: str) -> bytes:
    """A file with `free`, a name that readers pass over, in place of the names of what it is refused for."""
    if kind == "AVIF":
        return _EXIF_ITEM.sub(rb"\1free", content)
    header, name_of_pixels, pixels = content.partition(b"jp2c")
    if not name_of_pixels:  # a code stream alone
        return content
    return _ODD_BOX.sub(b"free", header) + name_of_pixels + pixels


def _bits_of_avif(content: bytes) -> int:
    at = content.find(_AVIF_PIXI)
    if at < 0 or at + len(_AVIF_PIXI) + 2 > len(content):
        return 8
    return content[at + len(_AVIF_PIXI) + 1]


def _bits_of_jpeg2000(content: bytes) -> int:
    at = content.find(b"\xff\x4f\xff\x51")  # start of the code stream, and its size segment
    if at < 0 or at + 43 > len(content):
        return 8
    return (content[at + 42] & 0x7F) + 1


def _profile_of_jpeg2000(content: bytes) -> bytes | None:
    """The colour profile in a JP2's header, which Pillow passes over: a box `colr` of method 2."""
    header = content.partition(b"jp2c")[0]
    at = header.find(b"colr\2")
    if at < 4:
        return None
    size = int.from_bytes(header[at - 4 : at], "big")
    return header[at + 7 : at - 4 + size] or None


def _with_cicp(metadata: Metadata, content: bytes) -> Metadata:
    """The colour space that an AVIF names by numbers, as PNG's chunk of the same numbers."""
    at = content.find(_AVIF_NCLX)
    if at < 0 or at + 15 > len(content) or metadata.profile is not None:
        return metadata
    primaries, transfer = struct.unpack_from(">HH", content, at + 8)
    if (primaries, transfer) == _SRGB or 2 in (primaries, transfer) or max(primaries, transfer) > 255:
        return metadata
    chunk = (b"cICP", bytes([primaries, transfer, 0, 1]))  # RGB, full range, as the pixels are by now
    return replace(metadata, chunks=(chunk,))
