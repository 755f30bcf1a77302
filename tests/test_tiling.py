"""Tiles cover, weigh and blend as promised: equal to the whole where the network is local, without seams where not."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard, Restorer, load
from irsde_deploy.errors import EngineError, InvalidValueError, OutOfMemoryError
from irsde_deploy.noise import seeded_noise
from irsde_deploy.runtimes import numpy_loop, tile_choice
from irsde_deploy.runtimes.drivers.host import HostDriver
from irsde_deploy.runtimes.onnx_engine import OnnxDeviceEngine
from irsde_deploy.tiling import Tiling

SIZES = [(64, 64, 16), (65, 65, 1), (129, 200, 1), (128, 208, 16), (4000, 3008, 16), (40, 300, 4)]


@pytest.mark.parametrize(("height", "width", "multiple"), SIZES)
@pytest.mark.parametrize(("side", "overlap"), [(64, 16), (64, 32), (48, 0), (50, 7)])
def test_tiles_cover_on_the_networks_grid_and_weights_sum_to_one(
    height: int, width: int, multiple: int, side: int, overlap: int
) -> None:
    tiles = Tiling(side, overlap).over(height, width, multiple)
    total = np.zeros((height, width))
    for tile in tiles:
        rows, columns = tiles.window(tile)
        assert rows.start % multiple == columns.start % multiple == 0
        assert tiles.weights(tile).shape == tiles.size == total[rows, columns].shape
        total[rows, columns] += tiles.weights(tile)
    np.testing.assert_allclose(total, 1, atol=2e-7)
    for axis in (tiles.rows, tiles.columns):
        for before, after in zip(axis.starts, axis.starts[1:], strict=False):
            assert before < after <= before + axis.side - min(overlap, axis.side // 2 // multiple * multiple)


def test_a_tile_counts_least_where_it_sees_least() -> None:
    weights = Tiling(64, 16).over(64, 160, 1).columns.weights
    assert weights[0, 0] == 1  # the picture's own border
    assert weights[0, -1] < 0.01
    assert weights[1, 0] < 0.01
    assert (np.diff(weights[1, :17]) >= 0).all()


class LocalEngine:
    """A network that sees `REACH` pixels around each, zeros beyond the border: exact wherever a tile sees enough."""

    REACH = 4
    name = "local"

    def __init__(self, multiple: int = 4) -> None:
        self.card = ModelCard(
            "local", {}, 3, multiple, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005), global_operators=False
        )
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.shapes.add(x.shape)
        reach = self.REACH
        padded = np.pad(np.tanh(3 * (x - mu)) + 0.1 * mu, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), (2, 3))
        return windows.mean((-2, -1), dtype=np.float64).astype(np.float32)


def test_a_local_network_errs_only_where_its_view_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights of zero within its reach of a tile's border, tiles give the whole picture to the last rounding."""
    engine = LocalEngine()
    x, mu = np.random.default_rng(0).random((2, 1, 3, 96, 116), dtype=np.float32)
    t = np.array([50], np.float32)
    whole = engine(x, mu, t)
    tiles = Tiling(48, 16).over(96, 116, 4)
    blended = np.zeros_like(x)
    for tile in tiles:
        rows, columns = tiles.window(tile)
        inside = [np.zeros(side, bool) for side in tiles.size]
        for own, axis, number in ((inside[0], tiles.rows, tile[0]), (inside[1], tiles.columns, tile[1])):
            own[engine.REACH if number else 0 : axis.side - (engine.REACH if number + 1 < len(axis.starts) else 0)] = 1
        eps = engine(x[:, :, rows, columns], mu[:, :, rows, columns], t)
        exact = inside[0][:, None] & inside[1]
        np.testing.assert_allclose(eps[:, :, exact], whole[:, :, rows, columns][:, :, exact], atol=1e-6)
        blended[:, :, rows, columns] += tiles.weights(tile) * eps
    cut = tiles.columns.weights[1][: engine.REACH].max()  # the largest weight of a pixel whose view is cut
    assert np.abs(blended - whole).max() < cut * np.abs(whole).max()


def test_one_tile_is_the_whole_picture(unet_onnx: Path) -> None:
    restorer = load(unet_onnx)
    picture = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    np.testing.assert_array_equal(restorer(picture, "sde-2m", 3, tile=64, overlap=32), restorer(picture, "sde-2m", 3))


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
@pytest.mark.parametrize("clip", [False, True])
def test_the_device_loop_cuts_and_blends_as_the_numpy_loop_does(
    onnx_of: Callable[[str], Path], name: str, clip: bool
) -> None:
    path = onnx_of(name)
    device = Restorer(OnnxDeviceEngine.open(path, HostDriver(), "cpu"))
    picture = np.random.default_rng(1).random((2, 70, 90, 3), dtype=np.float32)
    settings = {"sampler": "sde-2m", "steps": 3, "clip": clip, "tile": 48, "overlap": 16}
    for _ in range(2):  # recorded, then replayed
        found = device(picture, **settings)
    expected = load(path)(picture, **settings)
    assert np.abs(found - expected).max() < 1e-6
    assert np.abs(device(picture, "sde-2m", 3, clip=clip) - expected).max() > 1e-4, "tiles change what is global"


def test_half_precision_on_the_device_sums_in_single(onnx_of: Callable[[str], Path]) -> None:
    class Half(OnnxDeviceEngine):
        """x, mu and eps travel as float16; the network still computes in float32."""

        io_type = np.float16

        def evaluation(self, shape, stream):  # type: ignore[no-untyped-def]
            size = (shape[0], 3, *shape[1:])

            def view(pointer: int, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
                count = int(np.prod(shape)) * np.dtype(dtype).itemsize
                return np.frombuffer((ctypes.c_char * count).from_address(pointer), dtype).reshape(shape)

            def run(x: int, mu: int, t: int, eps: int, stream: int) -> None:
                def work() -> None:
                    given = {"x": view(x, np.float16, size), "mu": view(mu, np.float16, size)}
                    given = {key: value.astype(np.float32) for key, value in given.items()}
                    (out,) = self._session.run(["eps"], {**given, "t": view(t, np.float32, shape[:1])})
                    view(eps, np.float16, size)[:] = out

                self.driver.submit(work)

            return run

    engine = Half.open(onnx_of("nafnet_w16"), HostDriver(), "cpu")
    mu = np.random.default_rng(1).random((1, 3, 70, 90), dtype=np.float32)
    table, noise, tiling = engine.card.plan("mean", 1), seeded_noise(0, mu.shape), Tiling(48, 16)
    expected = numpy_loop.restore(engine, mu, table, noise, tiling=tiling)
    found = Restorer(engine)(mu.transpose(0, 2, 3, 1), "mean", 1, tile=48, overlap=16).transpose(0, 3, 1, 2)
    eps = (expected - mu - table.p[0] * table.start * noise(0)) / table.r[0]
    rounding = 1.01 * abs(table.r[0]) * np.abs(eps).max() * 2**-11
    assert 0 < np.abs(found - expected).max() < rounding


def test_seams_err_no_more_than_the_inside(onnx_of: Callable[[str], Path]) -> None:
    """Against the whole picture, on networks with global operators: profile of the error across tile borders."""
    for name in ("unet_nf8_depth4", "nafnet_w16"):
        restorer = load(onnx_of(name))
        picture = np.random.default_rng(2).random((96, 224, 3), dtype=np.float32)
        whole = restorer(picture, "sde-2m", 4)
        error = np.abs(restorer(picture, "sde-2m", 4, tile=96, overlap=32) - whole).mean((0, 2))
        seams = Tiling(96, 32).over(96, 224, restorer.card.multiple_of).columns.seams
        across = np.abs(np.subtract.outer(np.arange(224) + 0.5, seams)).min(1) < 8
        assert error[across].mean() <= 1.05 * error[~across].mean(), (name, error[across].mean(), error[~across].mean())


class ScarceEngine(LocalEngine):
    """Has memory for so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        if x[0, 0].size > self.pixels:
            raise OutOfMemoryError("there is no memory left")
        return super().__call__(x, mu, t)


def test_smaller_tiles_where_memory_runs_out() -> None:
    picture = np.random.default_rng(3).random((300, 200, 3), dtype=np.float32)
    restorer = Restorer(ScarceEngine(200 * 200))
    restored = restorer(picture, "mean", 2, tile="auto", overlap=32)
    assert restorer.tiling == Tiling(192, 32)
    np.testing.assert_array_equal(restored, Restorer(LocalEngine())(picture, "mean", 2, tile=192, overlap=32))
    assert restorer(picture, "mean", 1, tile=256, overlap=32).shape == picture.shape
    assert restorer.tiling == Tiling(192, 32)
    with pytest.raises(OutOfMemoryError):
        restorer(picture, "mean", 2)
    with pytest.raises(MemoryError):
        Restorer(ScarceEngine(100))(picture, "mean", 2, tile="auto")


def test_auto_is_whole_where_there_is_room_and_tiles_where_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine()
    engine.card = replace(engine.card, network="ConditionalNAFNet", settings={"width": 10})  # at most 320 bytes a pixel
    shape = (1, 1000, 1000, 3)
    for available, expected in ((2**30, None), (420e6, Tiling(768)), (1e6, Tiling(128))):
        monkeypatch.setattr(tile_choice, "available_memory", lambda value=available: int(value))
        assert tile_choice.choices(engine, shape, "auto")[0] == expected
    monkeypatch.setattr(tile_choice, "available_memory", lambda: None)
    assert tile_choice.choices(engine, shape, "auto")[0] is None


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (0, 0, "side must be"),
        (64, 33, "can overlap by 0 to 32 pixels"),
        (64, -1, "can overlap by 0 to 32 pixels"),
        ("big", 64, "'auto' or None"),
        (2**17, 64, "side must be"),
    ],
)
def test_tiles_that_cannot_be(tile: object, overlap: int, message: str) -> None:
    picture = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(InvalidValueError, match=message):
        Restorer(LocalEngine())(picture, "mean", 1, tile=tile, overlap=overlap)


def test_an_answer_of_another_shape_is_an_error() -> None:
    class Wrong(LocalEngine):
        def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
            return x[:, :, :1]

    for tile in (None, 16):
        with pytest.raises(EngineError, match="answered with the shape"):
            Restorer(Wrong())(np.zeros((32, 32, 3), np.float32), "mean", 1, tile=tile, overlap=4)
