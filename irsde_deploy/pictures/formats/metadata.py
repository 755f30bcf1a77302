"""What travels beside the pixels: colour profile, EXIF, XMP, resolution, PNG's words on colour and text.

Metadata never cost pixels: what cannot be read is left out, and a sentence says so.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from fractions import Fraction

from ...errors import reason
from . import exif

INCH = "inch"
CENTIMETRE = "cm"
ASPECT = ""


@dataclass(frozen=True)
class Density:
    """Pixels a unit of length.

    Attributes:
        x, y: across and down.
        unit: `INCH`, `CENTIMETRE`, or `ASPECT` where only their ratio counts.
    """

    x: Fraction
    y: Fraction
    unit: str

    def per(self, unit: str) -> tuple[int, int]:
        """Both in whole numbers, the nearest, in its own unit or, of inches, in centimetres."""
        by = Fraction(100, 254) if (self.unit, unit) == (INCH, CENTIMETRE) else Fraction(1)
        return round(self.x * by), round(self.y * by)


@dataclass(frozen=True)
class Metadata:
    """What a file has beside its pixels; None where it has not.

    Attributes:
        profile: ICC profile.
        exif: EXIF data, a small TIFF file: byte order, first directory and so on.
        xmp: XMP packet.
        density: resolution.
        chunks: PNG chunks about colour, and of text, (type, body), as they are.
        iptc: whether there are IPTC data, which are not kept.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    density: Density | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    iptc: bool = False

    def has_chunk(self, *kinds: bytes) -> bool:
        """Whether there is a chunk of one of these types."""
        return any(kind in kinds for kind, _ in self.chunks)


NO_METADATA = Metadata()


@dataclass(frozen=True)
class Settled:
    """Metadata that can be written, and what came of the rest.

    Attributes:
        metadata: of the upright picture.
        orientation: that its pixels need, 1..8.
        notes: what was left out, in sentences.
    """

    metadata: Metadata
    orientation: int
    notes: tuple[str, ...]


def settle(metadata: Metadata, grey: bool, orientation: int | None) -> Settled:
    """Check metadata, and make them those of the upright picture.

    Args:
        metadata: as a file has them.
        grey: whether the picture has no colours, which decides what a colour profile may be about.
        orientation: where the file says it elsewhere than in its EXIF data.
    """
    notes = []
    if metadata.exif is not None:
        try:
            orientation = orientation or exif.orientation(metadata.exif)
            exif.upright(metadata.exif, turned=True)  # which touches all that is read or changed below
        except (ValueError, struct.error, IndexError, TypeError) as error:
            notes.append(f"its EXIF data cannot be read and are left out ({reason(error)})")
            metadata = replace(metadata, exif=None)
    if metadata.xmp is not None and not _is_utf8(metadata.xmp):
        notes.append("its XMP data cannot be read and are left out (they are not UTF-8)")
        metadata = replace(metadata, xmp=None)
    orientation = orientation or _orientation_of_xmp(metadata.xmp) or 1
    if orientation not in range(1, 9):
        orientation = 1
    if metadata.profile is not None and (wrong := _fault(metadata.profile, grey)):
        notes.append(f"its colour profile {wrong} and is left out")
        metadata = replace(metadata, profile=None)
    if metadata.iptc:
        notes.append("its IPTC data are left out")
    return Settled(_upright(metadata, orientation), orientation, tuple(notes))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def stored_orientation(metadata: Metadata, orientation: int | None) -> int:
    """The orientation alone, 1..8, as `settle` finds it."""
    return settle(replace(metadata, profile=None), False, orientation).orientation


def _upright(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata of a picture that is turned upright: nothing may turn it again."""
    turned = orientation >= 5
    if metadata.exif is not None:
        metadata = replace(metadata, exif=exif.upright(metadata.exif, turned))
    if metadata.xmp is not None:
        metadata = replace(metadata, xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp))
    density = metadata.density
    if density is not None and turned:
        metadata = replace(metadata, density=Density(density.y, density.x, density.unit))
    return metadata


_XMP_ORIENTATION = re.compile(rb"(\btiff:Orientation(?:=[\"']|>))[2-8]\b")


def _orientation_of_xmp(xmp: bytes | None) -> int | None:
    match = _XMP_ORIENTATION.search(xmp or b"")
    return None if match is None else int(match[0][-1:])


_COLOUR_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK"}


def _fault(profile: bytes, grey: bool) -> str | None:
    """What is wrong with an ICC profile, as the end of a sentence; None: nothing."""
    # The head of an ICC profile: 128 bytes, its size first, the colour space at 16, "acsp" at 36; then a table of tags.
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return "cannot be read (it has no valid header)"
    size, tags = struct.unpack_from(">I", profile, 0)[0], struct.unpack_from(">I", profile, 128)[0]
    if size != len(profile) or tags > (size - 132) // 12:
        return "cannot be read (it is not as long as it says)"
    for tag in range(tags):
        begin, length = struct.unpack_from(">II", profile, 132 + 12 * tag + 4)
        if begin + length > size:
            return "cannot be read (it is not as long as it says)"
    space = profile[16:20]
    if space != (b"GRAY" if grey else b"RGB "):
        about = _COLOUR_SPACES.get(space, "other")
        return f"is for {about} colours"
    return None
