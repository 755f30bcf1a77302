"""Picture files to RGB arrays and back, 8 and 16 bit.

What a file says of itself, and its pixels, come from `formats`. Grey pictures become RGB for the network and grey
again (luma) when written; alpha travels beside the colours, untouched; the orientation is applied to the pixels. Colour
profile, EXIF, XMP and resolution are carried over; what cannot be read or kept is left out and named, and never costs
the pixels. OpenCV encodes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputFileError, IrsdeError, OutputFileError, is_out_of_memory, reason
from ..system.files import require_readable, require_writable, write_atomically
from .formats.kinds import JPEG_SUFFIXES, READ_ONLY_SUFFIXES, SUFFIXES, scan
from .formats.metadata import NO_METADATA, Metadata, settle, stored_orientation
from .formats.metadata_writing import unkept, with_metadata
from .formats.scan import Damaged, Scan, Unsupported
from .formats.scan_data import Data

MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
LOSSY_QUALITY = 95  # of JPEG and WebP, on their scale of 1..100

# What formats do not hold, or OpenCV does not write to them.
_EIGHT_BIT_ONLY = (*JPEG_SUFFIXES, ".webp")
_LONGEST_SIDE = {".webp": 16_383, **dict.fromkeys(JPEG_SUFFIXES, 65_500)}
_NO_ALPHA = JPEG_SUFFIXES

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # errors are raised; nothing else belongs on stderr

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same type, if the file has one.
        grey: whether the file was grey; rgb then has three equal channels.
        metadata: what travels with it; the colour profile is of grey values where the file was grey.
        notes: what was left out on reading, in sentences without the file's name.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    metadata: Metadata = NO_METADATA
    notes: tuple[str, ...] = ()

    def with_rgb(self, rgb: Pixels) -> Picture:
        """The same picture with other colours."""
        return replace(self, rgb=rgb)


def is_picture_file(path: Path) -> bool:
    """Whether a path is a file, not hidden, with the suffix of a picture that can be read."""
    return path.suffix.lower() in (*SUFFIXES, *READ_ONLY_SUFFIXES) and path.is_file() and not path.name.startswith(".")


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file; its format is that of its content.

    Raises:
        InputFileError: no such file, no picture of a format that is read, damaged, too large, or of a kind that is not
            read, such as CMYK or floating point; the sentence says which.
    """
    with _content(path) as data, _errors_naming(path):
        found = scan(data)
        _require_size(path, found, max_pixels)
        decoded = found.decode()
    settled = settle(found.metadata, decoded.grey, found.orientation)
    rgb, alpha = _oriented(decoded.rgb, settled.orientation), decoded.alpha
    if alpha is not None:
        alpha = _oriented(alpha, settled.orientation)
    notes = (*found.notes, *decoded.notes, *settled.notes)
    return Picture(rgb, alpha, decoded.grey, settled.metadata, notes)


def picture_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The (height, width) at which a picture is shown, from what the file says of itself; raises as `read_picture`."""
    with _content(path) as data, _errors_naming(path):
        found = scan(data)
        _require_size(path, found, max_pixels)
        turned = stored_orientation(found.metadata, found.orientation) >= 5
    if turned:
        return found.width, found.height
    return found.height, found.width


@contextmanager
def _content(path: Path) -> Iterator[Data]:
    """A file's content, of which nothing is read before it is looked at."""
    require_readable(path)
    size = path.stat().st_size / 1e9
    limit = MAX_BYTES / 1e9
    if size > limit:
        raise InputFileError(f"{path}: {size:.1f} GB is more than any picture: the limit is {limit:g} GB")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except IrsdeError:
        raise
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from None


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turn whatever reading a file's content raises into a sentence about it."""
    try:
        yield
    except (IrsdeError, MemoryError):
        raise
    except Unsupported as error:
        raise InputFileError(f"{path}: {error}") from None
    except Exception as error:  # damaged files raise anything from OSError to struct.error
        if is_out_of_memory(error) and not isinstance(error, Damaged):
            raise MemoryError from None  # as OpenCV says it
        words = str(error) if isinstance(error, Damaged) else reason(error)
        raise InputFileError(f"{path}: the picture is damaged ({words})") from None


def _require_size(path: Path, found: Scan, max_pixels: int) -> None:
    if found.width < 1 or found.height < 1:
        raise Damaged(f"its size is {found.width}x{found.height}")
    if found.width * found.height > max_pixels:
        raise InputFileError(
            f"{path}: {found.width}x{found.height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels: "
            "scale or cut it first"
        )


def write_picture(path: Path, picture: Picture) -> list[str]:
    """Write a picture; the suffix chooses the format, and the file appears complete or not at all.

    Returns:
        What the file cannot hold of the picture, in words, as `losses` has them.

    Raises:
        OutputFileError: an unknown suffix, or the file cannot be written.
    """
    _require_format(path, picture)
    suffix = path.suffix.lower()
    pixels = _joined(picture, keep_alpha=suffix not in _NO_ALPHA)
    if suffix in _EIGHT_BIT_ONLY and pixels.dtype == np.uint16:
        pixels = to_eight_bit(pixels)
    data, lost = with_metadata(_encode(path, pixels), suffix, _fitting(picture, suffix), pixels.shape)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return _losses_but_of_metadata(picture, suffix) + lost


def to_eight_bit(pixels: Pixels) -> Pixels:
    """Pixels of uint8 or uint16 as uint8, rounded."""
    if pixels.dtype == np.uint8:
        return pixels
    # 65535 / 255 = 257; a wider type, since adding half of that can go beyond 16 bits.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def require_target(path: Path, picture: Picture) -> None:
    """Raise OutputFileError where a picture of this size cannot be written to path; makes its folder."""
    _require_format(path, picture)
    require_writable(path)


def _require_format(path: Path, picture: Picture) -> None:
    """Raise OutputFileError unless the path's suffix is a format that holds pictures of this size."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputFileError(
            f"{path}: pictures are written as {', '.join(SUFFIXES)}, not {path.suffix or 'no suffix'!r}"
        )
    side = max(picture.rgb.shape[:2])
    limit = _LONGEST_SIDE.get(suffix)
    if limit is not None and side > limit:
        raise OutputFileError(f"{path}: {suffix} holds sides of up to {limit} pixels, not {side}: use .png or .tiff")


def losses(picture: Picture, path: Path) -> list[str]:
    """What a picture loses in the format of path, for a warning."""
    suffix = path.suffix.lower()
    return _losses_but_of_metadata(picture, suffix) + unkept(_fitting(picture, suffix), suffix)


def _losses_but_of_metadata(picture: Picture, suffix: str) -> list[str]:
    lost = []
    if picture.alpha is not None and suffix in _NO_ALPHA:
        lost.append("its alpha channel")
    if picture.rgb.dtype == np.uint16 and suffix in _EIGHT_BIT_ONLY:
        lost.append("its 16-bit precision")
    if _fitting(picture, suffix) != picture.metadata:
        lost.append("its colour profile of grey values")
    return lost


def _fitting(picture: Picture, suffix: str) -> Metadata:
    """The metadata, without a grey profile where the file is not written grey."""
    written_grey = picture.grey and suffix != ".webp" and (picture.alpha is None or suffix in _NO_ALPHA)
    if picture.grey and not written_grey:
        return replace(picture.metadata, profile=None)
    return picture.metadata


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation, 1..8, to (H, W, ...)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _joined(picture: Picture, keep_alpha: bool) -> Pixels:
    """RGB and alpha -> grey, BGR or BGRA, as OpenCV writes them."""
    bgr = np.ascontiguousarray(picture.rgb[:, :, ::-1])
    alpha = picture.alpha if keep_alpha else None
    if picture.grey:
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        if alpha is None:
            return grey
        bgr = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)  # OpenCV writes no grey with alpha
    if alpha is None:
        return bgr
    return np.dstack([bgr, alpha])


_JPEG = [cv2.IMWRITE_JPEG_QUALITY, LOSSY_QUALITY]
_ENCODING = {".webp": [cv2.IMWRITE_WEBP_QUALITY, LOSSY_QUALITY], ".jpg": _JPEG}
"""Suffix -> what OpenCV's encoder is told, parameter and value in turn."""


def _encode(path: Path, pixels: Pixels) -> bytes:
    """The content of a picture file without metadata, in the format of the path's suffix."""
    suffix = path.suffix.lower()
    if suffix in JPEG_SUFFIXES:
        suffix = ".jpg"
    try:
        done, data = cv2.imencode(suffix, pixels, _ENCODING.get(suffix, []))
    except cv2.error as error:
        raise OutputFileError(f"{path}: a picture of {pixels.shape} cannot be encoded ({error.err})") from None
    if not done:
        raise OutputFileError(f"{path}: a picture of {pixels.shape} cannot be encoded")
    return data.tobytes()
