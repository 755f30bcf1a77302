"""TIFF: directories, layouts and colours read here, every layout decoded right or refused by its name.

Libraries do nothing but undo the compression of a strip or tile, as bytes (`tiff_segments`).
"""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from PIL.ExifTags import TAGS
from PIL.ExifTags import Base as Tag

from . import exif
from .metadata import ASPECT, CENTIMETRE, INCH, Density, Metadata
from .scan import Damaged, Decoded, Pixels, Scan, Unsupported
from .scan_data import Data
from .tiff_directories import (
    BYTE,
    SHORT,
    UNDEFINED,
    Directory,
    Field,
    Head,
    read_directory,
    read_head,
    write_directory,
)
from .tiff_segments import Layout, Segments, read_samples

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_OTHER_COLOURS = {4: "a transparency mask", 5: "CMYK", 8: "LAB", 9: "LAB", 10: "LAB", 32803: "raw sensor data (CFA)"}
_OTHER_COLOURS |= {32844: "LogL", 32845: "LogLuv", 34892: "raw sensor data"}
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _YCBCR: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2
# What EXIF data take over from a TIFF file's first directory: words and dates, and makers.
_DESCRIPTIVE = (
    *(Tag.DocumentName, Tag.ImageDescription, Tag.Make, Tag.Model, Tag.PageName, Tag.Software, Tag.DateTime),
    *(Tag.Artist, Tag.HostComputer, Tag.Copyright),
    *(Tag.XPTitle, Tag.XPComment, Tag.XPAuthor, Tag.XPKeywords, Tag.XPSubject),
)
_TAGS_OF_EXIF = ((33434, 33437), range(34850, 34870), range(36864, 37523), range(40960, 42241))
_KEPT_CHILDREN = (Tag.ExifOffset, Tag.GPSInfo)
_METADATA_TAGS = {
    Tag.InterColorProfile: "colour profile's data",
    Tag.XMLPacket: "XMP data",
    Tag.ExifOffset: "EXIF data",
    Tag.GPSInfo: "GPS data",
}


def scan(data: Data) -> Scan:
    """What a TIFF file says of itself."""
    head = read_head(data)
    page = read_directory(data, head, head.first)
    width, height = page.value(Tag.ImageWidth, 0), page.value(Tag.ImageLength, 0)
    if width <= 0 or height <= 0:
        raise Damaged("it does not say how large the picture is")
    notes = []
    pages = _count_pages(data, head, page)
    if pages > 1:
        notes.append(f"holds {pages} pages: the first is restored alone")
    for tag, words in _METADATA_TAGS.items():
        if tag in page.unread:
            notes.append(f"its {words} cannot be read and are left out")
    misplaced = [TAGS.get(tag, str(tag)) for tag in page.fields if any(tag in tags for tags in _TAGS_OF_EXIF)]
    if misplaced:
        shown = ", ".join(misplaced[:4]) + (" and others" if len(misplaced) > 4 else "")
        notes.append(f"has tags outside of its EXIF data that belong there ({shown}): they are left out")
    orientation = page.value(Tag.Orientation, 1)
    return Scan(width, height, partial(_decode, data, head, page), _metadata(page), orientation, tuple(notes))


def _count_pages(data: Data, head: Head, page: Directory) -> int:
    """How many pages of full size there are."""
    seen = {head.first}
    count = 1
    while page.next and page.next not in seen and len(seen) < 10_000:
        seen.add(page.next)
        try:
            page = read_directory(data, head, page.next)
        except (ValueError, struct.error):
            break
        count += not page.value(Tag.NewSubfileType, 0) & 0b101  # neither reduced nor a mask
    return count


def _decode(data: Data, head: Head, page: Directory) -> Decoded:
    bits, photometric, extras = _kind(page)
    layout = Layout.of(page, bits, _COLOURS[photometric] + len(extras), photometric == _YCBCR, head.order)
    samples = read_samples(Segments.of(data, page, layout), layout)
    colours = samples[:, :, : _COLOURS[photometric]]
    alpha, notes, associated = _alpha(samples, photometric, extras)
    white = 2**bits - 1
    if photometric == _WHITE_IS_ZERO:
        colours = white - colours
    if photometric == _PALETTE:
        colours = _mapped(colours[:, :, 0], page.values(Tag.ColorMap), bits)
        if alpha is not None and associated:
            colours = _straight(colours, alpha, by=white, most=255)
    elif alpha is not None and associated:
        colours = _straight(colours, alpha, by=_full(bits), most=_full(bits))
    else:
        colours = _widened(colours, bits)
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    if alpha is not None:
        alpha = _widened(alpha, bits)
        if alpha.dtype != colours.dtype:  # a palette's colours have eight bits
            alpha = (alpha // 257).astype(colours.dtype)
    grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return Decoded(np.ascontiguousarray(colours), alpha, grey, notes)


def _kind(page: Directory) -> tuple[int, int, list[int]]:
    """(bits a channel, photometric interpretation, extra channels); raises Unsupported for what is not read."""
    photometric = page.value(Tag.PhotometricInterpretation, -1)
    if photometric < 0:
        raise Damaged("it does not say what its channels mean (PhotometricInterpretation)")
    if photometric not in _COLOURS:
        colours = _OTHER_COLOURS.get(photometric, f"of colours number {photometric}")
        raise Unsupported(f"pictures are grey, RGB or palette, and this one is {colours}: save it as RGB first")
    samples = page.value(Tag.SamplesPerPixel, 1)
    bits = set(page.values(Tag.BitsPerSample, [1]))
    formats = {value for value in page.values(Tag.SampleFormat, [1]) if value != 4}  # 4 is "undefined": whole numbers
    kind = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}.get(max(formats, default=1), "")
    depth = max(bits, default=0)
    if kind or depth not in range(1, 17):
        raise Unsupported(
            f"pictures have 8 or 16 bits a channel, and this one is {depth}-bit {kind or 'whole'} numbers: "
            "scale it to 16 bits first"
        )
    if len(bits) != 1:
        raise Unsupported(
            f"its channels have different depths ({', '.join(map(str, sorted(bits)))} bits): expected one"
        )
    return depth, photometric, _extras(page, samples, _COLOURS[photometric])


def _extras(page: Directory, samples: int, colours: int) -> list[int]:
    """What the channels behind the colours are: TIFF's numbers, 1 and 2 for alpha."""
    surplus = samples - colours
    declared = page.values(Tag.ExtraSamples)
    if surplus < 0 or samples > 1024:
        raise Damaged(f"it has {samples} channels, and its colours need {colours}")
    if surplus > 1 and not declared and colours == 1:
        raise Unsupported(
            f"has {samples} channels and does not say which are colours: expected grey or RGB, with alpha"
        )
    if surplus == 1 and not declared:
        return [_UNASSOCIATED]  # as some write it, who say nothing
    return [*declared, *[0] * surplus][:surplus]


def _alpha(samples: Pixels, photometric: int, extras: list[int]) -> tuple[Pixels | None, tuple[str, ...], bool]:
    """(the first alpha channel, notes on the other channels, whether the colours are multiplied by it)."""
    kinds = [kind for kind in extras if kind in (_ASSOCIATED, _UNASSOCIATED)]
    alpha = None
    if kinds:
        alpha = samples[:, :, _COLOURS[photometric] + extras.index(kinds[0])]
    surplus = len(extras) - bool(kinds)
    notes = []
    if surplus:
        notes.append(f"{surplus} of its {samples.shape[2]} channels are neither colours nor alpha and are left out")
    return alpha, tuple(notes), bool(kinds) and kinds[0] == _ASSOCIATED


def _full(bits: int) -> int:
    """White where so many bits are read as 8, or as 16 where there are more than 8."""
    return 255 if bits <= 8 else 65_535


def _widened(values: Pixels, bits: int) -> Pixels:
    """Values of so many bits on the scale of 8 bits, or of 16 where there are more than 8."""
    full, white = _full(bits), 2**bits - 1
    if full == white:
        return np.ascontiguousarray(values)
    scaled: Any = (values.astype(np.uint32) * full + white // 2) // white
    return np.asarray(scaled.astype(np.uint8 if bits <= 8 else np.uint16))


def _mapped(places: Pixels, colour_map: list[int], bits: int) -> Pixels:
    """The colours of a palette, 8 bits: three columns of 16 bits, or, from some writers, of 8."""
    if len(colour_map) != 3 * 2**bits:
        raise Damaged("its palette is missing")
    colours = np.array(colour_map, np.uint16).reshape(3, -1).T
    if colours.max() > 255:
        colours >>= 8
    return np.asarray(colours.astype(np.uint8)[places])


def _straight(colours: Pixels, alpha: Pixels, by: int, most: int) -> Pixels:
    """Colours that were multiplied by alpha, divided by it: the nearest; black where it is 0, as libtiff has it.

    Args:
        colours: (H, W, n), as they are stored, so that nothing is rounded twice.
        alpha: (H, W), as it is stored.
        by: times the quotient.
        most: white.
    """
    straight = np.empty_like(colours)
    for row, part in enumerate(alpha.astype(np.uint64)):  # row by row: 64 bits a value are many for a picture at once
        part = part[:, None]
        divided = (colours[row].astype(np.uint64) * np.uint64(by) + part // 2) // np.maximum(part, 1)
        straight[row] = np.where(part == 0, 0, np.minimum(divided, most))
    return straight


# -- metadata ----------------------------------------------------------------------------------------------------------


def _metadata(page: Directory) -> Metadata:
    profile, xmp = page.raw(Tag.InterColorProfile), page.raw(Tag.XMLPacket)
    about: dict[int, Field] = {tag: page.fields[tag] for tag in _DESCRIPTIVE if tag in page.fields}
    children: dict[int, Directory] = {tag: page.children[tag] for tag in _KEPT_CHILDREN if tag in page.children}
    data = exif.made(Directory(about, children)) if about or children else None
    return Metadata(profile, data, xmp, _density(page), iptc=Tag.IPTCNAA in page.fields)


def _density(page: Directory) -> Density | None:
    x, y = page.values(Tag.XResolution), page.values(Tag.YResolution)
    if not (x and y and isinstance(x[0], Fraction) and isinstance(y[0], Fraction)) or x[0] <= 0 or y[0] <= 0:
        return None
    unit = {2: INCH, 3: CENTIMETRE}.get(page.value(Tag.ResolutionUnit, 2), ASPECT)
    if unit == ASPECT and x[0] == y[0]:
        return None
    return Density(x[0], y[0], unit)


def with_metadata(content: bytes, metadata: Metadata, alpha: bool) -> bytes:
    """A little-endian TIFF file with metadata, and the kind of its alpha, put into its directory."""
    added: dict[int, Field] = {}
    children: dict[int, Directory] = {}
    if alpha:
        added[Tag.ExtraSamples] = Field(SHORT, struct.pack("<H", _UNASSOCIATED))
    if metadata.exif is not None:
        directory = exif.read(metadata.exif)[1]
        added |= {tag: directory.fields[tag] for tag in _DESCRIPTIVE if tag in directory.fields}
        children = {tag: directory.children[tag] for tag in _KEPT_CHILDREN if tag in directory.children}
    if metadata.profile is not None:
        added[Tag.InterColorProfile] = Field(UNDEFINED, metadata.profile)
    if metadata.xmp is not None:
        added[Tag.XMLPacket] = Field(BYTE, metadata.xmp)
    if metadata.density is not None:
        unit = {INCH: 2, CENTIMETRE: 3}.get(metadata.density.unit, 1)
        added |= exif.resolution_fields(metadata.density.x, metadata.density.y, unit)
    if not added and not children:
        return content
    head = read_head(content)
    page = read_directory(content, head, head.first)
    page.fields |= added
    page.children |= children
    content += b"\0" * (len(content) % 2)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + write_directory(page, len(content))
