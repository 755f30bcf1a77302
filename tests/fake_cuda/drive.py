"""Drives a driver of irsde-deploy for a GPU on the stand-in for libcuda: python drive.py DRIVER CHECK.

Run by tests/runtimes/device/test_drivers.py, each check in a process of its own, since a fault stays in its process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from irsde_deploy import MeanRevertingSDE
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.noise import NoiseSource, given_noise, seeded_noise
from irsde_deploy.core.sampling import Plan
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import EngineError, InvalidValueError, NotFiniteError
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers import Driver, open_driver
from irsde_deploy.runtimes.device.engine import DeviceEngine, Evaluation, PaddedShape
from irsde_deploy.runtimes.loops.device_loop import MAX_SIZES, DeviceLoop
from irsde_deploy.runtimes.loops.numpy_loop import NumpyLoop

RNG = np.random.default_rng(0)
SHAPE = (2, 21, 37, 3)  # sides that need padding, rows that are no multiple of four


def card(pad_mode: str = "reflect") -> ModelCard:
    sde = MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)
    return ModelCard("ConditionalUNet", {}, channels=3, multiple_of=16, pad_mode=pad_mode, sde=sde)


class NumpyNetwork:
    """The network that `KernelNetwork` is, in NumPy: eps = x + t mu in float32, or eps = x in float16."""

    name = "NumPy"

    def __init__(self, card: ModelCard, half: bool = False) -> None:
        self.card, self.half = card, half

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return x.astype(np.float16).astype(np.float32) if self.half else x + t[0] * mu


class KernelNetwork(DeviceEngine):
    """A network that can be captured on any driver, since it is one of our kernels.

    float32: the loop's start, y + mu with y = start * z, where z is the network's mu, mu its x and start its timestep.
    float16: the loading of a picture.
    """

    name = "kernels"

    def __init__(self, card: ModelCard, driver: Driver, half: bool = False, capturable: bool = True) -> None:
        self.card, self.driver, self.capturable = card, driver, capturable
        self.io_type = np.float16 if half else np.float32
        self.evaluations = 0

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        batch, height, width = shape
        pixels, plane = batch * 3 * height * width, height * width
        scratch = DeviceArray.empty(self.driver, (pixels,), np.float32)
        control = DeviceArray.empty(self.driver, (4,), np.uint32)
        size = (3, height, width, height, width)

        def start(x: int, mu: int, t: int, eps: int, stream: int) -> None:
            self.evaluations += 1
            self.driver.launch(
                "irsde_start_f32", pixels // 4, (scratch.pointer, eps, x, mu, control.pointer, t, *size), stream
            )

        def load(x: int, mu: int, t: int, eps: int, stream: int) -> None:
            self.evaluations += 1
            layout = (3 * plane, width, 1, plane, 0, 0)
            self.driver.launch("irsde_load_f16_f16", pixels, (x, scratch.pointer, eps, *layout, *size), stream)

        return start if self.io_type == np.float32 else load


def plan(steps: int = 5, clip: bool = False) -> Plan:
    return card().plan(sampler="sde-2m", steps=steps, clip=clip)


def seeded(seed: int) -> NoiseSource:
    return seeded_noise(seed, (SHAPE[0], SHAPE[3], *SHAPE[1:3]), range(SHAPE[0]))


def given(steps: int) -> NoiseSource:
    shape = (SHAPE[0], SHAPE[3], *SHAPE[1:3])
    return given_noise(RNG.standard_normal((steps + 1, *shape), dtype=np.float32), steps, shape)


def picture(dtype: Any = np.float32) -> np.ndarray:
    values = RNG.random(SHAPE, dtype=np.float32)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def expect(restored: np.ndarray, expected: np.ndarray, exact: bool) -> None:
    """Equal bits, or float32's rounding where the two draw the noise by different mathematics libraries."""
    assert restored.dtype == expected.dtype
    assert restored.shape == expected.shape
    if exact:
        np.testing.assert_array_equal(restored, expected)
    else:
        np.testing.assert_allclose(restored, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def upload(driver: Driver, array: np.ndarray) -> DeviceArray:
    there = DeviceArray.empty(driver, array.shape, array.dtype)
    stream = driver.new_stream()
    driver.upload(there.pointer, np.ascontiguousarray(array), stream)
    driver.synchronize(stream)
    return there


def raised(call: Callable[[], Any], kind: type[Exception]) -> str:
    """What a call complains of, which must be an error of this kind."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def refused(call: Callable[[], Any]) -> None:
    assert "the GPU refused" in raised(call, EngineError)


# ---- the methods of a driver ----


def check_copies(driver: Driver) -> None:
    stream = driver.new_stream()
    sent, back = RNG.random(1000), np.zeros(1000)
    pointer = driver.malloc(sent.nbytes)
    driver.upload(pointer, sent, stream)
    driver.download(back, pointer, stream)
    assert not back.any(), "work waits for a synchronization here"
    driver.synchronize(stream)
    np.testing.assert_array_equal(back, sent)
    driver.free(pointer)
    empty = driver.malloc(0)
    assert empty
    driver.free(empty)


def check_kernels(driver: Driver) -> None:
    """One launch: mu + y, scaled and rounded, with channels reversed."""
    stream = driver.new_stream()
    mu, y = (RNG.random((2, 3, 5, 7), dtype=np.float32) / 2 for _ in range(2))
    there = [upload(driver, a) for a in (mu, y)]
    out = DeviceArray.empty(driver, (2, 5, 7, 3), np.uint8)
    arguments = (out.pointer, there[0].pointer, there[1].pointer, *out.element_strides, 1, 0, 3, 5, 7, 5, 7)
    driver.launch("irsde_store_u8", mu.size, arguments, stream)
    driver.synchronize(stream)
    expected = np.rint((mu + y) * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)[..., ::-1]
    np.testing.assert_array_equal(out.to_host(driver), expected)


def check_events(driver: Driver) -> None:
    stream = driver.new_stream()
    memory = driver.malloc(1 << 20)
    zeros = np.zeros(1 << 20, np.uint8)  # which must be there until the stream gets to it
    start = driver.event(stream)
    driver.upload(memory, zeros, stream)
    end = driver.event(stream)
    assert 0 <= driver.elapsed(start, end) < 1000


def check_graphs(driver: Driver) -> None:
    stream = driver.new_stream()
    back = np.zeros(4, np.float32)
    pointer = driver.malloc(16)
    driver.upload(pointer, np.arange(4, dtype=np.float32), stream)
    graph = driver.capture(lambda: driver.download(back, pointer, stream), stream)
    driver.synchronize(stream)
    assert not back.any(), "what is captured is not done"
    for _ in range(2):
        back[:] = 0
        driver.replay(graph, stream)
        driver.synchronize(stream)
        np.testing.assert_array_equal(back, np.arange(4))
    driver.release(graph)
    refused(lambda: driver.replay(graph, stream))


def check_failed_captures(driver: Driver) -> None:
    """The error is the work's own, and the stream can be used again."""
    stream = driver.new_stream()

    def fails() -> None:
        raise ValueError("of the work's own")

    def waits_and_fails() -> None:
        refused(lambda: driver.synchronize(stream))
        fails()

    for work in (fails, waits_and_fails):
        assert "of the work's own" in raised(partial(driver.capture, work, stream), ValueError)
    for forbidden in (lambda: driver.synchronize(stream), lambda: driver.malloc(1)):
        refused(partial(driver.capture, forbidden, stream))
    check_graphs(driver)
    driver.synchronize(stream)


def check_misuse(driver: Driver) -> None:
    stream = driver.new_stream()
    pointer = driver.malloc(16)
    refused(lambda: driver.upload(pointer, np.zeros(17, np.uint8), stream))
    refused(lambda: driver.launch("irsde_pad_f32", 0, (pointer, 0, 1, 1, 1, 1, 1), stream))
    refused(lambda: driver.launch("irsde_pad_f32", 1, (pointer + 2, 0, 1, 1, 1, 1, 1), stream))
    driver.free(pointer)
    refused(lambda: driver.upload(pointer, np.zeros(1, np.uint8), stream))


def check_fault(driver: Driver) -> None:
    """A graph that outlives its memory, although the same address may be in use again."""
    stream = driver.new_stream()
    pointer = driver.malloc(16)
    graph = driver.capture(lambda: driver.upload(pointer, np.zeros(4, np.float32), stream), stream)
    driver.free(pointer)
    driver.malloc(16)
    driver.replay(graph, stream)
    refused(lambda: driver.synchronize(stream))
    refused(lambda: driver.malloc(1))  # a fault stays


def check_threads(driver: Driver) -> None:
    """A thread must activate the device, may do so again and again, and may end."""
    done: list[bool] = []

    def work() -> None:
        raised(lambda: driver.malloc(1), EngineError)
        for _ in range(3):
            driver.activate()
        driver.free(driver.malloc(1))
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
    check_copies(driver)


# ---- the loop ----


def check_loop(driver: Driver) -> None:
    """Bit-equal to NumPy's where the noise is given, with each padding, clipped or not, in each type."""
    for pad_mode in ("reflect", "zero"):
        engine = KernelNetwork(card(pad_mode), driver)
        loop, reference = DeviceLoop(engine), NumpyLoop(NumpyNetwork(engine.card))
        for dtype in (np.float32, np.uint8, np.uint16, np.float16, np.float64):
            for clip in (False, True):
                noise, batch = given(5), picture(dtype)
                arguments = (batch, plan(5, clip), noise)
                expect(loop(*arguments), reference(*arguments), exact=dtype != np.float64)


def check_half(driver: Driver) -> None:
    engine = KernelNetwork(card(), driver, half=True)
    arguments = (picture(), plan(5), given(5))
    expect(DeviceLoop(engine)(*arguments), NumpyLoop(NumpyNetwork(card(), half=True))(*arguments), exact=True)


def check_tiles(driver: Driver) -> None:
    """Several tiles in both directions, recorded and replayed; half-precision ones are summed in float32."""
    tiling = Tiling(16, 4)
    for half in (False, True):
        loop = DeviceLoop(KernelNetwork(card(), driver, half=half))
        reference = NumpyLoop(NumpyNetwork(card(), half=half))
        for clip in (False, True):
            arguments = (picture(), plan(5, clip), given(5))
            for _ in range(2):
                expect(loop(*arguments, tiling=tiling), reference(*arguments, tiling=tiling), exact=not half)


def check_replays(driver: Driver) -> None:
    """Another seed replays the graph; a longer table needs other buffers and another graph; and back."""
    engine = KernelNetwork(card(), driver)
    loop, reference = DeviceLoop(engine), NumpyLoop(NumpyNetwork(card()))
    evaluations = []
    for seed, steps in ((1, 5), (2**40 + 7, 5), (3, 9), (4, 5), (5, 5)):
        arguments = (picture(), plan(steps), seeded(seed))
        expect(loop(*arguments), reference(*arguments), exact=False)
        evaluations.append(engine.evaluations)
        engine.evaluations = 0
    assert evaluations == [6, 0, 10, 6, 0]  # one before, then those recorded
    assert not np.array_equal(loop(picture(), plan(), seeded(1)), loop(picture(), plan(), seeded(2)))


def check_not_captured(driver: Driver) -> None:
    loop = DeviceLoop(KernelNetwork(card(), driver, capturable=False))
    seen: list[int] = []
    arguments = (picture(), plan(5), given(5))
    expect(loop(*arguments, on_step=seen.append), NumpyLoop(NumpyNetwork(card()))(*arguments), exact=True)
    assert seen == [0, 1, 2, 3, 4, 5]


def check_sizes(driver: Driver) -> None:
    """More sizes than are kept: the oldest buffers are given back, and made again."""
    loop, reference = DeviceLoop(KernelNetwork(card(), driver)), NumpyLoop(NumpyNetwork(card()))
    for height in [*range(16, 18 + MAX_SIZES), 16]:
        batch = RNG.random((1, height, 20, 3), dtype=np.float32)
        arguments = (batch, plan(), seeded_noise(height, (1, 3, height, 20)))
        expect(loop(*arguments), reference(*arguments), exact=False)


def check_engine(driver: Driver) -> None:
    """The engine as a function of arrays."""
    x, mu = (RNG.random((2, 3, 16, 32), dtype=np.float32) for _ in range(2))
    t = np.full(2, 7, np.float32)
    expect(KernelNetwork(card(), driver)(x, mu, t), NumpyNetwork(card())(x, mu, t), exact=True)


class Foreign:
    """Another library's array, written on the default stream."""

    def __init__(self, array: DeviceArray) -> None:
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": 1}
        self.kept = array


def check_device_arrays(driver: Driver) -> None:
    loop, reference = DeviceLoop(KernelNetwork(card(), driver)), NumpyLoop(NumpyNetwork(card()))
    batch, noise = picture(np.uint8), given(5)
    expected = reference(batch, plan(), noise)
    there = DeviceArray.of(Foreign(upload(driver, batch)))
    expect(loop.on_device(there, plan(), noise).to_host(driver), expected, exact=True)
    expect(there.to_host(driver), batch, exact=True)  # untouched
    assert loop.on_device(there, plan(), noise, out=there) is there
    expect(there.to_host(driver), expected, exact=True)


def check_bgr(driver: Driver) -> None:
    """Blue first, and in a corner of a larger picture: strides that are not contiguous."""
    loop, reference = DeviceLoop(KernelNetwork(card(), driver)), NumpyLoop(NumpyNetwork(card()))
    batch, noise = picture(np.uint16), given(5)
    large = np.zeros((SHAPE[0], SHAPE[1] + 3, SHAPE[2] + 5, 4), np.uint16)
    large[:, 3:, 5:, :3] = batch[..., ::-1]
    there = upload(driver, large)
    corner = there.pointer + 3 * there.strides[1] + 5 * there.strides[2]
    view = DeviceArray(corner, SHAPE, there.dtype, there.strides, there.kind, owner=there)
    out = DeviceArray.empty(driver, SHAPE, np.uint16)
    assert loop.on_device(view, plan(), noise, out=out, bgr=True) is out
    expect(out.to_host(driver)[..., ::-1], reference(batch, plan(), noise), exact=True)


def check_streams(driver: Driver) -> None:
    """A caller's stream: PyCUDA knows its own alone, and says so."""
    loop, reference = DeviceLoop(KernelNetwork(card(), driver)), NumpyLoop(NumpyNetwork(card()))
    batch, noise = picture(), given(5)
    there = upload(driver, batch)
    own = driver.new_stream()
    expect(loop.on_device(there, plan(), noise, stream=own).to_host(driver), reference(batch, plan(), noise), True)
    if driver.name.startswith("pycuda"):
        assert "cuda-bindings" in raised(lambda: loop.on_device(there, plan(), noise, stream=2), InvalidValueError)
        return
    expect(loop.on_device(there, plan(), noise, stream=0).to_host(driver), reference(batch, plan(), noise), True)


def check_not_finite(driver: Driver) -> None:
    """The same step as NumPy's loop, `out` as it was, and a next run that is none the worse."""
    loop, reference = DeviceLoop(KernelNetwork(card(), driver)), NumpyLoop(NumpyNetwork(card()))
    broken, noise = picture(), given(5)
    broken[1, 20, 36, 2] = 3e38  # times t it overflows
    out = upload(driver, np.full(SHAPE, 7, np.float32))
    expected = raised(lambda: reference(broken, plan(), noise), NotFiniteError).replace("NumPy", "kernels")
    assert "after step 1 of 5" in expected
    assert raised(lambda: loop(broken, plan(), noise), NotFiniteError) == expected
    there = upload(driver, broken)
    assert raised(lambda: loop.on_device(there, plan(), noise, out=out), NotFiniteError) == expected
    expect(out.to_host(driver), np.full(SHAPE, 7, np.float32), exact=True)
    broken[0, 0, 0, 0] = np.nan
    for either in (loop, reference):
        assert "the picture has NaN" in raised(lambda run=either: run(broken, plan(), noise), InvalidValueError)
    arguments = (picture(), plan(), noise)
    expect(loop(*arguments), reference(*arguments), exact=True)


CHECKS = {name[6:]: check for name, check in list(globals().items()) if name.startswith("check_")}


def main() -> None:
    driver_name, check = sys.argv[1:]
    if driver_name == "pycuda":
        sys.setdlopenflags(os.RTLD_LAZY)  # it refers to more functions than the stand-in has
    driver = open_driver(driver_name)
    if driver_name != "host":
        assert driver.kind == "cuda"
        assert driver.name == f"{driver_name}, a CPU in a GPU's place"
    CHECKS[check](driver)


if __name__ == "__main__":
    main()
