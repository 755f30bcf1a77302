"""What a device loop keeps from picture to picture, when it waits, and what it does where memory is short."""

from __future__ import annotations

import gc
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from lazy_driver import CARD, LazyDriver, Mixing, MixingOnDevice, mixed

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.noise import MAX_SEED, NoiseSource, given_noise, seeded_noise
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import EngineError, InvalidValueError, NotFiniteError, OutOfMemoryError
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers import lock_of, own_stream
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.loops.device_loop import DeviceLoop
from irsde_deploy.runtimes.loops.numpy_loop import NumpyLoop

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
A, B, C, D = (1, 16, 16, 3), (1, 21, 34, 3), (2, 16, 16, 3), (1, 40, 8, 3)


@pytest.fixture
def driver() -> LazyDriver:
    return LazyDriver()


def batch_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


def given(shape: tuple[int, ...], steps: int = 3) -> NoiseSource:
    planes = (shape[0], shape[3], *shape[1:3])
    values = np.random.default_rng(1).standard_normal((steps + 1, *planes), dtype=np.float32)
    return given_noise(values, steps, planes)


def assert_same(
    loop: DeviceLoop, shape: tuple[int, ...], steps: int = 3, clip: bool = False, tiling: Tiling | None = None
) -> None:
    """The loop gives NumPy's picture, to the bit: its noise is given, and its network the same arithmetic."""
    arguments = (batch_of(shape), loop.engine.card.plan(steps=steps, clip=clip), given(shape, steps))
    expected = NumpyLoop(Mixing(loop.engine.card))(*arguments, tiling=tiling)
    np.testing.assert_array_equal(loop(*arguments, tiling=tiling), expected)


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("tiling", [None, Tiling(48, 16)])
def test_a_device_that_takes_its_time_gives_the_same(
    driver: LazyDriver, capturable: bool, tiling: Tiling | None
) -> None:
    """Also in tiles that are no squares, since the picture is narrower than they are."""
    loop = DeviceLoop(MixingOnDevice(driver, capturable=capturable))
    for shape in ((1, 70, 30, 3), (2, 20, 90, 3), (1, 70, 30, 3)):
        for clip in (False, True):
            assert_same(loop, shape, clip=clip, tiling=tiling)


class HalfMixing(Mixing):
    """As a device with half-precision tensors computes: x, mu and eps carry 11 bits."""

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        rounded = (array.astype(np.float16).astype(np.float32) for array in (x, mu))
        return mixed(*rounded, t).astype(np.float16).astype(np.float32)


def test_tiles_of_half_precision_fill_the_whole(driver: LazyDriver) -> None:
    """Their sum is rounded once more than NumPy's."""
    loop = DeviceLoop(MixingOnDevice(driver, io_type=np.float16))
    for shape in ((1, 70, 30, 3), (2, 70, 90, 3)):
        arguments = (batch_of(shape), CARD.plan(sampler="mean", steps=3, t0=60), given(shape))
        for tiling in (None, Tiling(48, 16)):
            expected = NumpyLoop(HalfMixing())(*arguments, tiling=tiling)
            found = loop(*arguments, tiling=tiling)
            assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()


def test_the_size_unused_for_longest_goes_and_its_graphs_with_it(driver: LazyDriver) -> None:
    engine = MixingOnDevice(driver)
    loop = DeviceLoop(engine)
    for shape in (A, B, C, A, D, A, C, D):
        assert_same(loop, shape)
    assert engine.shapes == [(1, 16, 16), (1, 32, 48), (2, 16, 16), (1, 48, 16)], "B made room for D"
    assert driver.captures - driver.released == 3
    assert_same(loop, B)
    assert len(engine.shapes) == 5, "three sizes are kept, and B is a fourth"
    assert driver.captures - driver.released == 3


def test_whole_and_in_tiles_are_different_sizes(driver: LazyDriver) -> None:
    loop = DeviceLoop(MixingOnDevice(driver))
    for tiling in (None, Tiling(16, 4), Tiling(32, 4), None):
        assert_same(loop, (1, 40, 40, 3), tiling=tiling)
    assert driver.captures == 3


def test_a_table_is_recorded_once_unless_its_buffers_must_grow(driver: LazyDriver) -> None:
    """Graphs that know the old addresses go; a shorter table has room where a longer one had."""
    loop, captures = DeviceLoop(MixingOnDevice(driver)), []
    for steps in (2, 7, 2, 7, 2):
        assert_same(loop, A, steps=steps)
        captures.append(driver.captures)
    assert captures == [1, 2, 3, 3, 3]
    assert driver.released == 1


def test_an_engine_evaluates_once_before_it_is_recorded(driver: LazyDriver) -> None:
    engine = MixingOnDevice(driver)
    loop = DeviceLoop(engine)
    assert_same(loop, A)
    assert len(engine.timesteps) == 1 + 3
    assert engine.timesteps[0] == engine.timesteps[1]
    assert_same(loop, A)
    assert len(engine.timesteps) == 4, "the graph does the rest"


def test_garbage_is_collected_as_before_once_the_steps_are_recorded(driver: LazyDriver) -> None:
    assert gc.isenabled()
    assert_same(DeviceLoop(MixingOnDevice(driver)), A)  # the driver looks that it is not while they are
    assert gc.isenabled()
    gc.disable()
    try:
        assert_same(DeviceLoop(MixingOnDevice(driver)), A)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_each_picture_of_a_large_batch_has_its_timestep_at_an_aligned_address(driver: LazyDriver) -> None:
    """65 timesteps take more than the 256 bytes that TensorRT wants a pointer to be a multiple of."""
    engine = MixingOnDevice(driver, capturable=False)
    assert_same(DeviceLoop(engine), (65, 2, 3, 3))
    assert [at - engine.timesteps[0] for at in engine.timesteps] == [0, 512, 1024]


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1, 2**32, MAX_SEED])
def test_all_bits_of_a_seed_count(driver: LazyDriver, seed: int) -> None:
    """Drawn by kernels and by NumPy, whose sines may differ in the last place."""
    planes = (2, 3, 16, 16)
    arguments = (batch_of(C), CARD.plan(), seeded_noise(seed, planes, (0, 2**32 - 1)))
    expected = NumpyLoop(Mixing())(*arguments)
    found = DeviceLoop(MixingOnDevice(driver))(*arguments)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_other_sizes_make_room_where_there_is_too_little(driver: LazyDriver) -> None:
    engine = MixingOnDevice(driver)
    loop = DeviceLoop(engine)
    assert_same(loop, (1, 64, 64, 3))
    both = driver.held
    driver.room = both + both // 2
    assert_same(loop, (1, 64, 60, 3))
    assert len(engine.shapes) == 3, "the second was tried, found no room, and was made once more"
    assert driver.captures - driver.released == 1
    driver.room = 1000
    with pytest.raises(OutOfMemoryError):
        loop(batch_of(D), CARD.plan(), given(D))
    assert driver.held == 0, "all that was kept went in vain"


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_what_is_not_finite_is_found_where_it_began(driver: LazyDriver, capturable: bool, clip: bool) -> None:
    """A picture's NaN before any step; a network's after its own, which the clip must not hide."""
    plan = CARD.plan(clip=clip)
    for loop in (DeviceLoop(MixingOnDevice(driver, capturable=capturable)), NumpyLoop(Mixing())):
        picture = batch_of(B)
        picture[0, 20, 33, 2] = np.nan
        with pytest.raises(InvalidValueError, match="the picture has NaN or infinite values"):
            loop(picture, plan, given(B))
        picture[0, 20, 33, 2] = 3e38  # finite, and times t it is not
        with pytest.raises(NotFiniteError, match=r"after step 1 of 3 \(t = 100\) .* in fp32 on mixing: the weights or"):
            loop(picture, plan, given(B))
    low = DeviceLoop(MixingOnDevice(driver, replace(CARD, precision="fp16")))
    with pytest.raises(NotFiniteError, match="in fp16 on mixing: give an FP32 engine as fallback"):
        low(picture, plan, given(B))


def test_progress_is_told_when_a_step_is_done(driver: LazyDriver) -> None:
    for capturable, expected in ((False, [0, 1, 2, 3]), (True, [0, 3])):
        told: list[int] = []
        loop = DeviceLoop(MixingOnDevice(driver, capturable=capturable))

        def tell(step: int, told: list[int] = told) -> None:
            assert step == 0 or not driver._waiting
            told.append(step)

        loop(batch_of(A), CARD.plan(), given(A), on_step=tell)
        assert told == expected


def test_whoever_writes_a_picture_or_to_its_place_is_waited_for(driver: LazyDriver) -> None:
    loop = DeviceLoop(MixingOnDevice(driver))
    driver.activate()
    there, out = (DeviceArray.empty(driver, A, np.float32) for _ in range(2))
    loop.on_device(replace(there, stream=5), CARD.plan(), given(A), out=replace(out, stream=6))
    assert {5, 6} <= set(driver.waited)
    with pytest.raises(InvalidValueError, match=r"out must be float32 of the shape \(1, 16, 16, 3\), not"):
        loop.on_device(there, CARD.plan(), given(A), out=DeviceArray.empty(driver, C, np.float32))


def test_threads_never_meet_on_one_device() -> None:
    """Two ways into the loop, two loops, and the engine itself: each evaluation is alone."""
    engine = MixingOnDevice(HostDriver(), capturable=False, seconds=0.003)
    loops = [DeviceLoop(engine) for _ in range(2)]
    there = DeviceArray.of(batch_of(A))
    x, t = np.ones((1, 3, 16, 16), np.float32), np.ones(1, np.float32)
    ways = [
        lambda: loops[0](batch_of(A), CARD.plan(), given(A)),
        lambda: loops[1].on_device(there, CARD.plan(), given(A)),
        lambda: engine(x, x, t),
    ]
    for first, second in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2)):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda way: way(), [ways[first], ways[second]] * 2))
        assert engine.overlaps == 0


def test_every_thread_makes_the_device_its_own(driver: LazyDriver) -> None:
    loop = DeviceLoop(MixingOnDevice(driver))
    there = DeviceArray.of(batch_of(A))
    x, t = np.ones((1, 3, 16, 16), np.float32), np.ones(1, np.float32)
    for use in (
        lambda: loop(batch_of(A), CARD.plan(), given(A)),
        lambda: loop.on_device(there, CARD.plan(), given(A)).to_host(driver),
        lambda: loop.engine(x, x, t),
    ):
        driver._active.clear()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(use).result()


def test_a_driver_has_one_stream_and_one_lock_which_may_be_taken_twice(driver: LazyDriver) -> None:
    streams = iter((11, 12))
    driver.new_stream = lambda: next(streams)  # type: ignore[method-assign]
    assert own_stream(driver) == own_stream(driver) == 11
    lock = lock_of(driver)
    assert lock is lock_of(driver)
    assert lock is not lock_of(LazyDriver())
    assert lock.acquire(blocking=False)
    assert lock.acquire(blocking=False), "a loop holds it while it calls an engine"
    lock.release()
    lock.release()


def test_a_recording_that_fails_is_over() -> None:
    driver, done = HostDriver(), []

    def fails() -> None:
        driver.submit(lambda: done.append("recorded"))
        raise ValueError("of the work's own")

    with pytest.raises(ValueError, match="of the work's own"):
        driver.capture(fails, 0)
    driver.submit(lambda: done.append("done"))
    assert done == ["done"]


def test_an_engine_called_with_arrays_of_any_size_order_and_type(driver: LazyDriver) -> None:
    """One after another: a batch that grows, lines that are not contiguous, half precision on the device."""
    rng = np.random.default_rng(0)
    for io_type, tolerance in ((np.float32, 0.0), (np.float16, 2.0**-8)):
        engine = MixingOnDevice(driver, io_type=io_type)
        for shape in ((1, 3, 16, 32), (2, 3, 16, 32), (2, 3, 16, 32), (1, 3, 32, 16)):
            x, mu = rng.random((2, *shape[:2], shape[3], shape[2]), dtype=np.float32).swapaxes(-1, -2)
            t = np.linspace(5, 60, shape[0], dtype=np.float32)
            eps = engine(x, mu, t)
            assert eps.dtype == np.float32
            np.testing.assert_allclose(eps, mixed(x, mu, t), rtol=tolerance, atol=tolerance)
        assert engine.shapes == [(1, 16, 32), (2, 16, 32), (1, 32, 16)]


def test_an_engines_memory_goes_before_it_asks_for_more(driver: LazyDriver) -> None:
    engine = MixingOnDevice(driver)
    x = np.zeros((1, 3, 64, 64), np.float32)
    engine(x, x, np.ones(1, np.float32))
    driver.room = driver.held + 1000
    x = np.zeros((1, 3, 64, 48), np.float32)
    engine(x, x, np.ones(1, np.float32))


class ForOne(Mixing):
    """Answers for the first picture of a batch alone."""

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return super().__call__(x, mu, t)[:1]


def test_an_answer_for_one_picture_of_a_batch_is_none() -> None:
    with pytest.raises(EngineError, match=r"answered with the shape \(1, 3, 16, 16\) where \(2, 3, 16, 16\) was"):
        NumpyLoop(ForOne())(batch_of(C), CARD.plan(), given(C))


def test_tiles_of_the_numpy_loop_cover_the_padding_too() -> None:
    """One tile that is larger than the padded picture is the whole picture."""
    card: ModelCard = replace(CARD, pad_mode="zero")
    arguments = (batch_of(B), card.plan(), given(B))
    whole, tiled = (NumpyLoop(Mixing(card))(*arguments, tiling=way) for way in (None, Tiling(48, 0)))
    np.testing.assert_allclose(tiled, whole, rtol=1e-5, atol=1e-5)
