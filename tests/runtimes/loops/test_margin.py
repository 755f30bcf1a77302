"""Restoring with a margin is surrounding the picture, restoring that and cutting: to the bit, in every runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irsde_deploy import ModelCard, Restorer
from irsde_deploy.core.margin import evaluated, inside, mirrored, surround, surrounded
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.precision.trajectory import restore_seeded
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.engines.onnx_engine import OnnxDeviceEngine, OnnxEngine
from irsde_deploy.runtimes.engines.onnx_session import open_session
from irsde_deploy.runtimes.loops import tile_choice
from irsde_deploy.runtimes.loops.footprint import bytes_per_pixel, loop_bytes
from irsde_deploy.runtimes.protocol import Engine

Opener = Callable[[ModelCard], Engine]

CASES = [((21, 34), 8), ((21, 34), 3), ((3, 50), 16), ((1, 2), 5), ((1, 1), 4)]
"""Picture and margin: an even and an odd one; one that is wider than the picture; sides of a pixel."""


def with_margin(card: ModelCard, margin: int) -> ModelCard:
    return replace(card, margin=margin)


@pytest.fixture(params=["numpy", "device"])
def engine_with(request: pytest.FixtureRequest, small_onnx: Path) -> Opener:
    """A function that opens one network with a card, for the loop in NumPy and the one on a device."""
    if request.param == "device" and shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels with")

    def opened(card: ModelCard) -> Engine:
        if request.param == "numpy":
            return OnnxEngine.from_bytes(small_onnx.read_bytes(), card)
        return OnnxDeviceEngine(open_session(small_onnx), card, HostDriver(), "cpu")

    return opened


@pytest.fixture
def card(small_onnx: Path) -> ModelCard:
    return read_model(small_onnx)[1]


def by_hand(restorer: Restorer, picture: np.ndarray, margin: int, **settings: Any) -> np.ndarray:
    """Surrounded, restored without a margin, cut: (H, W, 3)."""
    planes = np.moveaxis(picture, -1, 0)
    height, width = planes.shape[1:]
    around = np.pad(planes, [(0, 0), (margin, margin), (margin, margin)], mode="reflect")
    restored = restorer(np.ascontiguousarray(np.moveaxis(around, 0, -1)), **settings)
    return restored[margin : margin + height, margin : margin + width]


@pytest.mark.parametrize("margin", [0, 1, 4, 7, 30])
@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_lines_are_mirrored_as_numpy_reflects(side: int, margin: int) -> None:
    """Again and again, where the margin is wider than the picture; `np.pad` is a reference of other hands."""
    line = np.arange(side)
    np.testing.assert_array_equal(mirrored(side, margin), np.pad(line, margin, mode="reflect"))
    pictures = np.random.default_rng(0).random((2, 3, side, 5))
    around = surround(pictures, margin)
    assert around.shape == (2, 3, *surrounded(side, 5, margin))
    np.testing.assert_array_equal(inside(around, margin), pictures)


def test_the_network_sees_the_margin_and_is_padded_beyond_it() -> None:
    assert evaluated(21, 34, 3, 8) == (32, 40)
    assert evaluated(16, 1, 0, 8) == (16, 8)


@pytest.mark.parametrize(("size", "margin"), CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_margin_is_surrounding_restoring_and_cutting(
    engine_with: Opener, card: ModelCard, size: tuple[int, int], margin: int, dtype: type
) -> None:
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    picture = (np.random.default_rng(1).random((*size, 3)) * top).astype(dtype)
    plain, wide = Restorer(engine_with(card)), Restorer(engine_with(with_margin(card, margin)))
    for settings in ({}, {"sampler": "mean", "steps": 2, "clip": True, "seed": 2**40}):
        found = wide(picture, **settings)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, by_hand(plain, picture, margin, **settings))


def test_batches_frames_tiles_and_given_noise(engine_with: Opener, card: ModelCard) -> None:
    """A batch has its own noise for each frame; tiles cover the surrounded picture; given noise is of its size."""
    margin = 6
    pictures = np.random.default_rng(2).random((2, 40, 29, 3), dtype=np.float32)
    plain, wide = Restorer(engine_with(card)), Restorer(engine_with(with_margin(card, margin)))
    batch = wide(pictures, frames=[3, 9])
    for number, frame in enumerate((3, 9)):
        expected = by_hand(plain, pictures[number], margin, frames=[frame])
        np.testing.assert_allclose(batch[number], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(
        wide(pictures[0], tile=16, overlap=4), by_hand(plain, pictures[0], margin, tile=16, overlap=4)
    )
    noise = np.random.default_rng(3).normal(size=(4, 1, 3, 52, 41)).astype(np.float32)
    np.testing.assert_array_equal(wide(pictures[0], noise=noise), by_hand(plain, pictures[0], margin, noise=noise))
    with pytest.raises(InvalidValueError, match=r"noise must have the shape \(4, 1, 3, 52, 41\)"):
        wide(pictures[0], noise=noise[..., 6:-6, 6:-6])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
@pytest.mark.parametrize("bgr", [False, True])
def test_pictures_that_are_on_the_device_already(small_onnx: Path, card: ModelCard, bgr: bool) -> None:
    """A crop of a larger frame, restored in place: nothing around it is written."""
    restorers = []
    for margin in (0, 5):
        engine = OnnxDeviceEngine(open_session(small_onnx), with_margin(card, margin), HostDriver(), "cpu")
        restorers.append(Restorer(engine))
    frame = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    crop = frame[4:25, 7:33]
    before = frame.copy()
    expected = by_hand(restorers[0], crop[..., ::-1] if bgr else crop, 5)
    given = DeviceArray.of(crop)
    assert restorers[1].on_device(given, out=given, bgr=bgr) is not None
    np.testing.assert_array_equal(crop[..., ::-1] if bgr else crop, expected)
    frame[4:25, 7:33] = before[4:25, 7:33]
    np.testing.assert_array_equal(frame, before)


def test_precisions_are_measured_with_the_margin(small_onnx: Path, card: ModelCard) -> None:
    """`restore_seeded`, by which FP16 and INT8 are compared with FP32, restores what a `Restorer` does."""
    wide = OnnxEngine.from_bytes(small_onnx.read_bytes(), with_margin(card, 6))
    mu = np.random.default_rng(5).random((1, 3, 17, 20), dtype=np.float32)
    expected = Restorer(wide)(np.moveaxis(mu, 1, -1), seed=2023)
    found = restore_seeded(wide, mu, card.plan().table)
    np.testing.assert_array_equal(np.moveaxis(found, 1, -1), expected)


def test_tiles_are_chosen_for_the_surrounded_picture(monkeypatch: pytest.MonkeyPatch, small_onnx: Path) -> None:
    """Memory for the picture alone is too little for the picture with its margin."""
    card = replace(read_model(small_onnx)[1], network="ConditionalNAFNet", settings={"width": 16})
    shape, each = (1, 512, 512, 3), bytes_per_pixel(card)
    assert each is not None
    enough = (each * 512 * 512 + loop_bytes(shape)) / tile_choice.SHARE + 1
    monkeypatch.setattr(tile_choice, "available_memory", lambda: enough)
    first = {}
    for margin in (0, 16):
        engine = OnnxEngine.from_bytes(small_onnx.read_bytes(), with_margin(card, margin))
        first[margin] = tile_choice.choices(engine, shape, "auto")[0]
    assert first[0] is None
    assert first[16] is not None


def test_a_fallback_has_the_same_margin(small_onnx: Path, card: ModelCard) -> None:
    engines = [OnnxEngine.from_bytes(small_onnx.read_bytes(), with_margin(card, margin)) for margin in (0, 8)]
    with pytest.raises(InvalidValueError, match="its margin is 8, and this one's is 0"):
        Restorer(engines[0], Restorer(engines[1]))
