"""Picture files against Pillow as the second implementation: depth, grey, alpha, orientation, profiles, damage."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from sample_pictures import photograph, png_header

from irsde_deploy.errors import InputFileError, OutputFileError
from irsde_deploy.pictures.files import (
    MAX_BYTES,
    Picture,
    losses,
    picture_size,
    read_picture,
    require_target,
    to_eight_bit,
    write_picture,
)
from irsde_deploy.pictures.formats.metadata import Metadata

RNG = np.random.default_rng(0)
RGB8 = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (13, 21, 3), dtype=np.uint16)
ALPHA8 = RNG.integers(0, 256, (13, 21), dtype=np.uint8)


def pillow(path: Path) -> Image.Image:
    """The second implementation."""
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("rgb", [RGB8, RGB16], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str, rgb: np.ndarray, alpha: bool) -> None:
    picture = Picture(rgb, rgb[:, :, 0] // 2 if alpha else None)
    write_picture(tmp_path / f"p{suffix}", picture)
    read = read_picture(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(read.rgb, rgb)
    assert (read.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(read.alpha, picture.alpha)
    assert not read.grey


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_agree_with_pillows_decoder(tmp_path: Path, suffix: str) -> None:
    smooth = cv2.resize(RGB8[:3, :4], (64, 48), interpolation=cv2.INTER_CUBIC)
    write_picture(tmp_path / f"p{suffix}", Picture(smooth))
    ours = read_picture(tmp_path / f"p{suffix}").rgb.astype(int)
    theirs = np.asarray(pillow(tmp_path / f"p{suffix}").convert("RGB")).astype(int)
    assert np.abs(ours - theirs).mean() < 0.5  # both decode to within a rounding of the colour conversion
    assert np.abs(ours - smooth).mean() < 2  # quality 95, chroma subsampled


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "I;16"])
def test_png_modes_mean_what_pillow_says(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(RGB8)
    if mode == "I;16":
        image = Image.fromarray(RGB16[:, :, 0])
    elif mode in ("LA", "RGBA"):
        image = source.convert(mode)
        image.putalpha(Image.fromarray(ALPHA8))
    else:
        image = source.convert(mode)
    image.save(tmp_path / "p.png")
    read = read_picture(tmp_path / "p.png")
    assert read.grey == (mode in ("L", "LA", "1", "I;16"))
    expected = RGB16[:, :, :1].repeat(3, 2) if mode == "I;16" else np.asarray(pillow(tmp_path / "p.png").convert("RGB"))
    np.testing.assert_array_equal(read.rgb, expected)
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(read.alpha, ALPHA8)
    write_picture(tmp_path / "again.png", read)
    again = read_picture(tmp_path / "again.png")
    assert again.grey == (read.grey and read.alpha is None)  # grey with alpha is written as RGBA with equal channels
    np.testing.assert_array_equal(again.rgb, read.rgb)


def test_grey_is_written_as_luma(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.png", Picture(RGB8, grey=True))
    expected = np.asarray(Image.fromarray(RGB8).convert("L")).astype(int)
    written = np.asarray(pillow(tmp_path / "p.png")).astype(int)
    assert written.ndim == 2
    assert np.abs(written - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("p.jpg", "p.png", "p.webp", "p.tif"):
        options = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(RGB8).save(tmp_path / name, exif=exif, quality=95, **options)
        expected = np.asarray(ImageOps.exif_transpose(pillow(tmp_path / name)).convert("RGB")).astype(int)
        read = read_picture(tmp_path / name).rgb.astype(int)
        assert read.shape == expected.shape
        assert np.abs(read - expected).mean() < 0.5, name
        write_picture(tmp_path / f"out_{name}", Picture(read.astype(np.uint8)))
        assert pillow(tmp_path / f"out_{name}").getexif().get(0x0112, 1) == 1, "it must not be applied twice"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_colour_profiles_travel(tmp_path: Path, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB8).save(tmp_path / f"in{suffix}", icc_profile=profile)
    read = read_picture(tmp_path / f"in{suffix}")
    assert read.metadata.profile == profile
    write_picture(tmp_path / f"out{suffix}", read)
    assert pillow(tmp_path / f"out{suffix}").info["icc_profile"] == profile


def test_sixteen_bits_become_eight_by_rounding(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_eight_bit(every), np.rint(every / 257).astype(np.uint8))
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    picture = Picture(np.dstack([ramp] * 3), alpha=ramp)
    assert losses(picture, Path("p.jpg")) == ["its alpha channel", "its 16-bit precision"]
    assert losses(picture, Path("p.webp")) == ["its 16-bit precision"]
    assert losses(picture, Path("p.png")) == losses(picture, Path("p.tif")) == []
    write_picture(tmp_path / "p.jpg", picture)
    back = read_picture(tmp_path / "p.jpg").rgb.astype(int)
    assert np.abs(back[:, :, 0] - np.rint(ramp / 257)).max() <= 3  # JPEG at quality 95


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_written_at_quality_95(tmp_path: Path, suffix: str) -> None:
    quality = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}[suffix]
    write_picture(tmp_path / f"p{suffix}", Picture(RGB8))
    expected = cv2.imencode(suffix, RGB8[:, :, ::-1], [quality, 95])[1].tobytes()
    assert (tmp_path / f"p{suffix}").read_bytes() == expected


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_name_in_capitals_is_the_same_format(tmp_path: Path, suffix: str) -> None:
    picture = Picture(RGB16, alpha=RGB16[:, :, 0], metadata=Metadata(xmp=b"<x/>"))
    lost = write_picture(tmp_path / f"p{suffix}", picture)
    assert (
        write_picture(tmp_path / f"q{suffix.upper()}", picture) == lost == losses(picture, Path(f"q{suffix.upper()}"))
    )
    assert (tmp_path / f"q{suffix.upper()}").read_bytes() == (tmp_path / f"p{suffix}").read_bytes()


def test_a_grey_profile_goes_where_grey_is_written(tmp_path: Path) -> None:
    """Grey with alpha is written as RGBA, but as grey in a JPEG, which has no alpha."""
    image = Image.fromarray(np.dstack([ALPHA8, ALPHA8]), "LA")
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    image.save(tmp_path / "in.png", icc_profile=bytes(profile))
    picture = read_picture(tmp_path / "in.png")
    assert picture.metadata.profile == profile
    assert write_picture(tmp_path / "out.png", picture) == ["its colour profile of grey values"]
    assert "icc_profile" not in pillow(tmp_path / "out.png").info
    assert write_picture(tmp_path / "out.jpg", picture) == ["its alpha channel"]
    assert pillow(tmp_path / "out.jpg").info["icc_profile"] == profile


def test_sizes_have_a_limit(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.png", Picture(RGB8))
    assert read_picture(tmp_path / "p.png", max_pixels=13 * 21).rgb.shape == (13, 21, 3)
    assert picture_size(tmp_path / "p.png", max_pixels=13 * 21) == (13, 21)
    for read in (read_picture, picture_size):
        with pytest.raises(InputFileError, match="21x13 pixels are more than the limit of 0.000272 megapixels"):
            read(tmp_path / "p.png", max_pixels=13 * 21 - 1)


def test_files_have_a_limit(tmp_path: Path) -> None:
    for size, words in (
        (MAX_BYTES, "not a PNG"),
        (MAX_BYTES + 1, "1.0 GB is more than any picture: the limit is 1 GB"),
    ):
        with (tmp_path / "p.png").open("wb") as file:
            file.truncate(size)  # without a byte on the disk
        with pytest.raises(InputFileError, match=words):
            read_picture(tmp_path / "p.png")


@pytest.mark.parametrize(("suffix", "longest"), [(".webp", 16_383), (".jpg", 65_500), (".jfif", 65_500)])
def test_sides_have_the_formats_limit(tmp_path: Path, suffix: str, longest: int) -> None:
    path = tmp_path / f"p{suffix}"
    for shape in ((1, longest), (longest, 1)):
        write_picture(path, Picture(np.zeros((*shape, 3), np.uint8)))
        assert picture_size(path) == shape
    for shape in ((1, longest + 1), (longest + 1, 1)):
        for refuse in (write_picture, require_target):
            with pytest.raises(OutputFileError, match=f"holds sides of up to {longest} pixels, not {longest + 1}: use"):
                refuse(path, Picture(np.zeros((*shape, 3), np.uint8)))


def test_want_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "p.png", Picture(RGB8))

    def without_memory(*_: object) -> None:
        raise cv2.error("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 819 bytes")

    monkeypatch.setattr(cv2, "imdecode", without_memory)
    with pytest.raises(MemoryError):
        read_picture(tmp_path / "p.png")


def encoded(kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(cv2.resize(RGB8, (200, 150))).save(data, kind)
    return data.getvalue()


DAMAGED = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"not a picture at all", "not a PNG, JPEG, WebP, TIFF, .* picture"),
    "bomb.png": (png_header(60_000, 60_000), "more than the limit"),
    "large.png": (png_header(10_001, 10_000), "10001x10000 pixels are more than the limit of 100 megapixels"),
    "short.png": (png_header(100, 100), "damaged"),
    "truncated.png": (encoded("PNG")[:-2000], "damaged"),
    "truncated.jpg": (encoded("JPEG")[:-2000], "damaged"),
    "truncated.webp": (encoded("WEBP")[:-2000], "damaged"),
    "truncated.tif": (encoded("TIFF")[:-2000], "damaged|not a PNG"),
    "truncated.gif": (encoded("GIF")[:-2000], "damaged"),
    "truncated.bmp": (encoded("BMP")[:-2000], "damaged"),
    "truncated.avif": (encoded("AVIF")[:-500], "damaged"),
    "truncated.jp2": (encoded("JPEG2000")[:-6000], "damaged"),
    "truncated.ppm": (encoded("PPM")[:-2000], "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_pictures_are_one_clear_error(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        read_picture(tmp_path / name)
    assert capfd.readouterr() == ("", ""), "no library may write to the terminal"


@pytest.mark.parametrize("orientation", [1, 6])
def test_alpha_that_opencv_leaves_out_is_kept(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(RGB8).convert("LA")
    image.putalpha(Image.fromarray(ALPHA8))
    image.save(tmp_path / "la.tif", exif=exif)
    keyed = Image.fromarray(ALPHA8)
    keyed.save(tmp_path / "key.png", transparency=int(ALPHA8[2, 3]), exif=exif)
    for name in ("la.tif", "key.png"):
        upright = ImageOps.exif_transpose(pillow(tmp_path / name)).convert("RGBA")
        read = read_picture(tmp_path / name)
        assert read.grey
        np.testing.assert_array_equal(read.alpha, np.asarray(upright)[:, :, 3])
        np.testing.assert_array_equal(read.rgb, np.asarray(upright)[:, :, :3])


@pytest.mark.parametrize("mode", ["LAB", "CMYK"])
def test_colour_spaces_that_opencv_would_misread_are_refused(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB8)
    image = image.convert("CMYK") if mode == "CMYK" else ImageCms.applyTransform(image, to_lab())
    assert image is not None
    image.save(tmp_path / "p.tif")
    with pytest.raises(InputFileError, match=f"this one is {mode}"):
        read_picture(tmp_path / "p.tif")


def to_lab() -> ImageCms.ImageCmsTransform:
    profiles = (ImageCms.createProfile(kind) for kind in ("sRGB", "LAB"))
    return ImageCms.buildTransform(*profiles, "RGB", "LAB")


def test_cmyk_jpegs_are_converted_as_pillow_does(tmp_path: Path) -> None:
    smooth = cv2.resize(RGB8[:3, :4], (64, 48), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "p.jpg", quality=98)
    read = read_picture(tmp_path / "p.jpg")
    assert read.alpha is None
    expected = np.asarray(pillow(tmp_path / "p.jpg").convert("RGB")).astype(int)
    assert np.abs(read.rgb - expected).mean() < 2


def test_colours_under_a_tiffs_alpha_are_not_multiplied_by_it(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB8, ALPHA8])).save(tmp_path / "p.tif")
    read = read_picture(tmp_path / "p.tif")
    np.testing.assert_array_equal(read.rgb, RGB8)
    np.testing.assert_array_equal(read.alpha, ALPHA8)


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputFileError, match="not an ordinary file"):
        read_picture(tmp_path / "pipe.png")
    with pytest.raises(OutputFileError, match="not an ordinary file"):
        write_picture(tmp_path / "pipe.png", Picture(RGB8))


def test_float_tiffs_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "f.tif"), RNG.random((8, 8, 3), dtype=np.float32))
    with pytest.raises(InputFileError, match="8 or 16 bits|damaged|not a PNG"):
        read_picture(tmp_path / "f.tif")


def test_writing_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputFileError, match="cannot be written"):
        write_picture(tmp_path / "file" / "p.png", Picture(RGB8))
    with pytest.raises(OutputFileError, match="not '.bmp'"):
        write_picture(tmp_path / "p.bmp", Picture(RGB8))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputFileError, match="is a folder"):
        write_picture(tmp_path / "folder.png", Picture(RGB8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def test_nothing_half_written_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.png").write_bytes(b"older")

    def interrupted(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "p.png", Picture(RGB8))
    assert (tmp_path / "p.png").read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_a_palette_behind_the_pixels_is_none(tmp_path: Path) -> None:
    picture = Image.fromarray(photograph(0)).quantize(8)
    picture.save(tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    begin, end = data.index(b"PLTE") - 4, data.index(b"IDAT") - 4
    palette, rest = data[begin:end], data[end:]
    at = rest.index(b"IEND") - 4
    (tmp_path / "p.png").write_bytes(data[:begin] + rest[:at] + palette + rest[at:])
    with pytest.raises(InputFileError, match="its palette is missing"):
        read_picture(tmp_path / "p.png")


def test_exif_that_a_webp_does_not_announce_turns_nothing(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(photograph(0, 12, 20)).save(tmp_path / "p.webp", exif=turned, lossless=True)
    assert read_picture(tmp_path / "p.webp").rgb.shape == (20, 12, 3)
    data = bytearray((tmp_path / "p.webp").read_bytes())
    assert data[12:16] == b"VP8X"
    data[20] &= ~0x08
    (tmp_path / "p.webp").write_bytes(data)
    assert read_picture(tmp_path / "p.webp").rgb.shape == (12, 20, 3)
