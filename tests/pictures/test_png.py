"""PNG of every kind against the values that were written, and chunks that must not cost the pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from png_writer import CHANNELS, chunk, png_bytes

from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.formats import png

RNG = np.random.default_rng(2)
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
KINDS = [(depth, GREY) for depth in (1, 2, 4, 8, 16)]
KINDS += [(depth, colours) for colours in (RGB, GREY_ALPHA, RGB_ALPHA) for depth in (8, 16)]


def values_of(depth: int, colours: int, height: int = 11, width: int = 13) -> np.ndarray:
    return RNG.integers(0, 2**depth, (height, width, CHANNELS[colours]), dtype=np.int64)


def read(tmp_path: Path, content: bytes) -> Picture:
    (tmp_path / "p.png").write_bytes(content)
    return read_picture(tmp_path / "p.png")


@pytest.mark.parametrize(("depth", "colours"), KINDS)
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(11, 13), (1, 1), (3, 2)])
def test_every_depth_and_colour_type(
    tmp_path: Path, depth: int, colours: int, interlaced: bool, size: tuple[int, int]
) -> None:
    values = values_of(depth, colours, *size)
    picture = read(tmp_path, png_bytes(values, depth, colours, interlaced=interlaced))
    scaled = values * (255 // (2**depth - 1)) if depth < 8 else values
    grey = colours in (GREY, GREY_ALPHA)
    shown = np.broadcast_to(scaled[:, :, :1] if grey else scaled[:, :, :3], (*size, 3))
    np.testing.assert_array_equal(picture.rgb, shown)
    assert (picture.grey, picture.rgb.dtype) == (grey, np.uint16 if depth == 16 else np.uint8)
    if colours in (GREY_ALPHA, RGB_ALPHA):
        np.testing.assert_array_equal(picture.alpha, scaled[:, :, -1])
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("interlaced", [False, True])
def test_palettes_with_and_without_transparency(tmp_path: Path, depth: int, interlaced: bool) -> None:
    places = values_of(depth, PALETTE)
    colours = RNG.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    shades = RNG.integers(0, 256, 2**depth - 1, dtype=np.uint8)  # the last entry has none: it is opaque
    palette = chunk(b"PLTE", colours.tobytes())
    plain = read(tmp_path, png_bytes(places, depth, PALETTE, interlaced=interlaced, before=palette))
    np.testing.assert_array_equal(plain.rgb, colours[places[:, :, 0]])
    assert plain.alpha is None
    keyed = palette + chunk(b"tRNS", shades.tobytes())
    picture = read(tmp_path, png_bytes(places, depth, PALETTE, interlaced=interlaced, before=keyed))
    np.testing.assert_array_equal(picture.rgb, plain.rgb)
    np.testing.assert_array_equal(picture.alpha, np.append(shades, 255)[places[:, :, 0]])


@pytest.mark.parametrize(("depth", "colours"), [kind for kind in KINDS if kind[1] in (GREY, RGB)])
def test_one_transparent_colour(tmp_path: Path, depth: int, colours: int) -> None:
    values = values_of(depth, colours)
    values[2, 3] = values[5, 7]
    key = struct.pack(f">{CHANNELS[colours]}H", *values[5, 7])
    picture = read(tmp_path, png_bytes(values, depth, colours, before=chunk(b"tRNS", key)))
    expected = np.where((values == values[5, 7]).all(axis=2), 0, 65535 if depth == 16 else 255)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, expected)
    assert picture.alpha.dtype == picture.rgb.dtype
    write_picture(tmp_path / "out.png", picture)
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").alpha, expected)


def bad_checksum(kind: bytes, body: bytes) -> bytes:
    return chunk(kind, body)[:-1] + b"\0"


BESIDE = {
    "EXIF that is none": (chunk(b"eXIf", b"garbage"), "its EXIF data cannot be read"),
    "EXIF of nothing": (chunk(b"eXIf", b""), "its EXIF data cannot be read"),
    "EXIF that ends": (chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff"), "its EXIF data cannot be read"),
    "a profile that is none": (chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")), "its colour profile cannot be"),
    "a profile that is not compressed": (chunk(b"iCCP", b"x\0\0xyz"), "its iCCP chunk cannot be read"),
    "a profile of 40 MB": (
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(40_000_000))),
        "its iCCP chunk cannot be read",
    ),
    "a damaged profile": (bad_checksum(b"iCCP", b"x"), "its iCCP chunk is damaged"),
    "damaged text": (bad_checksum(b"tEXt", b"a\0b"), "its tEXt chunk is damaged"),
    "damaged transparency": (bad_checksum(b"tRNS", b"\0\1\0\2\0\3"), "its tRNS chunk is damaged"),
    "XMP cut short": (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"), "its iTXt chunk cannot be read"),
    "a resolution cut short": (chunk(b"pHYs", b"\0\0"), "its pHYs chunk cannot be read"),
    "a gamma cut short": (chunk(b"gAMA", b"\0"), "its gAMA chunk cannot be read"),
    "a gamma of nothing": (chunk(b"gAMA", bytes(4)), "its gAMA chunk cannot be read"),
    "two gammas": (2 * chunk(b"gAMA", b"\0\1\0\0"), "its gAMA chunk cannot be read"),
    "an unknown intent": (chunk(b"sRGB", b"\x09"), "its sRGB chunk cannot be read"),
    "primaries beyond all": (chunk(b"cHRM", b"\xff" * 32), "its cHRM chunk cannot be read"),
    "primaries in one place": (chunk(b"cHRM", b"\0\0\1\0" * 8), "its cHRM chunk cannot be read"),
    "light beyond all": (chunk(b"cLLI", b"\xff" * 8), "its cLLI chunk cannot be read"),
    "numbers of colours that are not RGB": (chunk(b"cICP", b"\1\1\1\1"), "its cICP chunk cannot be read"),
    "numbers of colours cut short": (chunk(b"cICP", b"\1\1\0"), "its cICP chunk cannot be read"),
    "a display cut short": (chunk(b"mDCV", bytes(20)), "its mDCV chunk cannot be read"),
    "a display beyond all": (chunk(b"mDCV", b"\xff" * 24), "its mDCV chunk cannot be read"),
    "text without an end of its keyword": (chunk(b"tEXt", b"keyword"), "its tEXt chunk cannot be read"),
    "text without a keyword": (chunk(b"tEXt", b"\0text"), "its tEXt chunk cannot be read"),
    "text of 60 MB": (chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(60_000_000))), "its zTXt chunk cannot be read"),
    "text of an unknown compression": (chunk(b"zTXt", b"k\0\1" + zlib.compress(b"x")), "its zTXt chunk cannot be read"),
    "text cut short": (chunk(b"zTXt", b"k\0\0" + zlib.compress(b"words")[:-5]), "its zTXt chunk cannot be read"),
    "text that does not inflate": (chunk(b"iTXt", b"k\0\1\0\0\0xyz"), "its iTXt chunk cannot be read"),
    "text that is no UTF-8": (chunk(b"iTXt", b"k\0\0\0\0\0\xff"), "its iTXt chunk cannot be read"),
    "XMP that is no UTF-8": (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<\xff>"), "its XMP data cannot be read"),
    "an animation of nothing": (chunk(b"acTL", bytes(8)), "its acTL chunk cannot be read"),
    "an animation of one frame": (chunk(b"acTL", b"\0\0\0\1\0\0\0\0"), ""),
    "a damaged animation": (bad_checksum(b"acTL", b"\0\0\0\2\0\0\0\0"), "its acTL chunk is damaged"),
    "empty text": (chunk(b"zTXt", b"k\0\0" + zlib.compress(b"")) + chunk(b"tEXt", b"k\0"), ""),
    "a private chunk": (chunk(b"prVt", b"anything"), ""),
    "an animation": (chunk(b"acTL", b"\0\0\0\2\0\0\0\0"), "is animated: its still picture is restored alone"),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("depth", [8, 16])
def test_nothing_beside_the_pixels_costs_them(
    tmp_path: Path, name: str, depth: int, capfd: pytest.CaptureFixture[str]
) -> None:
    extra, note = BESIDE[name]
    values = values_of(depth, RGB)
    for content in (png_bytes(values, depth, RGB, before=extra), png_bytes(values, depth, RGB, behind=extra)):
        picture = read(tmp_path, content)
        np.testing.assert_array_equal(picture.rgb, values)
        assert picture.alpha is None
        assert len(picture.notes) == bool(note)
        assert note in " ".join(picture.notes)
        if name not in ("empty text", "two gammas"):
            assert (picture.metadata.chunks, picture.metadata.xmp) == ((), None)
        for suffix in (".png", ".jpg", ".webp", ".tif"):
            write_picture(tmp_path / f"out{suffix}", picture)
    assert capfd.readouterr() == ("", ""), "no library may write to the terminal"


def test_a_chunk_that_is_too_large_to_look_at_is_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "MAX_METADATA", 8)
    values = values_of(8, RGB)
    picture = read(
        tmp_path, png_bytes(values, 8, RGB, before=chunk(b"tEXt", b"a\0bcdefgh") + chunk(b"tEXt", b"a\0bcdefg"))
    )
    np.testing.assert_array_equal(picture.rgb, values)
    assert picture.notes == ("its tEXt chunk is too large and is left out",)
    assert picture.metadata.chunks == ((b"tEXt", b"a\0bcdefg"),)


def test_a_file_without_its_end_is_read_where_its_pixels_are_whole(tmp_path: Path) -> None:
    values = values_of(8, RGB)
    whole = png_bytes(values, 8, RGB, end=False)
    for content in (whole, whole[:-4], whole + b"rubbish behind it"):  # -4: without the checksum of the pixels
        picture = read(tmp_path, content)
        np.testing.assert_array_equal(picture.rgb, values)
        assert picture.notes == ("its end is missing (no IEND), and its pixels are whole",)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("surplus", [b"rubbish", zlib.compress(bytes(5000)), b""])
def test_more_pixel_data_than_the_picture_has_do_no_harm(
    tmp_path: Path, depth: int, surplus: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    values = values_of(depth, RGB)
    taller = np.concatenate([values, values])
    whole = png_bytes(taller, depth, RGB)
    head = struct.pack(">IIBBBBB", 13, 11, depth, RGB, 0, 0, 0)  # which says half as many rows
    for content in (
        png_bytes(values, depth, RGB, behind=chunk(b"IDAT", surplus)),
        whole[:8] + chunk(b"IHDR", head) + whole[33:],
    ):
        np.testing.assert_array_equal(read(tmp_path, content).rgb, values)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("depth", "colours"), [(8, RGB), (16, RGB_ALPHA), (1, GREY)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_pixels_may_come_in_any_number_of_chunks(tmp_path: Path, depth: int, colours: int, interlaced: bool) -> None:
    values = values_of(depth, colours, 40, 31)
    whole = png_bytes(values, depth, colours, interlaced=interlaced)
    begin = whole.index(b"IDAT") - 4
    length = struct.unpack_from(">I", whole, begin)[0]
    body, rest = whole[begin + 8 : begin + 8 + length], whole[begin + 12 + length :]
    expected = read(tmp_path, whole)
    for size in (1, 37, 200):
        parts = [chunk(b"IDAT", body[at : at + size]) for at in range(0, length, size)]
        picture = read(tmp_path, whole[:begin] + parts[0] + chunk(b"IDAT", b"") + b"".join(parts[1:]) + rest)
        np.testing.assert_array_equal(picture.rgb, expected.rgb)


@pytest.mark.parametrize(("depth", "colours"), [(1, GREY), (4, GREY), (8, RGB)])
def test_of_a_transparent_colour_only_the_depths_bits_count(tmp_path: Path, depth: int, colours: int) -> None:
    values = values_of(depth, colours)
    key = struct.pack(f">{CHANNELS[colours]}H", *(values[5, 7] + 2**depth))
    picture = read(tmp_path, png_bytes(values, depth, colours, before=chunk(b"tRNS", key)))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, (values == values[5, 7]).all(axis=2))


def test_what_stands_behind_the_end_is_not_looked_at(tmp_path: Path) -> None:
    values = values_of(8, RGB)
    behind = chunk(b"tEXt", b"Title\0text") + bad_checksum(b"eXIf", b"x") + chunk(b"ABCD", b"")
    picture = read(tmp_path, png_bytes(values, 8, RGB) + behind)
    np.testing.assert_array_equal(picture.rgb, values)
    assert (picture.metadata.chunks, picture.notes) == ((), ())


DAMAGED = {
    "pixels cut short": (lambda good: good[:-60], "its pixel data end early"),
    "a bit of the pixels": (
        lambda good: good[:-40] + bytes([good[-40] ^ 1]) + good[-39:],
        "checksum of its pixel data",
    ),
    "the header's checksum": (lambda good: good[:30] + b"\0" + good[31:], "the checksum of its header is wrong"),
    "no header": (lambda good: good[:8] + chunk(b"IDAT", b"x"), "its header is missing"),
    "nothing at all": (lambda good: good[:8], "its header is missing"),
    "no palette": (lambda good: png_bytes(values_of(8, PALETTE), 8, PALETTE), "its palette is missing"),
    "Apple's kind": (lambda good: good[:8] + chunk(b"CgBI", b"\0\0\0\0") + good[8:], "Apple's own kind"),
    "an unknown chunk that counts": (lambda good: good[:33] + chunk(b"ABCD", b"") + good[33:], "a chunk ABCD"),
    "a depth that is none": (lambda good: png_bytes(values_of(8, RGB), 4, RGB), "values that PNG does not know"),
    "no size": (lambda good: png_bytes(values_of(8, RGB, 1, 1)[:0], 8, RGB), "its size is 1x0"),
    "an unknown filter": (lambda good: _with_filter(5), "a filter that PNG does not know"),
}


def _with_filter(number: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    rows = bytes([0, 1, 2, number, 3, 4])
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_to_the_pixels_is_one_true_sentence(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, words = DAMAGED[name]
    with pytest.raises(InputFileError, match=words):
        read(tmp_path, spoil(png_bytes(values_of(8, RGB), 8, RGB)))
    assert capfd.readouterr() == ("", "")
