"""Picture files: PNG, JPEG, WebP and TIFF, 8 and 16 bit, to RGB arrays and back.

Pillow reads the header (size before anything is decoded, orientation, colour profile) and refuses damaged files;
OpenCV decodes and encodes the pixels, since it keeps 16 bits a channel. Grey pictures become RGB for the network and
grey again (luma) when written; alpha travels beside the colours, untouched; the EXIF orientation is applied to the
pixels. An RGB colour profile is carried over to PNG, JPEG and WebP. Other metadata is not.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..errors import InputFileError, OutputFileError, reason
from ..system.files import require_readable, require_writable, write_atomically

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
LOSSY_QUALITY = 95  # of JPEG and WebP, on their scale of 1..100

# What formats do not hold, or OpenCV does not write to them.
_EIGHT_BIT_ONLY = (".jpg", ".jpeg", ".webp")
_LONGEST_SIDE = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
_NO_ALPHA = (".jpg", ".jpeg")
_NO_PROFILE = (".tif", ".tiff")

# Modes of Pillow: those that are grey, those whose profile is about RGB, and all whose pixels OpenCV reads as we do.
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
_PROFILED_MODES = ("RGB", "RGBA", "P", "PA")
_MODES = (*_GREY_MODES, *_PROFILED_MODES, "RGBa", "CMYK", "YCbCr")
ORIENTATION_TAG = 0x0112  # of EXIF

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # errors are raised; nothing else belongs on stderr

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same type, if the file has one.
        grey: whether the file was grey; rgb then has three equal channels.
        profile: ICC profile of the RGB values, if the file has one.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    profile: bytes | None = None

    def with_rgb(self, rgb: Pixels) -> Picture:
        """The same picture with other colours."""
        return replace(self, rgb=rgb)


def is_picture_file(path: Path) -> bool:
    """Whether a path is a file, not hidden, with a picture's suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file.

    Raises:
        InputFileError: no such file, no PNG, JPEG, WebP or TIFF, damaged, too large, or neither 8 nor 16 bit.
    """
    data = _read_bytes(path)
    header = _read_header(path, data, max_pixels)
    rgb, alpha = _split(_decoded(path, data))
    if header.straight is not None and rgb.dtype == np.uint8:
        rgb = header.straight
    alpha = _alpha(alpha, header, rgb.dtype)
    rgb = _oriented(rgb, header.orientation)
    if alpha is not None:
        alpha = _oriented(alpha, header.orientation)
    return Picture(rgb, alpha, header.grey, header.profile)


def _decoded(path: Path, data: bytes) -> Pixels:
    """The pixels as OpenCV decodes them: grey, BGR or BGRA, uint8 or uint16."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputFileError(f"{path}: cannot be decoded ({reason(error)})") from None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):  # None is OpenCV's way to say that it cannot
        found = "unreadable" if pixels is None else str(pixels.dtype)
        raise InputFileError(f"{path}: pictures have 8 or 16 bits a channel, and this one is {found}")
    return pixels


def _alpha(decoded: Pixels | None, header: _Header, dtype: np.dtype[Any]) -> Pixels | None:
    """The alpha channel in the type of the colours: as OpenCV has decoded it, or, where it has not, Pillow's."""
    if header.alpha is None:  # OpenCV adds one to pictures of some formats
        return None
    if decoded is not None:
        return decoded
    alpha = header.alpha.astype(dtype)
    if dtype == np.uint16:
        alpha *= 257  # 255 becomes 65535
    return alpha


def _read_bytes(path: Path) -> bytes:
    require_readable(path)
    size = path.stat().st_size / 1e9
    limit = MAX_BYTES / 1e9
    if size > limit:
        raise InputFileError(f"{path}: {size:.1f} GB is more than any picture: the limit is {limit:g} GB")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from None


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture; the suffix chooses the format, and the file appears complete or not at all.

    Raises:
        OutputFileError: an unknown suffix, or the file cannot be written.
    """
    _require_format(path, picture)
    suffix = path.suffix.lower()
    pixels = _joined(picture, keep_alpha=suffix not in _NO_ALPHA)
    if suffix in _EIGHT_BIT_ONLY and pixels.dtype == np.uint16:
        pixels = to_eight_bit(pixels)
    profile = picture.profile
    if suffix in _NO_PROFILE or picture.grey:  # a grey file is written grey, and the profile is about RGB
        profile = None
    data = _encode(path, pixels, profile)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


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
    lost = []
    if picture.alpha is not None and suffix in _NO_ALPHA:
        lost.append("its alpha channel")
    if picture.rgb.dtype == np.uint16 and suffix in _EIGHT_BIT_ONLY:
        lost.append("its 16-bit precision")
    return lost


@dataclass(frozen=True)
class _Header:
    """What Pillow knows of a file; arrays are as the file has them, before the orientation is applied.

    Attributes:
        orientation: of EXIF, 1..8; 1 where the file says nothing.
        grey: whether the file has no colours.
        profile: ICC profile of the RGB values, if there is one.
        alpha: (H, W) uint8, if the file has transparency of any kind.
        straight: (H, W, 3) uint8, the colours of an 8-bit TIFF with alpha, which OpenCV would multiply by it.
    """

    orientation: int
    grey: bool
    profile: bytes | None
    alpha: Pixels | None
    straight: Pixels | None


def _read_header(path: Path, data: bytes, max_pixels: int) -> _Header:
    """Refuse what is no picture, too large or damaged, before OpenCV sees it; and keep what only Pillow tells."""
    too_large = f"more than the limit of {max_pixels / 1e6:g} megapixels: scale or cut it first"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning about size, and about odd metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise InputFileError(f"{path}: {width}x{height} pixels are {too_large}")
                _require_mode(path, image)
                image.load()  # OpenCV decodes a damaged file as far as it goes, and says nothing
                return _header_of(image)
    except (InputFileError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise InputFileError(f"{path}: its size is {too_large}") from None
    except UnidentifiedImageError:
        raise InputFileError(f"{path}: not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture") from None
    except Exception as error:  # damaged files raise anything from OSError to struct.error
        raise InputFileError(f"{path}: the picture is damaged ({reason(error)})") from None


def _require_mode(path: Path, image: Image.Image) -> None:
    """Raise InputFileError unless the colours are of a kind that OpenCV turns into RGB."""
    if image.mode not in _MODES or (image.mode == "CMYK" and image.format != "JPEG"):
        raise InputFileError(f"{path}: pictures are grey, RGB or palette, and this one is {image.mode}")


def _header_of(image: Image.Image) -> _Header:
    alpha = straight = profile = None
    if "A" in image.getbands() or "transparency" in image.info:  # the latter of palettes, and of one colour in PNG
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[:, :, 3]
        if image.format == "TIFF":
            straight = rgba[:, :, :3]
    if image.mode in _PROFILED_MODES:
        profile = image.info.get("icc_profile") or None
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    return _Header(orientation, image.mode in _GREY_MODES, profile, alpha, straight)


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation, 1..8, to (H, W, ...); anything else counts as upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _split(pixels: Pixels) -> tuple[Pixels, Pixels | None]:
    """Grey, BGR or BGRA -> RGB and alpha."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2), None
    rgb = np.ascontiguousarray(pixels[:, :, 2::-1])
    if pixels.shape[2] == 3:
        return rgb, None
    return rgb, np.ascontiguousarray(pixels[:, :, 3])


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
_ENCODING = {".webp": [cv2.IMWRITE_WEBP_QUALITY, LOSSY_QUALITY], ".jpg": _JPEG, ".jpeg": _JPEG}
"""Suffix -> what OpenCV's encoder is told, parameter and value in turn."""


def _encode(path: Path, pixels: Pixels, profile: bytes | None) -> bytes:
    """The content of a picture file, in the format of the path's suffix."""
    suffix = path.suffix.lower()
    parameters = _ENCODING.get(suffix, [])
    try:
        if profile is None:
            done, data = cv2.imencode(suffix, pixels, parameters)
        else:
            metadata = [np.frombuffer(profile, np.uint8)]
            done, data = cv2.imencodeWithMetadata(suffix, pixels, [cv2.IMAGE_METADATA_ICCP], metadata, parameters)
    except cv2.error as error:
        raise OutputFileError(f"{path}: a picture of {pixels.shape} cannot be encoded ({error.err})") from None
    if not done:
        raise OutputFileError(f"{path}: a picture of {pixels.shape} cannot be encoded")
    return data.tobytes()
