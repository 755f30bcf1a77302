"""Y'CbCr and RGB: against OpenCV, against the standards' own numbers, and there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sample_pictures import photograph

from irsde_deploy.video.colour import (
    WEIGHTS,
    Colour,
    Layout,
    clipped_off,
    downsampled,
    guessed_matrix,
    to_planes,
    to_rgb,
    upsampled,
)
from irsde_deploy.video.pipe_formats import PipeFormat, PipeFrame

RNG = np.random.default_rng(0)


def random_planes(layout: Layout, height: int = 33, width: int = 47) -> tuple[np.ndarray, ...]:
    """Any code values at all, odd sides."""
    shapes = layout.shapes(height, width)
    return tuple(RNG.integers(0, layout.white, shape, dtype=layout.dtype, endpoint=True) for shape in shapes)


def test_colour_bars_have_the_standards_code_values() -> None:
    """75 % bars of BT.709 and BT.601, limited range, 8 and 10 bit (SMPTE RP 219, ITU-R BT.471)."""
    bars = 0.75 * np.array([[[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1]]], np.float32)
    hd = np.stack(to_planes(bars, Layout("yuv", 10), Colour("bt709")))[:, 0].T
    assert hd.tolist() == [
        *([721, 512, 512], [674, 176, 543], [581, 589, 176], [534, 253, 207]),
        *([251, 771, 817], [204, 435, 848], [111, 848, 481]),
    ]
    sd = np.stack(to_planes(bars, Layout("yuv", 8), Colour("bt601")))[:, 0].T
    assert sd.tolist() == [
        *([180, 128, 128], [162, 44, 142], [131, 156, 44], [112, 72, 58]),
        *([84, 184, 198], [65, 100, 212], [35, 212, 114]),
    ]


def test_full_range_bt601_is_jpegs() -> None:
    picture = photograph(1)
    ours = np.stack(to_planes(picture.astype(np.float32) / 255, Layout("yuv"), Colour("bt601", full=True)), axis=2)
    opencv = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]
    assert np.abs(ours.astype(int) - opencv).max() <= 1  # OpenCV rounds its coefficients to 14 bits


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_full_chroma_comes_back_to_the_bit(matrix: str, full: bool, bits: int) -> None:
    layout, colour = Layout("yuv", bits), Colour(matrix, full)
    smooth = photograph(2, 33, 47).astype(np.float32) * 1.1 / 255 - 0.05  # beyond black and white too
    planes = to_planes(smooth, layout, colour)
    for before, after in zip(planes, to_planes(to_rgb(planes, layout, colour), layout, colour), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv440p", "yuv411p", "yuv410p", "gray12le", "gbrp10le"])
@pytest.mark.parametrize("cosited", [(True, False), (False, False), (True, True)])
def test_what_is_left_alone_comes_back_to_the_bit(name: str, cosited: tuple[bool, bool]) -> None:
    layout, colour = Layout.of(name), Colour("bt709", False, cosited)
    assert layout is not None
    planes = to_planes(photograph(2, 33, 47).astype(np.float32) / 255, layout, colour)
    rgb = to_rgb(planes, layout, colour)
    for before, after in zip(planes, to_planes(rgb, layout, colour, planes), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["yuv420p", "yuv411p"])
@pytest.mark.parametrize("cosited", [(True, False), (False, False), (True, True)])
def test_chroma_lies_where_its_siting_says(name: str, cosited: tuple[bool, bool]) -> None:
    """A ramp is reproduced by linear interpolation, so each sample's place can be read from its value."""
    layout, colour = Layout.of(name), Colour("bt709", False, cosited)
    assert layout is not None
    height, width = 32, 32
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for ramp, step, own in ((x, layout.across, cosited[0]), (y, layout.down, cosited[1])):
        axis = 1 if ramp is x else 0
        small = downsampled(ramp, layout, colour)
        places = small.take(small.shape[1 - axis] // 2, axis=1 - axis)
        period = 1 << step
        expected = np.arange(len(places)) * period + (0 if own else (period - 1) / 2)
        np.testing.assert_allclose(places[2:-2], expected[2:-2])
        back = upsampled(small, layout, colour, (height, width))
        np.testing.assert_allclose(back[8:-8, 8:-8], ramp[8:-8, 8:-8], atol=1e-5)


def test_the_change_of_chroma_is_averaged() -> None:
    layout, colour = Layout.of("yuv420p"), Colour("bt709", full=True, cosited=(False, False))
    assert layout is not None
    planes = random_planes(layout, 16, 16)
    planes = (planes[0], *(np.clip(plane, 60, 190) for plane in planes[1:]))
    rgb = to_rgb(planes, layout, colour)
    rgb[4:6, 8:10, 2] += 0.1  # blue, over one chroma sample exactly
    after = to_planes(rgb, layout, colour, planes)
    change = after[1].astype(int) - planes[1]
    assert change[2, 4] == round(255 * 0.1 / 2)  # dCb = (dB - Kb dB) / (2 - 2 Kb)
    assert np.count_nonzero(change) == 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "yuv422p10le", "yuv411p", "yuv444p16le", "yuv420p12le"])
@pytest.mark.parametrize(("matrix", "full"), [("bt601", False), ("bt2020", True), ("smpte240m", True)])
def test_codes_of_no_colour_come_back_to_the_bit(name: str, matrix: str, full: bool) -> None:
    """What lies so far out that restorers are not shown it: Y=240 Cb=253 Cr=35 in BT.601 is blue of more than 2."""
    layout, colour = Layout.of(name), Colour(matrix, full)
    assert layout is not None
    rng = np.random.default_rng(3)
    shapes = layout.shapes(26, 38)
    planes = tuple(rng.integers(0, layout.white + 1, shape).astype(layout.dtype) for shape in shapes)
    planes[0][::3], planes[1][::3] = layout.white, layout.white
    form = PipeFormat(26, 38, layout, colour)
    frame = PipeFrame(0, planes)
    rgb = form.to_rgb(frame)
    assert np.abs(rgb).max() <= 2
    for before, after in zip(planes, form.restored(frame, rgb).planes, strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_clipped_off() -> None:
    layout, colour = Layout("yuv"), Colour("bt601")
    codes = [np.full((1, 1), code, np.uint8) for code in (240, 253, 35)]
    beyond = clipped_off(tuple(codes), layout, colour)
    assert beyond is not None
    blue = (240 - 16) / 219 + 1.772 * (253 - 128) / 224
    np.testing.assert_allclose(beyond[0, 0], [0, 0, blue - 2], atol=1e-6)
    assert clipped_off(tuple(codes[:1] + codes[2:] + codes[2:]), layout, colour) is None


@pytest.mark.parametrize(
    ("size", "matrix"),
    [("720x576", "bt601"), ("720x578", "bt709"), ("1278x540", "bt601"), ("1280x540", "bt709"), ("720x1280", "bt709")],
)
def test_what_does_not_say_its_matrix_has_that_of_its_size(size: str, matrix: str) -> None:
    width, height = map(int, size.split("x"))
    assert guessed_matrix(height, width) == matrix


def test_what_no_code_can_hold_is_white_or_black() -> None:
    rgb = np.array([[[1.3, 1.3, 1.3], [-0.3, -0.3, -0.3]]], np.float32)
    for layout in (Layout("yuv"), Layout("rgb"), Layout("grey"), Layout("grey", 12)):
        assert to_planes(rgb, layout, Colour(full=True))[0].tolist() == [[layout.white, 0]]


def test_grey_has_the_range_that_its_colour_says() -> None:
    codes = np.array([[16, 235]], np.uint8)
    limited, full = (to_rgb((codes,), Layout("grey"), Colour(full=full))[0, :, 1] for full in (False, True))
    np.testing.assert_allclose(limited, [0, 1], atol=1e-6)
    np.testing.assert_allclose(full, [16 / 255, 235 / 255], atol=1e-6)


@pytest.mark.parametrize("bits", [8, 10])
def test_neutral_chroma_is_no_colour(bits: int) -> None:
    layout = Layout("yuv", bits)
    planes = tuple(np.array([[1 << (bits - 1)]], layout.dtype) for _ in range(3))
    for full in (False, True):
        red, green, blue = to_rgb(planes, layout, Colour(full=full))[0, 0]
        assert red == pytest.approx(green, abs=1e-6)
        assert blue == pytest.approx(green, abs=1e-6)


def test_the_last_of_an_odd_number_of_chroma_samples_is_that_of_its_pixel() -> None:
    layout, colour = Layout("yuv", 8, 1, 0), Colour("bt709", cosited=(False, False))
    ramp = np.arange(5, dtype=np.float32)[None]
    assert downsampled(ramp, layout, colour).tolist() == [[0.5, 2.5, 4]]


def test_names() -> None:
    for name in ("yuv420p", "yuv422p10le", "yuv444p16le", "gray", "gray10le", "gbrp", "gbrp12le", "yuv411p"):
        layout = Layout.of(name)
        assert layout is not None
        assert layout.name == name
    assert Layout.of("yuvj420p") == Layout.of("yuv420p")
    assert [Layout.of(name) for name in ("nv12", "yuva420p", "rgb24", "yuv420p10be", "grayf32le")] == [None] * 5
    assert Layout.of("gray32le") is None
