"""Pixels an inch or centimetre, or their shape alone, from every format to every other."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from png_writer import chunk, png_bytes
from tiff_writer import write_tiff

from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.formats.metadata import ASPECT, CENTIMETRE, INCH, Density, Metadata

RGB = np.random.default_rng(4).integers(0, 256, (16, 24, 3), dtype=np.uint8)
OUTPUTS = (".png", ".jpg", ".jfif", ".webp", ".tif")


@pytest.mark.parametrize("unit", [INCH, CENTIMETRE])
@pytest.mark.parametrize("target", OUTPUTS)
def test_a_resolution_travels_in_its_unit(tmp_path: Path, target: str, unit: str) -> None:
    density = Density(Fraction(300), Fraction(601, 4), unit)
    write_picture(tmp_path / f"out{target}", Picture(RGB, metadata=Metadata(density=density)))
    if target == ".webp":
        found = Image.open(io.BytesIO((tmp_path / "out.webp").read_bytes())).getexif()
        assert (found[0x011A], found[0x011B], found[0x0128]) == (300, 150.25, {INCH: 2, CENTIMETRE: 3}[unit])
        return
    read = read_picture(tmp_path / f"out{target}").metadata.density
    assert read is not None
    assert read.unit == (CENTIMETRE if target == ".png" else unit), "PNG has the metre alone"
    tolerance = Fraction(1, 100) if target in (".png", ".tif") else Fraction(1, 2)  # JPEG has whole numbers
    factor = Fraction(254, 100) if read.unit != unit else 1
    assert abs(read.x * factor - 300) <= tolerance
    assert abs(read.y * factor - density.y) <= tolerance
    if target == ".tif":
        assert read == density


@pytest.mark.parametrize("target", OUTPUTS)
def test_the_shape_of_pixels_is_no_resolution(tmp_path: Path, target: str) -> None:
    """Of a unit that nobody knows only the ratio counts."""
    before = chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    picture = read_picture(tmp_path / "in.png")
    lost = write_picture(tmp_path / f"out{target}", picture)
    again = read_picture(tmp_path / f"out{target}").metadata
    if target == ".webp":
        assert lost == ["the shape of its pixels"]
        assert again.exif is None
    else:
        assert lost == []
        assert again.density == Density(Fraction(2), Fraction(1), ASPECT)


@pytest.mark.parametrize(("x", "y"), [(0, 100), (100, 0)])
def test_a_resolution_of_nothing_is_none(tmp_path: Path, x: int, y: int) -> None:
    before = chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    (tmp_path / "in.png").write_bytes(png_bytes(RGB.astype(int), 8, 2, before=before))
    assert read_picture(tmp_path / "in.png").metadata.density is None


def test_a_tiff_that_says_no_unit_means_inches_and_squares_of_none_say_nothing(tmp_path: Path) -> None:
    resolution = {282: ("I", [300]), 283: ("I", [150])}
    for tags, expected in (
        ({}, Density(Fraction(300), Fraction(150), INCH)),
        ({296: ("H", [1])}, Density(Fraction(300), Fraction(150), ASPECT)),
        ({296: ("H", [1]), 283: ("I", [300])}, None),
        ({283: ("I", [0])}, None),
    ):
        write_tiff(tmp_path / "p.tif", RGB.astype(int), 8, 2, tags={**resolution, **tags}, rationals=(282, 283))  # type: ignore[arg-type]
        assert read_picture(tmp_path / "p.tif").metadata.density == expected
