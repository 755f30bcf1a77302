"""JPEG, WebP and the formats that are read alone: against Pillow or the values that went in, and their neighbours."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, picture_size, read_picture, write_picture
from irsde_deploy.pictures.formats.kinds import READ_ONLY_SUFFIXES, SUFFIXES

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    content = io.BytesIO()
    (image or Image.fromarray(SMOOTH)).save(content, kind, **options)
    return content.getvalue()


def read(tmp_path: Path, content: bytes, name: str = "p.dat") -> Picture:
    (tmp_path / name).write_bytes(content)
    picture = read_picture(tmp_path / name)
    assert picture_size(tmp_path / name) == picture.rgb.shape[:2]
    return picture


def as_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


# -- JPEG --------------------------------------------------------------------------------------------------------------

APP1_RUBBISH = b"\xff\xe1\x00\x0cExif\0\0xxxx"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_jpegs_of_every_common_kind(tmp_path: Path, options: dict[str, Any]) -> None:
    for image in (Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[:, :, 0])):
        content = saved("JPEG", image, **options)
        expected = as_pillow(content)
        for spoilt in (content, content + b"rubbish" * 100, content[:2] + APP1_RUBBISH + content[2:]):
            picture = read(tmp_path, spoilt)
            np.testing.assert_array_equal(picture.rgb, expected)
            assert picture.grey == (image.mode == "L")


@pytest.mark.parametrize(
    ("extra", "note"),
    [
        (APP1_RUBBISH, "its EXIF data cannot be read"),
        (b"\xff\xe1\x00\x02", ""),
        (b"\xff\xe2\x00\x10ICC_PROFILE\0\1\1", ""),
        (b"\xff\xe2\x00\x11ICC_PROFILE\0\1\1x", "its colour profile cannot be read"),
        (b"\xff\xed\x00\x12Photoshop 3.0\0..", ""),
        (b"\xff\xee\x00\x04xx", ""),
        (b"\xff\xe0\x00\x04xx", ""),
        (b"\xff\xfe\x00\x06text", ""),
        (b"\xff\xff\xff\xfe\x00\x06text", ""),
        (b"rubbish", ""),
    ],
)
def test_no_segment_costs_the_pixels(
    tmp_path: Path, extra: bytes, note: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = saved("JPEG")
    picture = read(tmp_path, content[:20] + extra + content[20:])
    np.testing.assert_array_equal(picture.rgb, as_pillow(content))
    assert note in " ".join(picture.notes)
    assert len(picture.notes) == bool(note)
    assert capfd.readouterr() == ("", "")


JPEG_STREAMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "subsampled": {"subsampling": 2},
    "progressive": {"progressive": True},
    "in intervals": {"restart_marker_blocks": 2},
    "progressive in intervals": {"progressive": True, "restart_marker_rows": 1},
}


def _rgb_or_none(tmp_path: Path, content: bytes) -> np.ndarray | None:
    try:
        return read(tmp_path, content).rgb
    except InputFileError:
        return None


@pytest.mark.parametrize("kind", JPEG_STREAMS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_read_where_its_pixels_are_whole(tmp_path: Path, kind: str, mode: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (27, 43, 3), dtype=np.uint8)
    content = saved("JPEG", Image.fromarray(noise).convert(mode), **JPEG_STREAMS[kind])
    whole = read(tmp_path, content)
    for cut in (2, 1):
        without = read(tmp_path, content[:-cut])
        np.testing.assert_array_equal(without.rgb, whole.rgb)
        assert without.notes == ("its end is missing (no EOI), and its pixels are whole",)
    ends = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7\xda]", content)]  # of intervals and of scans
    ends += [*range(len(content) - 120, len(content) - 3, 7), len(content) - 6]
    found = [_rgb_or_none(tmp_path, content[:end]) for end in ends]
    assert sum(rgb is None for rgb in found) >= 10
    for rgb in found:  # of which nothing is cut off that says anything: an empty interval of a last scan
        assert rgb is None or (rgb == whole.rgb).all()


@pytest.mark.parametrize("options", [{}, {"subsampling": 2, "quality": 30}, {"restart_marker_blocks": 3}])
def test_a_jpeg_that_lacks_the_chroma_of_its_last_blocks_is_not_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)  # three blocks are beyond the edge
    content = saved("JPEG", Image.fromarray(noise), **options)
    whole = read(tmp_path, content)
    for end in range(len(content) - 45, len(content) - 2):
        rgb = _rgb_or_none(tmp_path, content[:end])
        assert rgb is None or (rgb == whole.rgb).all(), len(content) - end


def _exif_of(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    body = data.tobytes()
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def test_of_several_segments_with_exif_the_first_counts(tmp_path: Path) -> None:
    content = saved("JPEG")
    assert read(tmp_path, content[:2] + _exif_of(6) + _exif_of(1) + content[2:]).rgb.shape == (64, 48, 3)


def test_xmp_that_goes_on_elsewhere_is_kept_in_part_with_a_note(tmp_path: Path) -> None:
    content = saved("JPEG", xmp=b"<x/>")
    body = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
    picture = read(tmp_path, content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:])
    assert picture.metadata.xmp == b"<x/>"
    assert picture.notes == ("its XMP data go on in a second part, which is left out",)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_a_jpeg_that_says_nothing_of_its_pixels_shape_has_square_ones(tmp_path: Path, suffix: str) -> None:
    content = saved("JPEG")
    assert content[6:18] == b"JFIF\0\1\1\0\0\1\0\1", "a density of 1:1, of no unit"
    picture = read(tmp_path, content)
    assert picture.metadata.density is None
    assert write_picture(tmp_path / f"out{suffix}", picture) == []


def test_of_several_pictures_in_a_jpeg_the_first_is_read_with_a_note(tmp_path: Path) -> None:
    content = saved("MPO", save_all=True, append_images=[Image.fromarray(255 - SMOOTH)])
    picture = read(tmp_path, content)
    np.testing.assert_array_equal(picture.rgb, as_pillow(content))
    assert picture.notes == ("holds several pictures (MPO): the first is restored alone",)


def _with_frame(marker: int, precision: int = 8, components: int = 3, height: int = 8, width: int = 8) -> bytes:
    parts = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    body = struct.pack(">BHHB", precision, height, width, components) + parts
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + b"\xff\xda\0\x02\xff\xd9"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_with_frame(0xC1, 12), "is a JPEG of 12 bits a channel, and 8 are read"),
        (_with_frame(0xC3), "is a lossless or hierarchical JPEG"),
        (_with_frame(0xC0, components=2), "is a JPEG of 2 channels"),
        (_with_frame(0xC0, height=0), "damaged .its size is 8x0"),
        (_with_frame(0xC0, width=0), "damaged .its size is 0x8"),
        (_with_frame(0xC0), "the picture is damaged"),
        (_with_frame(0xC9), "the picture is damaged"),
        (b"\xff\xd8\xff\xd9", "its header is missing"),
        (saved("JPEG")[:300], "the picture is damaged"),
    ],
)
def test_jpegs_that_are_not_read(tmp_path: Path, content: bytes, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputFileError, match=words):
        read(tmp_path, content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("transform", [0, 2])
def test_four_inks_as_opencv_has_them(tmp_path: Path, transform: int) -> None:
    content = saved("JPEG", Image.fromarray(SMOOTH).convert("CMYK"), quality=95)
    at = content.index(b"Adobe") + 11
    content = content[:at] + bytes([transform]) + content[at + 1 :]  # 2 is YCCK
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    np.testing.assert_array_equal(read(tmp_path, content).rgb, expected)


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".JFIF"])
def test_jpegs_under_other_names_are_written_as_such(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"p{suffix}", Picture(SMOOTH))
    write_picture(tmp_path / "p.jpg", Picture(SMOOTH))
    assert (tmp_path / f"p{suffix}").read_bytes() == (tmp_path / "p.jpg").read_bytes()


# -- WebP and animations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG", "AVIF"])
def test_of_an_animation_the_first_picture_is_read_with_a_note(tmp_path: Path, kind: str) -> None:
    others = [Image.fromarray(255 - SMOOTH), Image.fromarray(SMOOTH[::-1])]
    content = saved(kind, save_all=True, append_images=others)
    picture = read(tmp_path, content)
    np.testing.assert_array_equal(picture.rgb, as_pillow(content))
    (note,) = picture.notes
    assert note.startswith("is animated: its ")


@pytest.mark.parametrize("lossless", [True, False])
def test_a_plain_webp_says_its_size_in_the_head_of_its_pixels(tmp_path: Path, lossless: bool) -> None:
    content = bytearray(saved("WEBP", lossless=lossless))
    assert content[12:16] == (b"VP8L" if lossless else b"VP8 ")
    if not lossless:  # the highest bits say how a player may scale it, and no picture is scaled by them
        content[27] |= 0x40
        content[29] |= 0x80
    np.testing.assert_array_equal(read(tmp_path, bytes(content)).rgb, as_pillow(bytes(content)))


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ICCP", b"JUNK"])
def test_a_webp_cut_off_behind_its_pixels_is_read(tmp_path: Path, kind: bytes) -> None:
    write_picture(tmp_path / "p.webp", Picture(SMOOTH))
    content = (tmp_path / "p.webp").read_bytes()
    size = struct.pack("<HBHB", 63, 0, 47, 0)
    extended = content[:12] + b"VP8X" + struct.pack("<I", 10) + b"\x2c\0\0\0" + size + content[12:]
    picture = read(tmp_path, extended + kind + struct.pack("<I", 1000) + b"cut off")
    np.testing.assert_array_equal(picture.rgb, as_pillow(content))


# -- read alone --------------------------------------------------------------------------------------------------------


WRITTEN_BY_PILLOW = {
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P", "RGB"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "AVIF": ("L", "RGB", "RGBA"),
}


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in WRITTEN_BY_PILLOW.items() for mode in modes]
)
def test_what_pillow_reads(tmp_path: Path, kind: str, mode: str) -> None:
    source = Image.fromarray(SMOOTH).convert(mode)
    if mode == "RGBA":
        source.putalpha(Image.fromarray(SMOOTH[:, :, 1]))
    content = saved(kind, source)
    picture = read(tmp_path, content)
    np.testing.assert_array_equal(picture.rgb, as_pillow(content))
    if mode == "RGBA":
        assert picture.alpha is not None
        assert np.abs(picture.alpha.astype(int) - SMOOTH[:, :, 1]).mean() < 3
    assert picture.notes == ()


def test_sixteen_bit_grey_in_jpeg_2000_keeps_its_depth(tmp_path: Path) -> None:
    values = SMOOTH[:, :, 0].astype(np.uint16) * 256 + 7
    picture = read(tmp_path, saved("JPEG2000", Image.fromarray(values)))
    np.testing.assert_array_equal(picture.rgb, values[:, :, None].repeat(3, 2))
    assert picture.grey
    assert picture.notes == ()


@pytest.mark.parametrize(("suffix", "options", "bits"), [(".jp2", [], 16), (".avif", [cv2.IMWRITE_AVIF_DEPTH, 10], 10)])
def test_of_deeper_colours_it_is_said_that_eight_bits_are_read(
    tmp_path: Path, suffix: str, options: list[int], bits: int
) -> None:
    if not cv2.haveImageWriter(suffix):
        pytest.skip("this build of OpenCV does not write it")
    content = cv2.imencode(suffix, SMOOTH.astype(np.uint16) << (bits - 8), options)[1].tobytes()
    assert read(tmp_path, content).notes == (f"its {bits} bits a channel are read as 8",)


def test_the_transparent_colour_of_a_gif_is_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(SMOOTH).quantize(16)
    content = saved("GIF", image, transparency=3)
    with Image.open(io.BytesIO(content)) as found:
        expected = np.asarray(found.convert("RGBA"))
    assert 0 < (expected[:, :, 3] == 0).mean() < 1
    np.testing.assert_array_equal(read(tmp_path, content).alpha, expected[:, :, 3])


def test_an_avif_may_name_another_brand_first_and_its_colours_by_numbers(tmp_path: Path) -> None:
    content = saved("AVIF")
    plain = read(tmp_path, content)
    assert plain.metadata.chunks == (), "sRGB needs no words"
    assert content[4:12] == b"ftypavif"
    other = content[:8] + b"mif1" + content[12:]
    np.testing.assert_array_equal(read(tmp_path, other).rgb, plain.rgb)
    at = content.index(b"colrnclx") + 8
    wide = content[:at] + struct.pack(">HH", 9, 16) + content[at + 4 :]
    assert read(tmp_path, wide).metadata.chunks == ((b"cICP", bytes([9, 16, 0, 1])),)
    unknown = content[:at] + struct.pack(">HH", 2, 2) + content[at + 4 :]
    assert read(tmp_path, unknown).metadata.chunks == ()


def test_an_avif_is_turned_and_keeps_what_is_beside_it(tmp_path: Path) -> None:
    data = Image.Exif()
    data.update({0x0112: 6, 0x013B: "Somebody"})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = read(tmp_path, saved("AVIF", exif=data, icc_profile=profile, xmp=b"<x/>"))
    assert picture.rgb.shape == (64, 48, 3)
    assert (picture.metadata.profile, picture.metadata.xmp) == (profile, b"<x/>")
    assert (picture.metadata.exif or b"")[:2] in (b"II", b"MM"), "without the word Exif, which is no part of them"
    write_picture(tmp_path / "out.jpg", picture)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif()[0x013B] == "Somebody"


def test_the_resolution_of_a_bitmap_is_kept(tmp_path: Path) -> None:
    density = read(tmp_path, saved("BMP", dpi=(300, 150))).metadata.density
    assert density is not None
    assert (density.unit, round(density.x), round(density.y)) == ("inch", 300, 150)
    assert read(tmp_path, saved("GIF")).metadata.density is None


@pytest.mark.parametrize("white", [1, 3, 100, 255, 256, 1023, 65535])
@pytest.mark.parametrize("number", [2, 3, 5, 6, 7])
def test_portable_maps_of_every_depth(tmp_path: Path, number: int, white: int) -> None:
    for channels in {2: [1], 3: [3], 5: [1], 6: [3], 7: [1, 2, 3, 4]}[number]:
        values = RNG.integers(0, white + 1, (7, 9, channels))
        head = f"P{number}\n# a comment\n9 7\n{white}\n"
        if number == 7:
            head = f"P7\nWIDTH 9\nHEIGHT 7\nDEPTH {channels}\nMAXVAL {white}\nTUPLTYPE X\nENDHDR\n"
        body = values.astype(">u2" if white > 255 else np.uint8).tobytes()
        if number < 5:
            body = " ".join(map(str, values.ravel().tolist())).encode()
        picture = read(tmp_path, head.encode() + body)
        full = 65535 if white > 255 else 255
        expected = np.floor(values / white * full + 0.5)
        colours = expected[:, :, :-1] if channels in (2, 4) else expected
        np.testing.assert_array_equal(picture.rgb, np.broadcast_to(colours, (7, 9, 3)))
        assert picture.grey == (channels < 3)
        if channels in (2, 4):
            np.testing.assert_array_equal(picture.alpha, expected[:, :, -1])


@pytest.mark.parametrize("number", [2, 3])
def test_a_text_map_may_have_comments_among_its_values(tmp_path: Path, number: int) -> None:
    values = RNG.integers(0, 256, (2, 3, {2: 1, 3: 3}[number]))
    rows = [" ".join(map(str, row.ravel().tolist())) for row in values]
    content = f"P{number}\n3 2\n255\n# row 1\n{rows[0]} # and 2:\r\n{rows[1]}\n".encode()
    np.testing.assert_array_equal(read(tmp_path, content).rgb, np.broadcast_to(values, (2, 3, 3)))


def test_portable_bitmaps(tmp_path: Path) -> None:
    bits = RNG.integers(0, 2, (7, 11))
    packed = b"P4 11 7\n" + np.packbits(bits, axis=1).tobytes()
    text = b"P1\n11 7\n" + b"\n".join("".join(map(str, row)).encode() for row in bits.tolist())
    for content in (packed, text):
        np.testing.assert_array_equal(read(tmp_path, content).rgb[:, :, 2], 255 * (1 - bits))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P6 9 7 255\n" + bytes(100), "its pixels end early"),
        (b"P6 9 7 70000\n", "values that are none of a picture"),
        (b"P6 9 0 255\n", "values that are none of a picture"),
        (b"P6 nine 7", "not three numbers"),
        (b"P5 2 1 100\n\x64\xc8", "values above its white, 100"),
        (b"P2 2 1 9\n1 x", "not whole numbers"),
        (b"P6 99999999 99999999 255\n", "more than the limit of 100 megapixels"),
        (b"P7\nWIDTH 9\n", "its header has no end"),
        (b"P7\nWIDTH 9\nENDHDR\n", "its header has no HEIGHT"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture, which is not read: save it as PNG, TIFF or JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix", "is a HEIC picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "not a PNG, JPEG, WebP"),
        (b"8BPS\0\1", "is a Photoshop file, which is not read"),
        (b"Pf\n3 3\n-1\n", "is a PFM picture"),
        (b"v/1\1\2\0\0\0", "is an OpenEXR picture"),
        (b"#?RADIANCE\n", "is a Radiance HDR picture"),
        (b"\xff\x0a\xfa\x1f", "is a JPEG XL picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is a JPEG XL picture"),
        (b"<svg xmlns=''>", "is an SVG drawing"),
        (b"FUJIFILMCCD-RAW ", "is a camera's raw file"),
        (b"%PDF-1.4 ...", "is a PDF file"),
        (b"BM" + bytes(60), "the picture is damaged"),
        (b"GIF89a\0\0\0\0", "the picture is damaged"),
        (b"\0\0\0\x20ftypavif" + bytes(30), "damaged .its header cannot be read"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(30), "the picture is damaged"),
        (b"\0" * 64, "not a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PNM or JPEG 2000 picture"),
    ],
)
def test_what_is_not_read_gets_one_true_sentence(
    tmp_path: Path, content: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputFileError, match=words):
        read(tmp_path, content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [12_000, 2**31 - 1])
def test_a_bitmap_that_is_too_large_is_told_our_limit(tmp_path: Path, side: int) -> None:
    content = bytearray(saved("BMP"))
    struct.pack_into("<ii", content, 18, side, side)
    with pytest.raises(InputFileError, match=f"{side}x{side} pixels are more than the limit of 100 megapixels"):
        read(tmp_path, bytes(content))


@pytest.mark.parametrize("opaque", [True, False])
def test_an_animated_webp_has_alpha_where_something_shines_through(tmp_path: Path, opaque: bool) -> None:
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1])]
    if not opaque:
        frames[0].putalpha(Image.fromarray(SMOOTH[:, :, 0]))
    whole = read(tmp_path, saved("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True, exact=True))
    assert (whole.alpha is None) == opaque
    if whole.alpha is not None:
        np.testing.assert_array_equal(whole.alpha, SMOOTH[:, :, 0])
    shown = np.full(SMOOTH.shape[:2], True) if whole.alpha is None else whole.alpha > 0
    np.testing.assert_array_equal(whole.rgb[shown], SMOOTH[shown])


def test_every_suffix_is_small_and_named_once() -> None:
    assert len({*SUFFIXES, *READ_ONLY_SUFFIXES}) == len(SUFFIXES) + len(READ_ONLY_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in (*SUFFIXES, *READ_ONLY_SUFFIXES))
