"""TIFF layouts against the values that were written: every one is decoded right, or refused by its name."""

from __future__ import annotations

import io
import itertools
import lzma
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter
from tiff_writer import CODECS, write_tiff

from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, picture_size, read_picture, write_picture
from irsde_deploy.pictures.formats import tiff_segments
from irsde_deploy.pictures.formats.jpeg import essential_segments
from irsde_deploy.pictures.formats.tiff_directories import read_directory, read_head

RNG = np.random.default_rng(1)
HEIGHT, WIDTH = 19, 37  # no multiple of a tile's side
GREY, RGB, PALETTE, YCBCR = 1, 2, 3, 6


def values_of(bits: int, channels: int) -> np.ndarray:
    return RNG.integers(0, 2**bits, (HEIGHT, WIDTH, channels), dtype=np.int64)


def on_full_scale(values: np.ndarray, bits: int) -> np.ndarray:
    """What a picture should have: the share of white, in 8 bits, or in 16 above that."""
    white, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    return np.floor(values / (2**bits - 1) * white + 0.5).astype(dtype)


LAYOUTS = {
    "one strip": {},
    "strips": {"rows_per_strip": 5},
    "tiles": {"tile": 16},
    "planes": {"planar": True},
    "planes in strips": {"planar": True, "rows_per_strip": 4},
    "planes in tiles": {"planar": True, "tile": 16},
    "big-endian": {"order": ">", "rows_per_strip": 7},
    "BigTIFF": {"big": True, "rows_per_strip": 7},
    "big-endian BigTIFF in tiles": {"big": True, "order": ">", "tile": 16},
    "Deflate": {"compression": 8, "rows_per_strip": 3},
    "old Deflate": {"compression": 32946},
    "LZW": {"compression": 5, "rows_per_strip": 6},
    "LZW, planes in tiles": {"compression": 5, "planar": True, "tile": 16},
    "PackBits": {"compression": 32773, "rows_per_strip": 4},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("bits", "channels"), list(itertools.product([1, 2, 4, 8, 12, 16], [1, 3])))
def test_every_layout_of_grey_and_rgb(tmp_path: Path, layout: str, bits: int, channels: int) -> None:
    values = values_of(bits, channels)
    write_tiff(tmp_path / "p.tif", values, bits, GREY if channels == 1 else RGB, **LAYOUTS[layout])  # type: ignore[arg-type]
    read = read_picture(tmp_path / "p.tif")
    assert (read.grey, read.alpha, read.notes) == (channels == 1, None, ())
    np.testing.assert_array_equal(read.rgb, np.broadcast_to(on_full_scale(values, bits), (HEIGHT, WIDTH, 3)))
    assert picture_size(tmp_path / "p.tif") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("layout", ["strips", "planes in tiles", "LZW", "LZW, planes in tiles"])
@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (4, 3), (12, 1), (16, 3)])
def test_no_more_than_some_is_decompressed_and_unpacked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, bits: int, channels: int
) -> None:
    values = values_of(bits, channels)
    write_tiff(tmp_path / "p.tif", values, bits, GREY if channels == 1 else RGB, **LAYOUTS[layout])  # type: ignore[arg-type]
    for at_once in (1, 2 * WIDTH, 7 * WIDTH * channels):
        monkeypatch.setattr(tiff_segments, "_BYTES_AT_ONCE", at_once)
        monkeypatch.setattr(tiff_segments, "_VALUES_AT_ONCE", at_once)
        found = read_picture(tmp_path / "p.tif").rgb
        np.testing.assert_array_equal(found, np.broadcast_to(on_full_scale(values, bits), (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("layout", ["one strip", "planes in strips", "Deflate", "PackBits"])
def test_lengths_of_strips_may_be_missing_as_old_writers_left_them_out(tmp_path: Path, layout: str) -> None:
    values = values_of(8, 3)
    write_tiff(tmp_path / "p.tif", values, 8, RGB, tags={279: ("I", [])}, **LAYOUTS[layout])  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, values)


PREDICTED = [5, 8, 32946]
"""Compressions of the layouts above that a predictor goes with."""


@pytest.mark.parametrize("layout", [name for name, settings in LAYOUTS.items() if settings.get("compression") is None])
@pytest.mark.parametrize("compression", PREDICTED)
@pytest.mark.parametrize("bits", [8, 16])
def test_the_predictor_in_every_layout(tmp_path: Path, layout: str, compression: int, bits: int) -> None:
    values = values_of(bits, 3)
    settings = {**LAYOUTS[layout], "compression": compression}
    write_tiff(tmp_path / "p.tif", values % 2**bits, bits, RGB, predictor=2, **settings)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, values)


@pytest.mark.parametrize("compression", [1, 32773])
def test_a_predictor_of_other_compressions_is_none_as_for_libtiff(tmp_path: Path, compression: int) -> None:
    values = values_of(8, 3)
    tags = {317: ("H", [2])}
    write_tiff(tmp_path / "p.tif", values, 8, RGB, compression=compression, tags=tags)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, values)
    with Image.open(tmp_path / "p.tif") as other:
        np.testing.assert_array_equal(np.asarray(other), values)


@pytest.mark.parametrize("layout", ["one strip", "planes", "planes in tiles", "LZW", "big-endian"])
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_white_may_be_zero(tmp_path: Path, layout: str, bits: int, with_alpha: bool) -> None:
    values = values_of(bits, 1 + with_alpha)
    tags = {338: ("H", [2])} if with_alpha else {}
    write_tiff(tmp_path / "p.tif", values, bits, 0, tags=tags, **LAYOUTS[layout])  # type: ignore[arg-type]
    read = read_picture(tmp_path / "p.tif")
    whole = on_full_scale(values, bits)
    np.testing.assert_array_equal(read.rgb[:, :, 1], np.iinfo(whole.dtype).max - whole[:, :, 0])
    if with_alpha:
        np.testing.assert_array_equal(read.alpha, whole[:, :, 1])


@pytest.mark.parametrize("layout", ["one strip", "planes", "tiles", "Deflate", "big-endian"])
@pytest.mark.parametrize(("bits", "channels"), list(itertools.product([8, 16], [2, 4])))
@pytest.mark.parametrize("kind", [1, 2, None])
def test_alpha_is_straight_whether_it_was_multiplied_or_not(
    tmp_path: Path, layout: str, bits: int, channels: int, kind: int | None
) -> None:
    white = 2**bits - 1
    straight = values_of(bits, channels)
    straight[0, 0, -1], straight[0, 1, -1] = 0, white
    stored, tolerance = straight.copy(), np.zeros((HEIGHT, WIDTH, 1))
    if kind == 1:
        alpha = straight[:, :, -1:]
        stored[:, :, :-1] = np.floor(straight[:, :, :-1] * alpha / white + 0.5)
        tolerance = np.where(alpha == 0, white, white / np.maximum(alpha, 1) / 2 + 1)
    tags = {} if kind is None else {338: ("H", [kind])}
    photometric = GREY if channels == 2 else RGB
    write_tiff(tmp_path / "p.tif", stored, bits, photometric, tags=tags, **LAYOUTS[layout])  # type: ignore[arg-type]
    read = read_picture(tmp_path / "p.tif")
    np.testing.assert_array_equal(read.alpha, straight[:, :, -1])
    assert (np.abs(read.rgb.astype(int) - straight[:, :, :-1]) <= tolerance).all()
    assert read.rgb.dtype == f"uint{bits}"


@pytest.mark.parametrize("bits", [4, 6, 8, 12, 16])
@pytest.mark.parametrize("photometric", [0, GREY, RGB])
def test_what_is_divided_by_alpha_is_rounded_once(tmp_path: Path, bits: int, photometric: int) -> None:
    channels = 4 if photometric == RGB else 2
    values, white, full = values_of(bits, channels), 2**bits - 1, 255 if bits <= 8 else 65535
    values[0, :5, -1] = [0, 1, 2, 3, white]
    write_tiff(tmp_path / "p.tif", values, bits, photometric, tags={338: ("H", [1])})
    colours, alpha = values[:, :, :-1], values[:, :, -1:]
    if photometric == 0:
        colours = white - colours
    nearest = np.minimum((2 * colours * full + alpha) // np.maximum(2 * alpha, 1), full)
    expected = np.broadcast_to(np.where(alpha == 0, 0, nearest), (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [1, 2])
def test_palettes_with_alpha(tmp_path: Path, bits: int, kind: int) -> None:
    values, white = values_of(bits, 2), 2**bits - 1
    values[0, 0, 1], values[0, 1, 1] = 0, white
    colours = RNG.integers(0, 256, (2**bits, 3))
    tags = {320: ("H", (colours * 257).T.ravel().tolist()), 338: ("H", [kind])}
    write_tiff(tmp_path / "p.tif", values, bits, PALETTE, tags=tags)
    read = read_picture(tmp_path / "p.tif")
    assert read.alpha is not None
    assert read.rgb.dtype == read.alpha.dtype == np.uint8
    np.testing.assert_array_equal(read.alpha, values[:, :, 1] // (white // 255))
    expected, alpha = colours[values[:, :, 0]], values[:, :, 1:]
    if kind == 1:
        expected = np.minimum((2 * expected * white + alpha) // np.maximum(2 * alpha, 1), 255) * (alpha > 0)
    np.testing.assert_array_equal(read.rgb, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(tmp_path: Path, bits: int) -> None:
    places = values_of(bits, 1)
    colours = RNG.integers(0, 256, (2**bits, 3))
    for scale in (1, 257):  # some writers give 8 bits where TIFF wants 16
        tags = {320: ("H", (colours * scale).T.ravel().tolist())}
        write_tiff(tmp_path / "p.tif", places, bits, PALETTE, rows_per_strip=6, tags=tags)
        read = read_picture(tmp_path / "p.tif")
        np.testing.assert_array_equal(read.rgb, colours[places[:, :, 0]])
        assert not read.grey


LOWEST_FIRST = {266: ("H", [2])}


def swapped(data: bytes) -> bytes:
    """Bytes with their bits the other way round."""
    return bytes(int(f"{value:08b}"[::-1], 2) for value in data)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946, 34925])
@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (8, 3), (16, 1)])
def test_bits_may_come_lowest_first_whatever_compresses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int, bits: int, channels: int
) -> None:
    compress = CODECS.get(compression, lzma.compress)
    monkeypatch.setitem(CODECS, compression, lambda data: swapped(compress(data)))
    values = values_of(bits, channels)
    path, photometric = tmp_path / "p.tif", GREY if channels == 1 else RGB
    write_tiff(path, values, bits, photometric, compression=compression, rows_per_strip=6, tags=LOWEST_FIRST)  # type: ignore[arg-type]
    read = read_picture(path).rgb[:, :, :channels]
    np.testing.assert_array_equal(read, on_full_scale(values, bits))
    with Image.open(path) as image:
        as_pillow = np.asarray(image.convert("L" if bits == 1 else image.mode)).reshape(values.shape)
    np.testing.assert_array_equal(read, as_pillow)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_bits_lowest_first_as_pillow_writes_and_reads_them(tmp_path: Path, compression: str) -> None:
    mode = "L" if compression == "jpeg" else "1"
    image = Image.fromarray(cv2.resize(RNG.integers(0, 2, (8, 9), dtype=np.uint8) * 255, (80, 64))).convert(mode)
    image.save(tmp_path / "p.tif", compression=compression, tiffinfo={266: 2})
    with Image.open(tmp_path / "p.tif") as again:
        assert again.tag_v2[266] == 2
        expected = np.asarray(again.convert("L"))
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb[:, :, 0], expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits", "tiff_deflate"])
def test_black_and_white_as_pillow_writes_it(tmp_path: Path, compression: str) -> None:
    bits = cv2.resize(RNG.integers(0, 2, (8, 9), dtype=np.uint8), (90, 80), interpolation=cv2.INTER_NEAREST)
    Image.fromarray(bits * 255).convert("1").save(tmp_path / "p.tif", compression=compression)
    read = read_picture(tmp_path / "p.tif")
    assert read.grey
    np.testing.assert_array_equal(read.rgb[:, :, 0], bits * 255)


def test_jpeg_inside_as_pillow_decodes_it(tmp_path: Path) -> None:
    smooth = cv2.resize(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (96, 80), interpolation=cv2.INTER_CUBIC)
    for image in (Image.fromarray(smooth), Image.fromarray(smooth[:, :, 0]), Image.fromarray(smooth).convert("YCbCr")):
        image.save(tmp_path / "p.tif", compression="jpeg", quality=95)
        expected = np.asarray(Image.open(tmp_path / "p.tif").convert("RGB")).astype(int)
        assert np.abs(read_picture(tmp_path / "p.tif").rgb - expected).max() <= 2, image.mode


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_luma_and_subsampled_chroma(tmp_path: Path, across: int, down: int) -> None:
    high, wide = 24, 40
    blocks = RNG.integers(16, 240, (high // down, wide // across, across * down + 2))
    tags = {530: ("H", [across, down]), 256: ("I", [wide]), 257: ("I", [high]), 278: ("I", [high])}
    tags |= {258: ("H", [8, 8, 8]), 277: ("H", [3])}
    flat = blocks.reshape(1, -1, 1)
    write_tiff(tmp_path / "p.tif", flat, 8, YCBCR, tags=tags)  # type: ignore[arg-type]
    luma = blocks[:, :, :-2].reshape(high // down, wide // across, down, across).transpose(0, 2, 1, 3)
    cb, cr = (np.kron(blocks[:, :, at], np.ones((down, across))) - 128 for at in (-2, -1))
    y = luma.reshape(high, wide)
    expected = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    read = read_picture(tmp_path / "p.tif").rgb
    assert np.abs(read - np.clip(expected, 0, 255)).max() <= 1
    if (across, down) == (2, 2):  # which is what a file means that does not say it
        del tags[530]
        write_tiff(tmp_path / "p.tif", flat, 8, YCBCR, tags=tags)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, read)


def test_luma_and_chroma_of_a_files_own_weights_and_range(tmp_path: Path) -> None:
    """BT.709 in studio range, the chromas' zeros apart, by the standard's formula."""
    values = RNG.integers(20, 230, (HEIGHT, WIDTH, 3))
    red, green, blue = weights = (0.2126, 0.7152, 0.0722)
    tags = {530: ("H", [1, 1]), 529: ("f", weights), 532: ("H", [16, 235, 120, 232, 136, 248])}
    write_tiff(tmp_path / "p.tif", values, 8, YCBCR, tags=tags)  # type: ignore[arg-type]
    y = (values[:, :, 0] - 16) * 255 / 219
    cb, cr = (values[:, :, 1] - 120) * 127 / 112, (values[:, :, 2] - 136) * 127 / 112
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    expected = np.clip(np.stack([r, (y - red * r - blue * b) / green, b], axis=2), 0, 255)
    assert np.abs(read_picture(tmp_path / "p.tif").rgb - expected).max() < 0.51
    for tag, value, words in (
        (529, ("f", [0.3, 0.0, 0.7]), "its luma has no known weights"),
        (532, ("H", [16, 16, 128, 240, 128, 240]), "its luma or chroma has no known range"),
        (532, ("H", [16, 235]), "cannot be understood"),
        (530, ("H", [3, 1]), "no known subsampling"),
    ):
        write_tiff(tmp_path / "p.tif", values, 8, YCBCR, tags={**tags, tag: value})  # type: ignore[arg-type]
        with pytest.raises(InputFileError, match=words):
            read_picture(tmp_path / "p.tif")


@pytest.mark.parametrize(("channels", "is_ycbcr"), [(1, False), (3, False), (3, True), (4, False)])
def test_jpeg_inside_means_what_the_tags_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, is_ycbcr: bool
) -> None:
    """Whatever libjpeg would make of the channels: of three without a word, luma and chroma; of four, inks."""
    values = cv2.resize(RNG.integers(0, 256, (3, 4, channels), dtype=np.uint8), (WIDTH, HEIGHT)).reshape(
        HEIGHT, WIDTH, channels
    )
    mode = {1: "L", 3: "YCbCr" if is_ycbcr else "RGB", 4: "CMYK"}[channels]
    content = io.BytesIO()
    image = Image.frombytes(mode, (WIDTH, HEIGHT), values.tobytes())
    if channels == 3:
        image.save(content, "JPEG", quality=100, subsampling=0, keep_rgb=not is_ycbcr)
    else:
        image.save(content, "JPEG", quality=100)
    monkeypatch.setitem(CODECS, 7, lambda _: essential_segments(content.getvalue()).join([b"\xff\xd8", b""]))
    tags = {530: ("H", [1, 1]), 338: ("H", [2])}
    del tags[338 if channels != 4 else 530]
    photometric = {1: GREY, 3: YCBCR if is_ycbcr else RGB, 4: RGB}[channels]
    write_tiff(tmp_path / "p.tif", values, 8, photometric, compression=7, tags=tags)  # type: ignore[arg-type]
    read = read_picture(tmp_path / "p.tif")
    expected = np.asarray(image.convert("RGB")) if is_ycbcr else values[:, :, :3]
    if channels == 4:  # Pillow writes inks upside down, as Adobe does
        expected = 255 - expected
        assert read.alpha is not None
        assert np.abs(read.alpha.astype(int) - (255 - values[:, :, 3])).max() <= 4
    assert np.abs(read.rgb.astype(int) - expected).max() <= 4


@pytest.mark.parametrize(
    ("channels", "photometric", "tags", "words"),
    [
        (5, RGB, {338: ("H", [0, 0])}, "2 of its 5 channels are neither colours nor alpha"),
        (5, RGB, {}, "2 of its 5 channels"),
        (4, RGB, {338: ("H", [0])}, "1 of its 4 channels"),
        (5, RGB, {338: ("H", [0, 2])}, "1 of its 5 channels"),
        (5, RGB, {338: ("H", [2, 1])}, "1 of its 5 channels"),
        (3, GREY, {338: ("H", [2, 0])}, "1 of its 3 channels"),
    ],
)
def test_other_channels_are_left_out_with_a_note(
    tmp_path: Path, channels: int, photometric: int, tags: dict[int, tuple[str, list[int]]], words: str
) -> None:
    values = values_of(16, channels)
    for planar in (False, True):
        write_tiff(tmp_path / "p.tif", values, 16, photometric, tags=tags, planar=planar)
        read = read_picture(tmp_path / "p.tif")
        colours = values[:, :, :3] if photometric == RGB else values[:, :, :1].repeat(3, 2)
        np.testing.assert_array_equal(read.rgb, colours)
        assert (read.alpha is not None) == (2 in tags.get(338, ("H", []))[1])
        if read.alpha is not None:
            column = (3 if photometric == RGB else 1) + tags[338][1].index(2)
            np.testing.assert_array_equal(read.alpha, values[:, :, column])
        assert words in read.notes[0]


@pytest.mark.parametrize(
    ("bits", "channels", "photometric", "tags", "words"),
    [
        (32, 1, GREY, {339: ("H", [3])}, "pictures have 8 or 16 bits a channel, and this one is 32-bit floating-point"),
        (16, 3, RGB, {339: ("H", [3] * 3)}, "this one is 16-bit floating-point"),
        (32, 3, RGB, {}, "this one is 32-bit whole"),
        (64, 1, GREY, {}, "this one is 64-bit whole"),
        (16, 1, GREY, {339: ("H", [2])}, "this one is 16-bit signed"),
        (8, 4, 5, {}, "this one is CMYK"),
        (8, 3, 8, {}, "this one is LAB"),
        (8, 1, 32803, {}, "this one is raw sensor data"),
        (8, 1, 4, {}, "this one is a transparency mask"),
        (8, 3, 77, {}, "of colours number 77"),
        (8, 5, GREY, {}, "has 5 channels and does not say which are colours"),
        (8, 3, RGB, {258: ("H", [5, 6, 5])}, "different depths"),
        (8, 3, RGB, {259: ("H", [34712])}, r"compression \(34712, JPEG 2000\) is not read"),
        (8, 3, RGB, {259: ("H", [6])}, r"compression \(6, old JPEG\)"),
        (8, 3, RGB, {259: ("H", [8]), 317: ("H", [3])}, "predictor 3"),
        (8, 2, RGB, {}, "damaged .it has 2 channels, and its colours need 3"),
        (8, 1, PALETTE, {}, "its palette is missing"),
        (8, 1, GREY, {273: ("I", [1 << 30])}, "a strip or tile lies outside of the file"),
        (8, 1, GREY, {279: ("I", [100])}, "a strip or tile ends early"),
        (8, 1, GREY, {278: ("I", [1])}, "it has 1 of 19 strips"),
        (8, 1, GREY, {322: ("I", [2048]), 323: ("I", [2048])}, "strips or tiles are far larger than the picture"),
        (8, 3, RGB, {256: ("I", [1000]), 257: ("I", [1000]), 277: ("H", [600])}, "of 600 channels are too many"),
        (8, 3, RGB, {277: ("H", [1025])}, "damaged .it has 1025 channels"),
        (8, 1, GREY, {256: ("I", [1 << 20]), 257: ("I", [1 << 20])}, "more than the limit of 100 megapixels"),
        (8, 1, GREY, {256: ("I", [0])}, "does not say how large"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    bits: int,
    channels: int,
    photometric: int,
    tags: dict[int, tuple[str, list[int]]],
    words: str,
) -> None:
    write_tiff(tmp_path / "p.tif", values_of(min(bits, 62), channels), bits, photometric, tags=tags)
    with pytest.raises(InputFileError, match=words):
        read_picture(tmp_path / "p.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_the_orientation_is_applied(tmp_path: Path, orientation: int, bits: int) -> None:
    values = values_of(bits, 3).astype(f"uint{bits}")
    write_tiff(tmp_path / "p.tif", values, bits, RGB, tags={274: ("H", [orientation])})
    # As the TIFF specification has them: where the first row and the first column are seen.
    turned = {2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1]}
    turned |= {5: values.swapaxes(0, 1), 6: np.rot90(values, -1), 8: np.rot90(values)}
    turned[7] = np.rot90(values, 2).swapaxes(0, 1)
    expected = turned.get(orientation, values)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, expected)
    assert picture_size(tmp_path / "p.tif") == expected.shape[:2]


def test_of_several_pages_the_first_is_read_with_a_note(tmp_path: Path) -> None:
    pages = [Image.fromarray(values_of(8, 3).astype(np.uint8)) for _ in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    read = read_picture(tmp_path / "p.tif")
    np.testing.assert_array_equal(read.rgb, np.asarray(pages[0]))
    assert read.notes == ("holds 3 pages: the first is restored alone",)
    data = (tmp_path / "p.tif").read_bytes()
    head = read_head(data)
    page = read_directory(data, head, head.first)
    while page.next:
        page = read_directory(data, head, page.next)
    circle = data[: page.next_at] + struct.pack("<I", head.first) + data[page.next_at + 4 :]
    (tmp_path / "p.tif").write_bytes(circle)
    assert read_picture(tmp_path / "p.tif").notes == read.notes


@pytest.mark.parametrize(("kind", "count"), [(0, 2), (1, 1), (2, 2), (4, 1)])
def test_a_thumbnail_or_mask_is_no_page(tmp_path: Path, kind: int, count: int) -> None:
    written = io.BytesIO()  # Pillow's writer is closed twice, and the second time its own file would be gone
    with AppendingTiffWriter(written, True) as pages:
        for number, of_kind in enumerate((0, kind)):
            Image.new("RGB", (9, 8), (number, 0, 0)).save(pages, "TIFF", tiffinfo={254: of_kind})
            pages.newFrame()
    (tmp_path / "p.tif").write_bytes(written.getvalue())
    expected = () if count == 1 else (f"holds {count} pages: the first is restored alone",)
    assert read_picture(tmp_path / "p.tif").notes == expected


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_written_alpha_is_said_to_be_straight(tmp_path: Path, depth: type) -> None:
    rgb = RNG.integers(0, 256, (8, 9, 3)).astype(depth)
    write_picture(tmp_path / "p.tif", Picture(rgb, alpha=rgb[:, :, 0]))
    with Image.open(io.BytesIO((tmp_path / "p.tif").read_bytes())) as image:
        assert image.tag_v2[338] == (2,)


@pytest.mark.parametrize("compression", [5, 32773])
def test_libtiff_prints_nothing(tmp_path: Path, compression: int, capfd: pytest.CaptureFixture[str]) -> None:
    write_tiff(tmp_path / "p.tif", values_of(8, 3), 8, RGB, compression=compression)
    data = bytearray((tmp_path / "p.tif").read_bytes())
    data[30:1400] = 1370 * {5: b"\0", 32773: b"\x80"}[compression]  # of PackBits, which means nothing
    (tmp_path / "p.tif").write_bytes(data)
    with pytest.raises(InputFileError, match="p.tif: the picture is damaged"):
        read_picture(tmp_path / "p.tif")
    assert capfd.readouterr() == ("", "")


def test_a_tag_that_should_be_a_whole_number_and_is_none_does_not_count(tmp_path: Path) -> None:
    values = values_of(8, 3)
    write_tiff(tmp_path / "p.tif", values, 8, RGB)
    data = (tmp_path / "p.tif").read_bytes()
    entry = struct.pack("<HHI", 259, 3, 1)  # compression, a short
    assert data.count(entry) == 1
    (tmp_path / "p.tif").write_bytes(data.replace(entry, struct.pack("<HHI", 259, 11, 1)))  # now a float
    np.testing.assert_array_equal(read_picture(tmp_path / "p.tif").rgb, values)
