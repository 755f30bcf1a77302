"""Pictures: every format that is read, and whole pictures whose metadata are not."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import cv2
import numpy as np
from PIL import Image, ImageOps
from tiff_writer import write_tiff

from irsde_deploy.pictures.files import SUFFIXES, read_picture, write_picture

from .. import damage
from ..formats import tiff
from ..formats.blobs import exif, icc, xmp
from ..formats.chunks import JPEG, PNG, RIFF
from ..trees import Node
from .kind import Kind, Wrong, good_files, require

Spoil = Callable[[Random, bytes], bytes]

_SPOIL: dict[str, Spoil] = {
    ".png": PNG.spoil,
    ".jpg": JPEG.spoil,
    ".webp": RIFF.spoil,
    ".tif": tiff.spoil,
}
"""Suffix -> what spoils the parts of such a file."""

MODES = {"RGB": "rgb", "RGBA": "rgba", "L": "l", "LA": "la", "P": "p", "1": "bit", "CMYK": "cmyk", "I;16": "16"}


def _image(mode: str) -> Image.Image:
    """A small picture of a mode of Pillow's."""
    rng = np.random.default_rng(len(mode))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (11, 14)).astype(np.uint16))
    smooth = cv2.resize(rng.integers(0, 256, (3, 4, 4), dtype=np.uint8), (19, 13), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(smooth, "RGBA") if mode in ("RGBA", "LA") else Image.fromarray(smooth[:, :, :3])
    return image.convert(mode)


def _make(folder: Path) -> None:
    profile, orientation = icc(Random(1)), Image.Exif()
    orientation[0x0112] = 6
    for mode, name in MODES.items():
        image = _image(mode)
        if mode not in ("CMYK",):
            image.save(folder / f"{name}.png")
        if mode in ("RGB", "L", "CMYK"):
            image.save(folder / f"{name}.jpg", quality=90)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            image.save(folder / f"{name}_{compression}.tif", compression=None if compression == "raw" else compression)
    rgb = _image("RGB")
    rgb.save(folder / "tagged.png", icc_profile=profile, exif=orientation)
    rgb.save(folder / "tagged.jpg", icc_profile=profile, exif=orientation, progressive=True)
    rgb.save(folder / "tagged.webp", icc_profile=profile, exif=orientation, lossless=True)
    rgb.save(folder / "tagged.tif", icc_profile=profile)
    rgb.save(folder / "jpeg.tif", compression="jpeg")
    rgb.convert("YCbCr").save(folder / "ycbcr.tif")
    rgb.save(folder / "plain.webp", quality=80)
    _image("RGBA").save(folder / "rgba.webp", quality=80)
    rgb.save(folder / "moving.webp", save_all=True, append_images=[_image("RGBA")])
    rgb.save(folder / "moving.png", save_all=True, append_images=[rgb.rotate(180)])
    rng = np.random.default_rng(0)
    for channels in (1, 3, 4):
        pixels = rng.integers(0, 65536, (9, 12, channels)).astype(np.uint16)
        for suffix in (".png", ".tif"):
            cv2.imwrite(str(folder / f"deep{channels}{suffix}"), pixels)
    Image.fromarray(rng.random((5, 6), dtype=np.float32)).save(folder / "float.tif")
    _make_layouts(folder)
    for suffix, options in _OTHERS.items():
        with suppress(OSError, KeyError, ValueError):  # formats that this Pillow does not write
            rgb.save(folder / f"other{suffix}", **options)
    for suffix in (".gif", ".avif"):
        with suppress(OSError, KeyError, ValueError):
            rgb.save(folder / f"moving{suffix}", save_all=True, append_images=[rgb.rotate(180)])


_OTHERS: dict[str, dict[str, object]] = {
    ".bmp": {},
    ".gif": {},
    ".avif": {},
    ".jfif": {"format": "JPEG"},
    ".jp2": {},
    ".ppm": {},
    ".pgm": {},
}
"""Suffixes of formats that are read and not written, with what Pillow is told."""


def _make_layouts(folder: Path) -> None:
    """TIFF in planes, strips, tiles, other depths and orders of bytes, and BigTIFF."""
    rng = np.random.default_rng(2)
    layouts: tuple[tuple[str, int, int, dict[str, object]], ...] = (
        ("planes", 8, 3, {"planar": True, "rows_per_strip": 4}),
        ("tiles", 16, 3, {"tile": 16, "compression": 5}),
        ("big", 8, 3, {"big": True, "rows_per_strip": 7}),
        ("motorola", 12, 3, {"order": ">", "rows_per_strip": 5}),
        ("white", 16, 1, {"rows_per_strip": 6}),
        ("alpha", 16, 4, {"tags": {338: ("H", [1])}, "compression": 8}),
        ("bits", 4, 1, {"big": True, "order": ">", "tile": 16}),
        ("packed", 8, 3, {"compression": 32773, "planar": True, "tile": 16}),
    )
    for name, bits, channels, more in layouts:
        photometric = 2 if channels > 1 else int(name != "white")
        values = rng.integers(0, 2**bits, (19, 37, channels), dtype=np.int64)
        write_tiff(folder / f"{name}.tif", values, bits, photometric, **more)  # type: ignore[arg-type]


def damaged_bytes(rng: Random, path: Path, spoil: Spoil | None, others: tuple[Path, ...]) -> bytes:
    """A file's bytes, damaged: part by part where something knows its parts, byte by byte, or both."""
    data = path.read_bytes()
    kind = rng.randrange(10)
    if spoil is not None and kind < 6:
        try:
            data = spoil(rng, data)
        except (ValueError, IndexError, KeyError, struct.error):
            return damage.spoil(rng, data)
        return damage.spoil(rng, data) if kind == 0 else data
    if kind == 9:
        return damage.splice(rng, data, rng.choice(others).read_bytes())
    return damage.spoil(rng, data)


def _damage(rng: Random, good: Path, target: Path) -> Path:
    files = good_files(good)
    path = rng.choice(files)
    data = damaged_bytes(rng, path, _SPOIL.get(path.suffix), files)
    suffix = path.suffix if rng.random() < 0.95 else rng.choice(SUFFIXES)
    made = target / f"picture{suffix}"
    made.write_bytes(data)
    return made


def _read(path: Path, outputs: Path) -> None:
    """Read it, compare it with Pillow where that can be, and write it in every format."""
    picture = read_picture(path)
    require(picture.rgb.dtype in (np.uint8, np.uint16), f"pixels of {picture.rgb.dtype}")
    require(picture.rgb.ndim == 3 and picture.rgb.shape[2] == 3, f"pixels of shape {picture.rgb.shape}")
    if picture.alpha is not None:
        require(picture.alpha.shape == picture.rgb.shape[:2], "alpha of another size")
        require(picture.alpha.dtype == picture.rgb.dtype, "alpha of another type")
    _compare(path, picture.rgb)
    if picture.rgb.size > 3_000_000:
        return
    for suffix in (".png", ".jpg", ".webp", ".tiff"):
        write_picture(outputs / f"out{suffix}", picture)
    again = read_picture(outputs / "out.png")
    require(np.array_equal(again.rgb, picture.rgb) or picture.grey, "PNG gives other pixels back")


def second_opinion(path: Path) -> np.ndarray | None:
    """The picture as Pillow decodes it, (H, W, 3) uint8, upright; None where it has no say."""
    with _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG", "WEBP", "TIFF")) as image:
                if image.mode not in ("RGB", "RGBA", "L", "P", "1", "LA") or image.width * image.height > 1_000_000:
                    return None
                if image.format in ("TIFF", "JPEG") and image.mode != "RGB":
                    return None
                image.load()
                upright = image
                try:
                    upright = ImageOps.exif_transpose(image)
                except Exception:
                    return None
                return np.asarray(upright.convert("RGBA"))[:, :, :3]
        except Exception:
            return None


@contextmanager
def _silence() -> Iterator[None]:
    """What Pillow's libraries print when they are asked for a second opinion is not ours."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _opencvs(path: Path) -> np.ndarray | None:
    """The picture as OpenCV decodes it, (H, W, 3) uint8, upright; None where it does not."""
    with _silence():
        try:
            bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            return None
    return None if bgr is None else bgr[:, :, ::-1]


def _compare(path: Path, rgb: np.ndarray) -> None:
    """Raise Wrong where Pillow and OpenCV see the same pixels, and we see others."""
    pillows = second_opinion(path)
    if pillows is None or rgb.dtype != np.uint8:
        return
    lossless = path.read_bytes()[:2] in (b"\x89P", b"II", b"MM")
    limit = 0 if lossless else 8
    if _apart(pillows, rgb) <= limit:
        return
    opencvs = _opencvs(path)
    if opencvs is not None and _apart(pillows, opencvs) <= limit:
        shapes = f"{rgb.shape[1]}x{rgb.shape[0]} and {pillows.shape[1]}x{pillows.shape[0]}"
        raise Wrong(f"Pillow and OpenCV see other pixels: {_apart(pillows, rgb):.2f} apart ({shapes})")


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures; infinite where they have not the same size."""
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one.astype(int) - other).mean())


# -- whole pictures with metadata that are not ------------------------------------------------------------------------


def _plain(folder: Path) -> None:
    rgb = _image("RGB")
    rgb.save(folder / "a.png")
    _image("L").save(folder / "grey.png")
    rgb.save(folder / "b.jpg", quality=95)
    rgb.save(folder / "c.webp", lossless=True)
    rgb.save(folder / "d.tif")
    cv2.imwrite(str(folder / "deep.png"), np.arange(9 * 7 * 3, dtype=np.uint16).reshape(9, 7, 3) * 300)


def _with_metadata(rng: Random, path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".png":
        nodes = PNG.parse(data)
        nodes[1:1] = [_png_metadata(rng) for _ in range(rng.randrange(1, 4))]
        return PNG.join(nodes)
    if path.suffix == ".jpg":
        nodes = JPEG.parse(data)
        nodes[2:2] = [_jpeg_metadata(rng) for _ in range(rng.randrange(1, 4))]
        return JPEG.join(nodes)
    if path.suffix == ".webp":
        return _webp_metadata(rng, data)
    return _tiff_metadata(rng, data)


def _png_metadata(rng: Random) -> Node:
    packed = zlib.compress(icc(rng))
    chunks = (
        (b"eXIf", exif(rng)),
        (b"iCCP", rng.choice((b"icc", b"x" * 79)) + b"\0\0" + packed),
        (b"iCCP", b"icc\0\0" + damage.spoil(rng, packed)),
        (b"tEXt", b"Comment\0" + rng.choice(damage.MAGIC)),
        (b"tEXt", rng.randbytes(30)),
        (b"zTXt", b"Comment\0\0" + zlib.compress(xmp(rng))),
        (b"zTXt", b"Comment\0\0" + rng.randbytes(20)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(rng)),
        (b"pHYs", rng.randbytes(9)),
        (b"tIME", rng.randbytes(7)),
        (b"prVt", rng.randbytes(40)),
    )
    return Node(*rng.choice(chunks))


def _jpeg_metadata(rng: Random) -> Node:
    segments = (
        (b"\xe1", b"Exif\0\0" + exif(rng)),
        (b"\xe1", b"http://ns.adobe.com/xap/1.0/\0" + xmp(rng)),
        (b"\xe2", b"ICC_PROFILE\0" + bytes(rng.choice(((1, 1), (1, 2), (2, 1), (0, 0), (9, 9)))) + icc(rng)),
        (b"\xe2", b"MPF\0" + exif(rng)),
        (b"\xed", b"Photoshop 3.0\x008BIM" + rng.randbytes(20)),
        (b"\xe5", rng.randbytes(30)),
        (b"\xfe", rng.choice(damage.MAGIC)),
    )
    tag, data = rng.choice(segments)
    return Node(tag, data[:65_000])


def _webp_metadata(rng: Random, data: bytes) -> bytes:
    nodes = RIFF.parse(data)
    chunks = nodes[0].children
    assert chunks is not None
    bits = {b"ICCP": 32, b"EXIF": 8, b"XMP ": 4}
    add = {
        tag: make(rng)
        for tag, make in ((b"ICCP", icc), (b"EXIF", exif), (b"XMP ", xmp))
        if rng.random() < 0.6 or tag == b"EXIF"
    }
    flags = sum(bits[tag] for tag in add)
    body = [node for node in chunks if node.tag in (b"VP8L", b"VP8 ")]
    size = (18).to_bytes(3, "little") + (12).to_bytes(3, "little")  # the sides less one
    head = [Node(b"VP8X", bytes([flags, 0, 0, 0]) + size)]
    profile = [Node(b"ICCP", add.pop(b"ICCP"))] if b"ICCP" in add else []
    nodes[0].children = [*head, *profile, *body, *(Node(tag, blob) for tag, blob in add.items())]
    return RIFF.join(nodes)


def _tiff_metadata(rng: Random, data: bytes) -> bytes:
    """A tag more in the first directory: a profile or such, of any type, inside the file."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [data[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(count)]
    blob = rng.choice((icc(rng), xmp(rng), exif(rng))) or b"x"
    blob = blob[: len(blob) // 8 * 8] or bytes(8)
    tag = rng.choice((34675, 34675, 700, 33723, 34377, 315, 305, 50000))
    kind, size = rng.choice(((1, 1), (7, 1), (2, 1), (3, 2), (4, 4), (5, 8), (11, 4), (12, 8)))
    body = data + bytes(len(data) % 2)
    entries.append(struct.pack("<HHII", tag, kind, max(1, len(blob) // size), len(body)))
    entries.sort(key=lambda entry: entry[:2][::-1])
    table = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    where = len(body) + len(blob)
    return body[:4] + struct.pack("<I", where) + body[8:] + blob + table


def _damage_metadata(rng: Random, good: Path, target: Path) -> Path:
    path = rng.choice(good_files(good))
    made = target / path.name
    made.write_bytes(_with_metadata(rng, path))
    (target / f"good_{path.name}").write_bytes(path.read_bytes())
    return made


def _read_metadata(path: Path, outputs: Path) -> None:
    """Metadata never cost the picture: its pixels are those of the same file without them."""
    good = read_picture(path.with_name(f"good_{path.name}"))
    try:
        picture = read_picture(path)
    except Exception as error:
        raise Wrong(f"refused for its metadata: {error}") from error
    same = np.array_equal(np.sort(picture.rgb, axis=None), np.sort(good.rgb, axis=None))  # it may be turned
    require(same, "metadata change pixels")
    for suffix in (".png", ".jpg", ".webp", ".tiff"):
        try:
            write_picture(outputs / f"out{suffix}", picture)
        except Exception as error:
            raise Wrong(f"cannot be written as {suffix} for its metadata: {error}") from error
        read_picture(outputs / f"out{suffix}")


PICTURES = Kind("pictures", _make, _damage, _read, most_mib=1500, weight=2)
METADATA = Kind("metadata", _plain, _damage_metadata, _read_metadata, weight=1)
