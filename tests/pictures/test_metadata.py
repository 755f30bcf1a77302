"""What travels beside the pixels, from every format to every other, read back by Pillow; and what is lost."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from png_writer import chunk, png_bytes
from tiff_writer import write_tiff

from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, losses, picture_size, read_picture, write_picture
from irsde_deploy.pictures.formats.exif import orientation, upright
from irsde_deploy.pictures.formats.metadata import Metadata
from irsde_deploy.pictures.formats.tiff_directories import read_directory, read_head

RNG = np.random.default_rng(4)
RGB = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
SMOOTH = cv2.resize(RGB[:3, :4], (24, 16), interpolation=cv2.INTER_CUBIC)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" author="somebody"/></x:xmpmeta>'
ARTIST, ORIENTATION, EXIF, GPS, DATE, WIDTH, HEIGHT = 0x013B, 0x0112, 0x8769, 0x8825, 0x9003, 0xA002, 0xA003
SRGB_PRIMARIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
INPUTS = (".png", ".jpg", ".webp", ".tif")
OUTPUTS = (".png", ".jpg", ".jfif", ".webp", ".tif")


@cache
def profile_of(size: int, space: bytes = b"RGB ") -> bytes:
    """A profile of so many bytes: sRGB's, filled up."""
    filled = SRGB + RNG.bytes(size - len(SRGB))
    return struct.pack(">I", size) + filled[4:16] + space + filled[20:]


def opened(path: Path) -> Image.Image:
    """The second implementation."""
    return Image.open(io.BytesIO(path.read_bytes()))


def exif() -> Image.Exif:
    data = Image.Exif()
    data[ARTIST] = "Somebody"
    data[ORIENTATION] = 6
    data.get_ifd(EXIF).update({DATE: "2024:01:02 03:04:05", WIDTH: 24, HEIGHT: 16})
    data.get_ifd(GPS).update({1: "N", 2: (1.0, 2.0, 3.5)})
    return data


def rich(suffix: str) -> bytes:
    """A turned picture with all that the format can have beside it."""
    content = io.BytesIO()
    kind = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}[suffix]
    data = exif()
    beside: dict[str, object] = {"exif": data, "icc_profile": SRGB, "dpi": (300, 150)}
    if suffix == ".tif":
        data[700] = XMP
    elif suffix != ".png":
        beside["xmp"] = XMP
    Image.fromarray(RGB).save(content, kind, **beside)  # type: ignore[arg-type]
    found = content.getvalue()
    if suffix == ".png":
        found = found[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + found[33:]
    return found


@pytest.mark.parametrize("target", OUTPUTS)
@pytest.mark.parametrize("source", INPUTS)
def test_metadata_travel_from_every_format_to_every_other(tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / f"in{source}").write_bytes(rich(source))
    picture = read_picture(tmp_path / f"in{source}")
    assert picture.notes == ()
    assert picture.rgb.shape == (24, 16, 3), "it is turned upright"
    assert picture_size(tmp_path / f"in{source}") == (24, 16)
    assert write_picture(tmp_path / f"out{target}", picture) == losses(picture, Path(f"p{target}")) == []
    with opened(tmp_path / f"out{target}") as image:
        assert image.size == (16, 24)
        assert image.info["icc_profile"] == SRGB
        found = image.getexif()
        assert found[ARTIST] == "Somebody"
        assert found.get(ORIENTATION, 1) == 1
        if source != ".tif":  # in which Pillow writes no directories below the first
            assert found.get_ifd(EXIF)[DATE] == "2024:01:02 03:04:05"
            assert [float(part) for part in found.get_ifd(GPS)[2]] == [1.0, 2.0, 3.5]
            assert (found.get_ifd(EXIF)[WIDTH], found.get_ifd(EXIF)[HEIGHT]) == (16, 24)
        if target != ".webp" and source != ".webp":
            assert tuple(round(float(value)) for value in image.info["dpi"]) == (150, 300), "turned as well"
        xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
        assert xmp.strip(b"\0") == XMP.replace(b'Orientation="6"', b'Orientation="1"')
        image.load()


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("form", [b'="%d"', b"='%d'", b">%d<"])
def test_an_orientation_in_xmp_turns_where_exif_says_none(tmp_path: Path, orientation: int, form: bytes) -> None:
    packet = b"<x tiff:Orientation" + form % orientation + b"/>"
    said, another = Image.Exif(), Image.Exif()
    said[ARTIST], another[ORIENTATION] = "Somebody", 2
    turned = {3: RGB[::-1, ::-1], 6: np.rot90(RGB, -1)}[orientation]
    for data, expected in ((said, turned), (another, RGB[:, ::-1])):
        before = chunk(b"eXIf", data.tobytes().removeprefix(b"Exif\0\0"))
        before += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
        picture = read_picture(tmp_path / "in.png")
        np.testing.assert_array_equal(picture.rgb, expected)
        assert picture_size(tmp_path / "in.png") == expected.shape[:2]
        assert picture.metadata.xmp == b"<x tiff:Orientation" + form % 1 + b"/>"


@pytest.mark.parametrize("target", OUTPUTS)
def test_the_resolution_inside_of_exif_is_turned_as_well(tmp_path: Path, target: str) -> None:
    data = Image.Exif()
    data.update({ORIENTATION: 6, 0x011A: 300.0, 0x011B: 150.0, 0x0128: 2})
    Image.fromarray(RGB).save(tmp_path / "in.jpg", exif=data, dpi=(300, 150))
    write_picture(tmp_path / f"out{target}", read_picture(tmp_path / "in.jpg"))
    found = opened(tmp_path / f"out{target}").getexif()
    assert (round(found[0x011A]), round(found[0x011B])) == (150, 300)


def test_of_two_equal_tags_the_first_counts() -> None:
    entries = struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0) + struct.pack("<HHIHH", ORIENTATION, 3, 1, 1, 0)
    assert orientation(b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)) == 6


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_fields_of_two_types_are_not_exchanged(order: bytes) -> None:
    """Two bytes of a width and four of a height: each would overwrite what is behind it."""
    code = {b"II": "<", b"MM": ">"}[order]
    head = order + struct.pack(code + "HI", 42, 8)
    first = struct.pack(code + "HHHIHHHHIII", 2, ORIENTATION, 3, 1, 6, 0, EXIF, 4, 1, 38, 0)
    below = struct.pack(code + "HHHIHHHHIII", 2, WIDTH, 3, 1, 24, 0, HEIGHT, 4, 1, 16, 0)
    found = upright(head + first + below, turned=True)
    assert found == head + first.replace(struct.pack(code + "HH", 6, 0), struct.pack(code + "HH", 1, 0)) + below
    same = below.replace(struct.pack(code + "HHIHH", WIDTH, 3, 1, 24, 0), struct.pack(code + "HHII", WIDTH, 4, 1, 24))
    exchanged = upright(head + first + same, turned=True)[38:]
    assert [struct.unpack_from(code + "I", exchanged, at)[0] for at in (10, 22)] == [16, 24]


@pytest.mark.parametrize("keyword", [b"exif", b"APP1"])
def test_exif_and_xmp_in_compressed_text_are_found(tmp_path: Path, keyword: bytes) -> None:
    data = exif().tobytes()
    digits = data.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    raw = b"\n%s\n%8d\n%s\n" % (keyword, len(data), lines)
    before = chunk(b"zTXt", b"Raw profile type " + keyword + b"\0\0" + zlib.compress(raw))
    before += chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    picture = read_picture(tmp_path / "in.png")
    assert picture.rgb.shape == (24, 16, 3), "it is turned upright"
    assert b"Somebody" in (picture.metadata.exif or b"")
    assert picture.metadata.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')


@pytest.mark.parametrize("target", OUTPUTS)
def test_the_camera_s_data_come_out_of_tiff_again(tmp_path: Path, target: str) -> None:
    (tmp_path / "in.jpg").write_bytes(rich(".jpg"))
    write_picture(tmp_path / "between.tif", read_picture(tmp_path / "in.jpg"))
    write_picture(tmp_path / f"out{target}", read_picture(tmp_path / "between.tif"))
    found = opened(tmp_path / f"out{target}").getexif()
    assert found.get_ifd(EXIF)[DATE] == "2024:01:02 03:04:05"
    assert [float(part) for part in found.get_ifd(GPS)[2]] == [1.0, 2.0, 3.5]


@pytest.mark.parametrize("size", [5_000, 65_518, 65_519, 65_520, 200_000, 900_000])
@pytest.mark.parametrize("suffix", OUTPUTS)
def test_profiles_of_any_length_are_kept(tmp_path: Path, size: int, suffix: str) -> None:
    profile = profile_of(size)
    assert write_picture(tmp_path / f"p{suffix}", Picture(RGB, metadata=Metadata(profile=profile))) == []
    assert opened(tmp_path / f"p{suffix}").info["icc_profile"] == profile
    assert read_picture(tmp_path / f"p{suffix}").metadata.profile == profile
    if suffix == ".jpg":
        pieces = (tmp_path / "p.jpg").read_bytes().split(b"ICC_PROFILE\0")[1:]
        assert [tuple(piece[:2]) for piece in pieces] == [(k + 1, len(pieces)) for k in range(len(pieces))]


def test_of_two_profiles_in_a_png_the_first_counts(tmp_path: Path) -> None:
    before = b"".join(chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)) for profile in (SRGB, profile_of(4000)))
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    assert read_picture(tmp_path / "in.png").metadata.profile == SRGB


def test_pieces_of_a_profile_are_put_together_by_their_numbers(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.jpg", Picture(RGB, metadata=Metadata(profile=profile_of(100_000))))
    content = (tmp_path / "p.jpg").read_bytes()
    one, two = (content.index(b"ICC_PROFILE\0" + bytes([number, 2])) - 4 for number in (1, 2))
    end = two + 2 + struct.unpack_from(">H", content, two + 2)[0]
    (tmp_path / "p.jpg").write_bytes(content[:one] + content[two:end] + content[one:two] + content[end:])
    assert read_picture(tmp_path / "p.jpg").metadata.profile == profile_of(100_000)


def test_a_profile_that_no_jpeg_can_hold_is_left_out_with_a_word(tmp_path: Path) -> None:
    picture = Picture(RGB, metadata=Metadata(profile=profile_of(255 * 65_519 + 1)))
    assert losses(picture, Path("p.jpg")) == ["its colour profile, which is too long"]
    assert write_picture(tmp_path / "p.jpg", picture) == ["its colour profile, which is too long"]
    assert read_picture(tmp_path / "p.jpg").metadata.profile is None


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (b"no profile", "cannot be read (it has no valid header)"),
        (profile_of(4000)[:-1], "cannot be read (it is not as long as it says)"),
        (profile_of(4000)[:128] + b"\xff\xff\xff\xff" + profile_of(4000)[132:], "cannot be read (it is not as long"),
        (profile_of(4000)[:136] + struct.pack(">II", 3999, 2) + profile_of(4000)[144:], "cannot be read (it is not as"),
        (profile_of(4000, b"CMYK"), "is for CMYK colours"),
        (profile_of(4000, b"GRAY"), "is for grey colours"),
    ],
)
@pytest.mark.parametrize("suffix", INPUTS)
def test_a_profile_that_cannot_be_used_is_left_out_with_a_note(
    tmp_path: Path, suffix: str, profile: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(RGB).save(tmp_path / f"in{suffix}", icc_profile=profile)
    picture = read_picture(tmp_path / f"in{suffix}")
    assert picture.metadata.profile is None
    (note,) = picture.notes
    assert note.startswith(f"its colour profile {words}")
    for target in OUTPUTS:
        assert write_picture(tmp_path / f"out{target}", picture) == []
        assert "icc_profile" not in opened(tmp_path / f"out{target}").info
    assert capfd.readouterr() == ("", "")


def test_a_grey_profile_stays_where_the_file_is_grey(tmp_path: Path) -> None:
    profile = profile_of(4000, b"GRAY")
    for suffix in (".png", ".jpg", ".tif"):
        Image.fromarray(RGB[:, :, 0]).save(tmp_path / f"in{suffix}", icc_profile=profile)
        picture = read_picture(tmp_path / f"in{suffix}")
        for target in (".png", ".jpg", ".tif"):
            assert write_picture(tmp_path / f"out{target}", picture) == []
            with opened(tmp_path / f"out{target}") as image:
                assert (image.mode, image.info["icc_profile"]) == ("L", profile)
        assert write_picture(tmp_path / "out.webp", picture) == ["its colour profile of grey values"]
        assert "icc_profile" not in opened(tmp_path / "out.webp").info


COLOUR = {
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", 31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600),
    b"cICP": bytes([9, 16, 0, 1]),
    b"mDCV": bytes(range(24)),
    b"cLLI": bytes(range(8)),
}


@pytest.mark.parametrize("kind", [*COLOUR, b"sRGB"])
def test_pngs_words_on_colour_stay_in_png_and_are_missed_elsewhere(tmp_path: Path, kind: bytes) -> None:
    body = COLOUR.get(kind, b"\0")
    before = chunk(kind, body) + (chunk(b"cICP", COLOUR[b"cICP"]) if kind in (b"mDCV", b"cLLI") else b"")
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    picture = read_picture(tmp_path / "in.png")
    assert write_picture(tmp_path / "out.png", picture) == []
    content = (tmp_path / "out.png").read_bytes()
    assert chunk(kind, body) in content[: content.index(b"IDAT")]
    for suffix in (".jpg", ".webp", ".tif"):
        lost = write_picture(tmp_path / f"out{suffix}", picture)
        if kind == b"sRGB":  # which every picture is that says nothing
            assert lost == []
        else:
            assert kind.decode() in lost[0]


@pytest.mark.parametrize(
    ("gamma", "primaries", "is_srgb"),
    [
        (45_455, None, True),
        (45_455 + 60, SRGB_PRIMARIES, True),
        (None, SRGB_PRIMARIES, True),
        (45_455 - 61, SRGB_PRIMARIES, False),
        (100_000, SRGB_PRIMARIES, False),
        (45_455, (*SRGB_PRIMARIES[:7], SRGB_PRIMARIES[7] + 61), False),
    ],
)
def test_srgb_in_pngs_older_words_is_missed_nowhere(
    tmp_path: Path, gamma: int | None, primaries: tuple[int, ...] | None, is_srgb: bool
) -> None:
    before = b"" if gamma is None else chunk(b"gAMA", struct.pack(">I", gamma))
    before += b"" if primaries is None else chunk(b"cHRM", struct.pack(">8I", *primaries))
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    picture = read_picture(tmp_path / "in.png")
    names = ", ".join(kind.decode() for kind, _ in picture.metadata.chunks)
    expected = [] if is_srgb else [f"its description of colour ({names})"]
    with_profile = replace(picture, metadata=replace(picture.metadata, profile=SRGB))
    for suffix in (".jpg", ".webp", ".tif"):
        assert write_picture(tmp_path / f"out{suffix}", picture) == expected
        assert losses(with_profile, Path(f"p{suffix}")) == [], "the profile says it better"


def test_png_has_a_profile_or_the_word_srgb(tmp_path: Path) -> None:
    metadata = Metadata(profile=SRGB, chunks=((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45_455))))
    write_picture(tmp_path / "p.png", Picture(RGB, metadata=metadata))
    content = (tmp_path / "p.png").read_bytes()
    assert [kind for kind in (b"iCCP", b"gAMA", b"sRGB") if kind in content] == [b"iCCP", b"gAMA"]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("length", [79, 80])
def test_keywords_of_text_have_up_to_79_letters(tmp_path: Path, kind: bytes, length: int) -> None:
    text = {b"tEXt": b"text", b"zTXt": b"\0" + zlib.compress(b"text"), b"iTXt": b"\0\0en\0k\0text"}[kind]
    body = b"k" * length + b"\0" + text
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=chunk(kind, body)))
    assert read_picture(tmp_path / "in.png").metadata.chunks == (((kind, body),) if length == 79 else ())


def test_text_of_png_stays_in_png(tmp_path: Path) -> None:
    text = chunk(b"tEXt", b"Title\0A picture")
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=text))
    picture = read_picture(tmp_path / "in.png")
    assert write_picture(tmp_path / "out.png", picture) == []
    assert opened(tmp_path / "out.png").info["Title"] == "A picture"
    assert write_picture(tmp_path / "out.tif", picture) == ["its text"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", INPUTS)
def test_exif_turns_a_picture_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    Image.fromarray(SMOOTH).save(
        tmp_path / f"in{suffix}", exif=data, **({"lossless": True} if suffix == ".webp" else {})
    )
    picture = read_picture(tmp_path / f"in{suffix}")
    for target in OUTPUTS:
        write_picture(tmp_path / f"out{target}", picture)
        again = read_picture(tmp_path / f"out{target}")
        assert again.rgb.shape == picture.rgb.shape
        assert np.abs(again.rgb.astype(int) - picture.rgb).mean() < 8, "JPEG's share; turned once more it were 30"
        assert opened(tmp_path / f"out{target}").getexif().get(ORIENTATION, 1) == 1


def test_a_thumbnail_of_the_picture_as_it_was_does_not_travel(tmp_path: Path) -> None:
    ifd1 = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 100, 0x0202, 4, 1, 50, 0)
    data = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, ORIENTATION, 3, 1, 1, 0, 26) + ifd1 + bytes(200)
    Image.fromarray(RGB).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + data)
    write_picture(tmp_path / "out.jpg", read_picture(tmp_path / "in.jpg"))
    written = (tmp_path / "out.jpg").read_bytes().partition(b"Exif\0\0")[2]
    assert written[:22] == data[:22]
    assert written[22:26] == bytes(4), "there is no second directory any more"


def test_exif_that_is_too_long_for_jpeg_is_left_out_with_a_word(tmp_path: Path) -> None:
    data = Image.Exif()
    data[ARTIST] = "x" * 70_000
    Image.fromarray(RGB).save(tmp_path / "in.png", exif=data)
    picture = read_picture(tmp_path / "in.png")
    assert write_picture(tmp_path / "out.jpg", picture) == ["its EXIF data, which are too long"]
    assert write_picture(tmp_path / "out.tif", picture) == []
    assert opened(tmp_path / "out.tif").getexif()[ARTIST] == "x" * 70_000


@pytest.mark.parametrize("surplus", [0, 1])
def test_exif_and_xmp_of_the_longest_length_are_kept_in_a_jpeg(tmp_path: Path, surplus: int) -> None:
    first = struct.pack("<HHHIIIH", 1, 0x010E, 2, 60_000, 26, 0, 0)
    data = (b"II*\0\x08\0\0\0" + first + b"x" * 65_527)[: 65_533 - 6 + surplus]
    packet = b"<" + b"x" * (65_533 - 29 - 1 + surplus)
    picture = Picture(RGB, metadata=Metadata(exif=data, xmp=packet))
    lost = ["its EXIF data, which are too long", "its XMP data, which are too long"] * surplus
    assert write_picture(tmp_path / "p.jpg", picture) == losses(picture, Path("p.jpg")) == lost
    found = read_picture(tmp_path / "p.jpg").metadata
    assert (found.exif, found.xmp) == ((None, None) if surplus else (data, packet))


def test_directories_are_written_as_tiff_wants_them(tmp_path: Path) -> None:
    """Tags rising, as TIFF asks for; values at even places, whatever their lengths."""
    metadata = Metadata(exif=exif().tobytes().removeprefix(b"Exif\0\0"), profile=profile_of(4001), xmp=b"<x/>odd" * 3)
    write_picture(tmp_path / "p.tif", Picture(RGB, alpha=RGB[:, :, 0], metadata=metadata))
    content = (tmp_path / "p.tif").read_bytes()
    head = read_head(content)
    page = read_directory(content, head, head.first)
    (count,) = struct.unpack_from("<H", content, head.first)
    tags = [struct.unpack_from("<H", content, head.first + 2 + 12 * k)[0] for k in range(count)]
    assert tags == sorted(tags)
    assert {tag: field.at for tag, field in page.fields.items() if len(field.raw) > 4 and field.at % 2} == {}
    assert (page.raw(34675), page.raw(700)) == (profile_of(4001), metadata.xmp)


def test_exif_that_libavif_refuses_costs_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "in.avif"
    Image.fromarray(RGB).save(path, exif=exif())
    whole, content = read_picture(path), path.read_bytes()
    assert b"Somebody" in (whole.metadata.exif or b"")
    begin = max(content.rfind(b"II*\0"), content.rfind(b"MM\0*"))
    for garbage in (b"XXXX", bytes(20)):
        path.write_bytes(content[:begin] + garbage + content[begin + len(garbage) :])
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.rgb, whole.rgb)
        assert picture.notes == ("its EXIF data cannot be read and are left out",)
        assert b"Somebody" not in (picture.metadata.exif or b"")  # Pillow makes some, of the orientation alone
    path.write_bytes(path.read_bytes()[: len(content) // 2])
    with pytest.raises(InputFileError, match="the picture is damaged"):
        read_picture(path)


def jp2_with_colours(path: Path, box: bytes) -> None:
    """Write a JPEG 2000 with another box in the place of the one that says its colours."""
    Image.fromarray(RGB).save(path, irreversible=False)
    content = path.read_bytes()
    header, colours = content.index(b"jp2h") - 4, content.index(b"colr") - 4
    size = struct.unpack_from(">I", content, header)[0]
    boxes = content[header + 4 : colours] + struct.pack(">I", len(box) + 4) + box
    path.write_bytes(content[:header] + struct.pack(">I", len(boxes) + 4) + boxes + content[header + size :])


def test_the_profile_of_a_jpeg_2000_travels(tmp_path: Path) -> None:
    jp2_with_colours(tmp_path / "in.jp2", b"colr\2\0\0" + SRGB)
    picture = read_picture(tmp_path / "in.jp2")
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert (picture.metadata.profile, picture.notes) == (SRGB, ())


@pytest.mark.parametrize(
    "box",
    [b"colr\2\0\0", b"colr\1", b"colr\7\0\0", b"res xx"],
    ids=["no profile", "cut short", "unknown", "resolution"],
)
def test_a_header_that_openjpeg_refuses_costs_no_pixels(tmp_path: Path, box: bytes) -> None:
    path = tmp_path / "in.jp2"
    jp2_with_colours(path, box)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.notes == ("its resolution or colours cannot be read and are left out",)


def test_webp_with_alpha_keeps_it_beside_metadata(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.webp", Picture(RGB, alpha=RGB[:, :, 0], metadata=Metadata(profile=SRGB)))
    with opened(tmp_path / "p.webp") as image:
        assert (image.mode, image.info["icc_profile"]) == ("RGBA", SRGB)
        np.testing.assert_array_equal(np.asarray(image)[:, :, 3], RGB[:, :, 0])


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (34675, ("I", [1, 2, 3]), "its colour profile cannot be read (it has no valid header)"),
        (34675, ("H", [7] * 200), "its colour profile cannot be read (it has no valid header)"),
        (34665, ("I", [1 << 30]), "its EXIF data cannot be read"),
        (34853, ("H", []), "its GPS data cannot be read"),
        (37510, ("X", bytes(100_000)), "has tags outside of its EXIF data that belong there (UserComment)"),
        (700, ("X", b"<\xff>"), "its XMP data cannot be read and are left out (they are not UTF-8)"),
        (33723, ("X", b"x"), "its IPTC data are left out"),
        (274, ("I", [77]), ""),
        (274, ("H", [9]), ""),
        (282, ("H", [0]), ""),
    ],
)
def test_a_bad_tag_of_a_tiff_costs_a_note(tmp_path: Path, tag: int, value: tuple[str, Any], words: str) -> None:
    write_tiff(tmp_path / "in.tif", RGB.astype(int), 8, 2, tags={tag: value})
    picture = read_picture(tmp_path / "in.tif")
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture_size(tmp_path / "in.tif") == (16, 24)
    assert words in " ".join(picture.notes)
    assert len(picture.notes) == bool(words)
    for suffix in OUTPUTS:
        assert write_picture(tmp_path / f"out{suffix}", picture) == []


@pytest.mark.parametrize("tag", [34675, 700])
def test_a_tag_of_a_tiff_that_lies_outside_of_the_file_costs_a_note(tmp_path: Path, tag: int) -> None:
    write_tiff(tmp_path / "in.tif", RGB.astype(int), 8, 2, tags={tag: ("X", bytes(5000))})
    content = (tmp_path / "in.tif").read_bytes()
    (tmp_path / "in.tif").write_bytes(content[:-100])
    picture = read_picture(tmp_path / "in.tif")
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.notes[0].endswith("data cannot be read and are left out")
