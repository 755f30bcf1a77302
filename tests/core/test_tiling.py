"""Tiles cover, weigh and blend as promised: equal to the whole where the network is local, without seams where not."""

from __future__ import annotations

import csv
import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import ASSETS

from irsde_deploy import MeanRevertingSDE, ModelCard, Restorer, load
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import EngineError, InvalidValueError, OutOfMemoryError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.restoring import Restoring
from irsde_deploy.pictures.targets import choose_quality
from irsde_deploy.reports.tiles import compare_tiled
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.engines.onnx_engine import OnnxDeviceEngine
from irsde_deploy.runtimes.loops import numpy_loop, tile_choice
from irsde_deploy.runtimes.loops.footprint import loop_bytes
from irsde_deploy.system.memory import SHARE

SIZES = [(64, 64, 16), (65, 65, 1), (129, 200, 1), (128, 208, 16), (400, 3008, 16), (40, 300, 4)]


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
            assert before < after <= before + axis.side - overlap


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


def test_a_local_network_errs_only_where_its_view_is_cut() -> None:
    """With weights of zero within its reach of a tile's border, tiles give the whole picture to the last rounding."""
    engine = LocalEngine()
    x, mu = np.random.default_rng(0).random((2, 1, 3, 96, 116), dtype=np.float32)
    t = np.array([50], np.float32)
    whole = engine(x, mu, t)
    tiles = Tiling(48, 16).over(96, 116, 4)
    for tile in tiles:
        rows, columns = tiles.window(tile)
        inside = [np.zeros(side, bool) for side in tiles.size]
        for own, axis, number in ((inside[0], tiles.rows, tile[0]), (inside[1], tiles.columns, tile[1])):
            own[engine.REACH if number else 0 : axis.side - (engine.REACH if number + 1 < len(axis.starts) else 0)] = 1
        eps = engine(x[:, :, rows, columns], mu[:, :, rows, columns], t)
        exact = inside[0][:, None] & inside[1]
        np.testing.assert_allclose(eps[:, :, exact], whole[:, :, rows, columns][:, :, exact], atol=1e-6)
    blended = numpy_loop._blended(engine, tiles, x, mu, t)
    cut = tiles.columns.weights[1][: engine.REACH].max()  # the largest weight of a pixel whose view is cut
    assert np.abs(blended - whole).max() < cut * np.abs(whole).max()


def test_one_tile_is_the_whole_picture(unet_onnx: Path) -> None:
    restorer = load(unet_onnx)
    picture = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        restorer(picture, sampler="sde-2m", steps=3, tile=64, overlap=32), restorer(picture, sampler="sde-2m", steps=3)
    )


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("unet_nf8_depth4", False),
        ("nafnet_w16", True),
        pytest.param("unet_nf8_depth4", True, marks=pytest.mark.slow),
        pytest.param("nafnet_w16", False, marks=pytest.mark.slow),
    ],
)
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
    assert np.abs(device(picture, sampler="sde-2m", steps=3, clip=clip) - expected).max() > 1e-4, (
        "tiles change what is global"
    )


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
    table, noise, tiling = engine.card.plan(sampler="mean", steps=1).table, seeded_noise(0, mu.shape), Tiling(48, 16)
    expected = numpy_loop.restore(engine, mu, table, noise, tiling=tiling)
    found = Restorer(engine)(mu.transpose(0, 2, 3, 1), sampler="mean", steps=1, tile=48, overlap=16).transpose(
        0, 3, 1, 2
    )
    eps = (expected - mu - table.p[0] * table.start * noise(0)) / table.r[0]
    rounding = 1.01 * abs(table.r[0]) * np.abs(eps).max() * 2**-11
    assert 0 < np.abs(found - expected).max() < rounding


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
def test_seams_err_no_more_than_the_inside(onnx_of: Callable[[str], Path], name: str) -> None:
    """Against the whole picture, on networks with global operators."""
    picture = np.random.default_rng(2).random((96, 224, 3), dtype=np.float32)
    report = compare_tiled(load(onnx_of(name)), picture, Tiling(96, 32), Sampling(sampler="sde-2m", steps=4))
    assert len(report.column_seams) == 2
    assert report.across <= 1.05 * report.inside


def test_a_trained_model_makes_no_edges_where_tiles_overlap() -> None:
    restorer = load(ASSETS / "derain_nafnet_w16.safetensors")
    picture = read_picture(ASSETS / "rain.png").rgb[:128, :256]
    blended, apart = (compare_tiled(restorer, picture, Tiling(128, overlap)) for overlap in (32, 0))
    assert blended.across <= blended.inside
    assert blended.edge < 1.5 * blended.beside, "no more than a few large differences of one column and row account for"
    assert apart.edge > 3 * apart.beside, "tiles side by side do"


def test_twelve_megapixels_within_four_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine()
    engine.card = replace(engine.card, network="ConditionalNAFNet", settings={"width": 16})
    monkeypatch.setattr(tile_choice, "available_memory", lambda: 2**32)
    way = tile_choice.choices(engine, (1, 3000, 4000, 3), "auto")[0]
    assert way == Tiling(1536, 64)
    assert loop_bytes((1, 3000, 4000, 3)) + 40 * 16 * way.side**2 < SHARE * 2**32


def test_pictures_of_one_size_are_cut_alike_whatever_memory_does_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine()
    engine.card = replace(engine.card, network="ConditionalNAFNet", settings={"width": 16})
    picture = np.random.default_rng(3).random((1, 260, 200, 3), dtype=np.float32)
    restoring = Restoring(Restorer(engine), Sampling(sampler="mean", steps=1, tile="auto"))
    for available in (2**20, 2**34, 2**34):
        monkeypatch.setattr(tile_choice, "available_memory", lambda value=available: value)
        restoring(picture)
        assert restoring.restorer.tiling == restoring.way(picture.shape) == Tiling(128, 64)
    restoring(picture[:, :250])
    assert restoring.restorer.tiling is None, "another size is another matter"


def test_what_was_whole_goes_into_tiles_when_memory_runs_out() -> None:
    engine = ScarceEngine(10**9)
    picture = np.random.default_rng(3).random((1, 260, 200, 3), dtype=np.float32)
    restoring = Restoring(Restorer(engine), Sampling(sampler="mean", steps=1, tile="auto"))
    restoring(picture)
    engine.pixels = 200 * 200
    restoring(picture)
    assert restoring.restorer.tiling == Tiling(192, 64)
    whole = Restoring(Restorer(engine), Sampling(sampler="mean", steps=1))
    with pytest.raises(OutOfMemoryError):
        whole(picture)


def test_an_overlap_is_never_lost_to_the_networks_multiple() -> None:
    for side, overlap, multiple, expected in ((16, 8, 16, (32, 16)), (64, 32, 64, (128, 64)), (64, 16, 16, (64, 16))):
        tiling = Tiling(side, overlap).on_grid(multiple)
        assert (tiling.side, tiling.overlap) == expected
        weights = tiling.over(8 * multiple, 8 * multiple, multiple).columns.weights
        assert len(weights) == 1 or weights[0, -1] < 0.1


class ScarceEngine(LocalEngine):
    """Has memory for so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        if x[0, 0].size > self.pixels:
            raise OutOfMemoryError("there is no memory left")
        return super().__call__(x, mu, t)


def test_smaller_tiles_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(3).random((300, 200, 3), dtype=np.float32)
    restorer = Restorer(ScarceEngine(200 * 200))
    restored = restorer(picture, sampler="mean", steps=2, tile="auto", overlap=32)
    assert restorer.tiling == Tiling(192, 32)
    np.testing.assert_array_equal(
        restored, Restorer(LocalEngine())(picture, sampler="mean", steps=2, tile=192, overlap=32)
    )
    assert restorer(picture, sampler="mean", steps=1, tile=256, overlap=32).shape == picture.shape
    assert restorer.tiling == Tiling(192, 32)
    with pytest.raises(OutOfMemoryError):
        restorer(picture, sampler="mean", steps=2)
    with pytest.raises(MemoryError):
        Restorer(ScarceEngine(100))(picture, sampler="mean", steps=2, tile="auto")
    monkeypatch.setattr(ScarceEngine, "__call__", lambda *_: np.empty(2**50))
    with pytest.raises(OutOfMemoryError, match=r"not enough memory \(Unable to allocate .*\): use smaller tiles or a"):
        Restorer(ScarceEngine(100))(picture, sampler="mean", steps=2, tile="auto")


def test_an_evaluation_is_timed_in_the_samplings_tiles() -> None:
    picture = np.random.default_rng(3).random((300, 200, 3), dtype=np.float32)
    restorer = Restorer(ScarceEngine(200 * 200))
    assert restorer.seconds_per_evaluation(picture, Sampling(tile="auto", overlap=32), repeats=1) > 0
    assert choose_quality(1e9, restorer, Sampling(tile=192), picture[None]).quality == "best"
    with pytest.raises(OutOfMemoryError):
        restorer.seconds_per_evaluation(picture)
    with pytest.raises(TypeError, match="tile"):
        restorer.seconds_per_evaluation(picture, tile=192)
    with pytest.raises(InvalidValueError, match="sampling must be a Sampling, not 3"):
        restorer.seconds_per_evaluation(picture, 3)


def test_auto_is_whole_where_there_is_room_and_tiles_where_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine()
    engine.card = replace(engine.card, network="ConditionalNAFNet", settings={"width": 8})  # at most 320 bytes a pixel
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
        Restorer(LocalEngine())(picture, sampler="mean", steps=1, tile=tile, overlap=overlap)


def test_an_answer_of_another_shape_is_an_error() -> None:
    class Wrong(LocalEngine):
        def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
            return x[:, :, :1]

    for sampling in (one := Sampling(sampler="mean", steps=1), replace(one, tile=16, overlap=4)):
        with pytest.raises(EngineError, match="answered with the shape"):
            Restorer(Wrong())(np.zeros((32, 32, 3), np.float32), sampling)


def test_a_plans_profile_decides_where_memory_does_not(onnx_of: Callable[[str], Path]) -> None:
    class Small(OnnxDeviceEngine):
        """Built for sides up to 144, as a plan's profile would be."""

        def takes(self, shape: tuple[int, int, int]) -> bool:
            return max(shape[1:]) <= 144

    restorer = Restorer(Small.open(onnx_of("nafnet_w16"), HostDriver(), "cpu"))
    picture = np.random.default_rng(1).random((136, 200, 3), dtype=np.float32)
    restored = restorer(picture, sampler="mean", steps=1, tile="auto", overlap=16)
    assert restorer.tiling == Tiling(128, 16)
    assert (
        np.abs(restored - load(onnx_of("nafnet_w16"))(picture, sampler="mean", steps=1, tile=128, overlap=16)).max()
        < 1e-6
    )
    restorer(picture[:130, :140], sampler="mean", steps=1, tile="auto", overlap=16)
    assert restorer.tiling is None, "144 is what 130 and 140 are padded to"


def test_run_and_verify_by_tiles(
    onnx_of: Callable[[str], Path], tmp_path: Path, succeeds: Callable[..., tuple[str, str]], fails_with
) -> None:
    engine = onnx_of("nafnet_w16")
    picture = np.random.default_rng(4).integers(0, 256, (48, 112, 3), dtype=np.uint8)
    write_picture(tmp_path / "in.png", Picture(picture))

    def command(*arguments: object) -> str:
        return "".join(succeeds(*arguments))

    sampling = ("--sampler", "mean", "--steps", 2)
    told = command(
        "run",
        "--engine",
        engine,
        tmp_path / "in.png",
        "-o",
        tmp_path / "out.png",
        "--tile",
        48,
        "--overlap",
        16,
        *sampling,
    )
    assert "note: restored in tiles of 48 with an overlap of 16" in told
    restorer = load(engine)
    expected = restorer(picture, sampler="mean", steps=2, tile=48, overlap=16)
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").rgb, expected)

    files = ("--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.png")
    told = command(
        "verify",
        engine,
        "--tiled",
        48,
        "--overlap",
        16,
        "--picture",
        tmp_path / "in.png",
        *sampling,
        "--seed",
        0,
        *files,
    )
    mu = picture.astype(np.float32) / 255
    whole, tiled = restorer(mu, sampler="mean", steps=2), restorer(mu, sampler="mean", steps=2, tile=48, overlap=16)
    decibels = -10 * np.log10(np.mean((tiled.astype(np.float64) - whole) ** 2))
    assert f"tiles of 48 with an overlap of 16 against the whole picture: {decibels:.2f} dB" in told
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    columns = [float(row["mean_difference"]) for row in rows if row["axis"] == "column"]
    np.testing.assert_allclose(columns, 255 * np.abs(tiled - whole).mean((0, 2)), rtol=1e-4)
    assert [row["position"] for row in rows if row["axis"] == "column" and row["seam"] == "1"] == [
        str(k) for k in (*range(32, 48), *range(64, 80))
    ], "tiles of 48 start at 0, 32 and 64, so seams are at 40 and 72"
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"

    fails_with(2, "fits into one of the tiles", "verify", engine, "--tiled", 512, "--picture", tmp_path / "in.png")
    fails_with(2, "add --picture", "verify", engine, "--tiled", 48)
    fails_with(2, "or --tiled SIDE", "verify", engine)
    arguments = ("run", "--engine", engine, tmp_path / "in.png", "-o", tmp_path / "new.png")
    fails_with(2, "auto or whole, not 'big'", *arguments, "--tile", "big")
    fails_with(2, "side must be", *arguments, "--tile", "0")
    fails_with(2, "can overlap by 0 to 1024", *arguments, "--overlap", "-1")
