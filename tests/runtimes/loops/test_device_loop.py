"""The device loop on the host driver: buffers, graphs, noise, padding, batches and layouts, against the NumPy loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import Restorer
from irsde_deploy.errors import EngineError, InvalidValueError, NotFiniteError
from irsde_deploy.runtimes.device.arrays import DeviceArray
from irsde_deploy.runtimes.device.drivers import open_driver
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.device.engine import DeviceEngine, Evaluation, PaddedShape
from irsde_deploy.runtimes.engines.onnx_engine import OnnxDeviceEngine, OnnxEngine
from irsde_deploy.runtimes.engines.torch_device_engine import TorchDeviceEngine

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")


class CountingDriver(HostDriver):
    """Counts allocations and captures."""

    allocations = captures = replays = 0

    def malloc(self, size: int) -> int:
        self.allocations += 1
        return super().malloc(size)

    def capture(self, work: Callable[[], None], stream: int):
        self.captures += 1
        return super().capture(work, stream)

    def replay(self, graph, stream: int) -> None:
        self.replays += 1
        super().replay(graph, stream)


@pytest.fixture
def driver() -> CountingDriver:
    return CountingDriver()


@pytest.fixture(params=["unet_nf8_depth4", "nafnet_w16"])
def pair(
    request: pytest.FixtureRequest, driver: CountingDriver, onnx_of: Callable[[str], Path]
) -> tuple[Restorer, Restorer]:
    """The NumPy loop and the device loop around one ONNX file: reflect padding, then zero padding."""
    path = onnx_of(request.param)
    return Restorer(OnnxEngine.open(path)), Restorer(OnnxDeviceEngine.open(path, driver, "cpu"))


def picture(shape: tuple[int, ...], dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    return (np.random.default_rng(seed).random(shape) * top).astype(dtype)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max() / np.abs(b.astype(np.float64)).max())


@pytest.mark.parametrize(
    ("sampler", "steps"), [("euler", None), ("posterior", 6), ("sde-2m", 5), ("ode-2m", 4), ("ddim", 3)]
)
@pytest.mark.parametrize("clip", [False, True])
def test_injected_noise_gives_the_numpy_loops_picture(pair, sampler: str, steps: int | None, clip: bool) -> None:
    numpy_loop, device_loop = pair
    mu = picture((2, 21, 34, 3))
    count = len(numpy_loop.plan(sampler=sampler, steps=steps))
    noise = np.random.default_rng(1).normal(size=(count + 1, 2, 3, 21, 34)).astype(np.float32)
    expected = numpy_loop(mu, sampler=sampler, steps=steps, noise=noise, clip=clip)
    assert relative(device_loop(mu, sampler=sampler, steps=steps, noise=noise, clip=clip), expected) < 1e-6


@pytest.mark.parametrize("seed", [0, 2**40 + 1])
def test_its_own_noise_is_the_numpy_loops(pair, seed: int) -> None:
    """To the last bits that two libraries' sin, cos and log leave: a float32 unit, through three evaluations."""
    numpy_loop, device_loop = pair
    mu = picture((2, 30, 17, 3))
    assert (
        relative(
            device_loop(mu, sampler="sde-2m", steps=3, seed=seed), numpy_loop(mu, sampler="sde-2m", steps=3, seed=seed)
        )
        < 1e-6
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_every_picture_type(pair, dtype: type) -> None:
    numpy_loop, device_loop = pair
    mu = picture((19, 33, 3), dtype)
    expected, found = numpy_loop(mu, sampler="mean", steps=3), device_loop(mu, sampler="mean", steps=3)
    assert found.dtype == expected.dtype == dtype
    if np.dtype(dtype).kind == "u":
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
        assert np.mean(found == expected) > 0.999
    else:
        assert relative(found, expected) < (1e-6 if dtype != np.float16 else 1e-3)


def test_sizes_take_turns_without_new_memory_and_without_new_graphs(pair, driver: CountingDriver) -> None:
    numpy_loop, device_loop = pair
    sizes = [(1, 16, 16, 3), (1, 21, 34, 3), (2, 16, 16, 3)]
    for size in sizes:
        device_loop(picture(size), sampler="sde-2m", steps=3)
    allocations, captures = driver.allocations, driver.captures
    assert captures == 3
    for turn in range(6):
        mu = picture(sizes[turn % 3], seed=turn)
        sampler = "ode-2m" if turn % 2 else "posterior"
        found = device_loop(mu, sampler=sampler, steps=3, seed=turn)
        assert relative(found, numpy_loop(mu, sampler=sampler, steps=3, seed=turn)) < 1e-6
    assert (driver.allocations, driver.captures) == (allocations, captures), "tables and seeds are data, not graphs"
    device_loop(picture((1, 40, 40, 3)), sampler="sde-2m", steps=3)
    held = len(driver._memory)
    for side in (48, 56, 64):
        device_loop(picture((1, side, side, 3)), sampler="sde-2m", steps=3)
    assert len(driver._memory) == held, "a size that is dropped gives its memory back"


def test_a_longer_table_after_a_shorter_one(pair) -> None:
    numpy_loop, device_loop = pair
    mu = picture((1, 16, 20, 3))
    for steps in (2, 7, 3):
        assert (
            relative(device_loop(mu, sampler="sde-2m", steps=steps), numpy_loop(mu, sampler="sde-2m", steps=steps))
            < 1e-6
        )


def test_progress_is_told_at_both_ends_of_a_graph(pair) -> None:
    told: list[int] = []
    pair[1](picture((16, 16, 3)), sampler="sde-2m", steps=4, on_step=told.append)
    assert told == [0, 4]


def test_pytorch_is_a_device_engine_with_the_same_picture(pair, driver: CountingDriver) -> None:
    from golden import NETWORK_CASES, load_case, torch_engine

    numpy_loop, _ = pair
    name = next(n for n in NETWORK_CASES if load_case(n).network == numpy_loop.card.network)
    reference = torch_engine(load_case(name))
    device_loop = Restorer(TorchDeviceEngine(reference.model, reference.card, driver))
    mu = picture((1, 21, 18, 3))
    assert (
        relative(device_loop(mu, sampler="posterior", steps=4), Restorer(reference)(mu, sampler="posterior", steps=4))
        < 1e-6
    )


def test_called_with_arrays_it_is_an_engine(pair) -> None:
    rng = np.random.default_rng(0)
    x, mu = rng.random((2, 3, 16, 32), dtype=np.float32), rng.random((2, 3, 16, 32), dtype=np.float32)
    t = np.array([3, 70], np.float32)
    np.testing.assert_array_equal(pair[1].engine(x, mu, t), pair[0].engine(x, mu, t))


class Exporter:
    """A picture with `__cuda_array_interface__`, over host memory: what CuPy gives, to the host driver's eyes."""

    def __init__(self, array: np.ndarray, strides: bool = True) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides if strides else None,
            "version": 3,
        }


@pytest.fixture
def as_if_cuda(monkeypatch: pytest.MonkeyPatch, driver: CountingDriver) -> None:
    """Let the host driver say that its memory is a GPU's, so that the array interface can be followed to the end."""
    monkeypatch.setattr(CountingDriver, "kind", "cuda")


def test_frames_by_dlpack_never_leave_the_device(pair) -> None:
    numpy_loop, device_loop = pair
    frame = picture((21, 34, 3), np.uint8)
    out = np.zeros_like(frame)
    returned = device_loop.on_device(frame, sampler="sde-2m", steps=3, out=out)
    np.testing.assert_array_equal(out, numpy_loop(frame, sampler="sde-2m", steps=3))
    assert returned.pointer == out.ctypes.data
    fresh = device_loop.on_device(frame, sampler="sde-2m", steps=3)
    np.testing.assert_array_equal(fresh.to_host(device_loop.engine.driver), out)


def test_frames_have_noise_by_their_numbers_on_the_device_too(pair) -> None:
    numpy_loop, device_loop = pair
    frames = picture((2, 16, 20, 3), np.uint8)
    out = np.zeros_like(frames)
    device_loop.on_device(frames, sampler="sde-2m", steps=3, out=out, frames=[7, 2**32 - 1])
    np.testing.assert_array_equal(out, numpy_loop(frames, sampler="sde-2m", steps=3, frames=[7, 2**32 - 1]))
    alone = [
        numpy_loop(frame, sampler="sde-2m", steps=3, frames=[k])[None]
        for frame, k in zip(frames, (7, 2**32 - 1), strict=True)
    ]
    np.testing.assert_array_equal(out, np.concatenate(alone))
    assert np.abs(out.astype(int) - numpy_loop(frames, sampler="sde-2m", steps=3)).max() > 0


def test_frames_by_the_array_interface_in_any_layout(pair, as_if_cuda) -> None:
    numpy_loop, device_loop = pair
    whole = picture((40, 50, 3), np.uint8)
    for view in (whole, whole[5:30, 7:41], whole[::-1], whole.transpose(1, 0, 2)):
        expected = numpy_loop(np.ascontiguousarray(view), sampler="mean", steps=2)
        out = np.zeros_like(view)
        device_loop.on_device(Exporter(view), sampler="mean", steps=2, out=Exporter(out))
        np.testing.assert_array_equal(out, expected)
    contiguous = Exporter(whole.copy(), strides=False)
    expected = numpy_loop(whole, sampler="mean", steps=2)
    device_loop.on_device(contiguous, sampler="mean", steps=2, out=contiguous)
    np.testing.assert_array_equal(contiguous.array, expected, "in place")


def test_bgr_frames(pair) -> None:
    numpy_loop, device_loop = pair
    frame = picture((2, 16, 20, 3), np.uint8)
    out = np.zeros_like(frame)
    device_loop.on_device(np.ascontiguousarray(frame[..., ::-1]), sampler="mean", steps=2, out=out, bgr=True)
    np.testing.assert_array_equal(out[..., ::-1], numpy_loop(frame, sampler="mean", steps=2))


def test_frames_that_cannot_be_taken(pair, driver: CountingDriver) -> None:
    numpy_loop, device_loop = pair
    frame = picture((16, 16, 3), np.uint8)
    for bad, message in (
        (frame.astype(np.int32), "uint8, uint16, float16 or float32"),
        (frame.astype(np.float64), "uint8, uint16, float16 or float32"),
        (frame[..., :2].copy(), "must have the shape"),
        ([[1, 2], [3, 4]], "__cuda_array_interface__ or __dlpack__"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            device_loop.on_device(bad, sampler="mean", steps=2)
    with pytest.raises(InvalidValueError, match="out must be uint8"):
        device_loop.on_device(frame, sampler="mean", steps=2, out=np.zeros((16, 17, 3), np.uint8))
    with pytest.raises(InvalidValueError, match="host memory, and the engine works on cuda"):
        DeviceArray.of(frame).require_on(_Elsewhere())
    with pytest.raises(InvalidValueError, match="works on pictures in host memory"):
        numpy_loop.on_device(frame)


class _Elsewhere:
    kind = "cuda"


class Stub(DeviceEngine):
    """eps = gain * x, and NaN from one timestep on: what an FP16 engine does that overflows."""

    def __init__(
        self, like: DeviceEngine, gain: float = 0.5, nan_below: float = -1.0, io_type: type = np.float32
    ) -> None:
        self.card, self.driver, self.name = like.card, like.driver, "stub"
        self.gain, self.nan_below, self.io_type = gain, nan_below, io_type

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        count = shape[0] * self.card.channels * shape[1] * shape[2]

        def run(x: int, t: int, eps: int) -> None:
            values = _view(x, count, self.io_type) * self.io_type(self.gain)
            _view(eps, count, self.io_type)[:] = np.nan if _view(t, 1, np.float32)[0] < self.nan_below else values

        return lambda x, mu, t, eps, stream: self.driver.submit(lambda: run(x, t, eps))


def _view(pointer: int, count: int, dtype: type) -> np.ndarray:
    import ctypes

    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype=dtype)


@pytest.mark.parametrize("capturable", [True, False])
def test_half_precision_inputs_and_outputs(pair, capturable: bool) -> None:
    """A plan with FP16 tensors: the state stays FP32; x, mu and eps carry FP16's 11 bits."""
    single, half = Restorer(Stub(pair[1].engine)), Restorer(Stub(pair[1].engine, io_type=np.float16))
    half.engine.capturable = capturable
    mu = picture((1, 21, 18, 3))
    found, expected = half(mu, sampler="ode-2m", steps=4), single(mu, sampler="ode-2m", steps=4)
    assert 0 < relative(found, expected) < 4 * 2.0**-11


def test_a_state_that_is_not_finite_names_its_step(pair) -> None:
    t = pair[1].plan(sampler="mean", steps=4).table.t
    bad = Restorer(Stub(pair[1].engine, nan_below=float(t[1])))
    out = np.full((16, 16, 3), 77, np.uint8)
    with pytest.raises(
        NotFiniteError, match=rf"after step 3 of 4 \(t = {t[2]}\) the state is not finite .* in fp32 on"
    ):
        bad.on_device(picture((16, 16, 3), np.uint8), sampler="mean", steps=4, out=out)
    assert np.all(out == 77), "nothing was written"
    with pytest.raises(NotFiniteError, match="after step 3 of 4"):
        bad(picture((16, 16, 3), np.uint8), sampler="mean", steps=4)


def test_the_fallback_does_the_picture_again(pair) -> None:
    _, device_loop = pair
    safe = Restorer(Stub(device_loop.engine, nan_below=50.0), fallback=device_loop)
    mu = picture((2, 16, 16, 3))
    np.testing.assert_array_equal(safe(mu, sampler="mean", steps=4), device_loop(mu, sampler="mean", steps=4))
    assert safe.fallbacks == 2
    frame = picture((16, 16, 3), np.uint8)
    out = np.zeros_like(frame)
    safe.on_device(frame, sampler="mean", steps=4, out=out)
    np.testing.assert_array_equal(out, device_loop(frame, sampler="mean", steps=4))
    assert safe.fallbacks == 3


def test_a_fallback_of_another_model_is_refused(pair, onnx_of: Callable[[str], Path]) -> None:
    other = Restorer(OnnxEngine.open(onnx_of("unet_nf8_depth4" if pair[0].card.pad_mode == "zero" else "nafnet_w16")))
    with pytest.raises(InvalidValueError, match="the fallback is of another model"):
        Restorer(pair[0].engine, fallback=other)


class ScarceDriver(HostDriver):
    """Has no memory at its n-th allocation from now on."""

    left = -1

    def malloc(self, size: int) -> int:
        self.left -= 1
        if self.left == 0:
            raise EngineError("there is no memory left")
        return super().malloc(size)


def test_memory_that_runs_out_anywhere_costs_that_picture_alone(onnx_of: Callable[[str], Path]) -> None:
    """A first picture, a longer table, a new size: each allocation fails once, then the same works."""
    path = onnx_of("nafnet_w16")
    driver = ScarceDriver()
    numpy_loop, device_loop = Restorer(OnnxEngine.open(path)), Restorer(OnnxDeviceEngine.open(path, driver, "cpu"))
    noise = np.random.default_rng(1).normal(size=(9, 1, 3, 16, 20)).astype(np.float32)
    works = [
        (picture((1, 16, 20, 3)), {"steps": 3, "noise": noise[:4]}),
        (picture((1, 16, 20, 3)), {"steps": 8, "noise": noise}),
        (picture((2, 32, 16, 3)), {"steps": 3}),
    ]
    failures = 0
    for mu, settings in works:
        expected = numpy_loop(mu, sampler="sde-2m", **settings)
        for nth in range(1, 12):
            driver.left = nth
            try:
                device_loop(mu, sampler="sde-2m", **settings)
            except EngineError:
                failures += 1
            driver.left = -1
            assert relative(device_loop(mu, sampler="sde-2m", **settings), expected) < 1e-6
    assert failures >= 3
    held = len(driver._memory)
    for _ in range(3):
        for mu, settings in works:
            device_loop(mu, sampler="sde-2m", **settings)
    assert len(driver._memory) == held


def test_threads_take_turns(pair) -> None:
    """Two restorers on one driver, and two threads on each."""
    numpy_loop, device_loop = pair
    other = Restorer(OnnxDeviceEngine(device_loop.engine._session, device_loop.card, device_loop.engine.driver, "cpu"))
    pictures = [picture((16 + 4 * (k % 3), 20, 3), seed=k) for k in range(24)]
    with ThreadPoolExecutor(4) as pool:
        restorers = [(device_loop, other)[k % 2] for k in range(24)]
        found = list(pool.map(lambda k: restorers[k](pictures[k], sampler="sde-2m", steps=2, seed=k), range(24)))
    for k in range(24):
        assert relative(found[k], numpy_loop(pictures[k], sampler="sde-2m", steps=2, seed=k)) < 1e-6


def test_big_endian_pictures(pair) -> None:
    mu = picture((16, 20, 3), np.uint16)
    expected = pair[1](mu, sampler="mean", steps=2)
    found = pair[1](mu.astype(">u2"), sampler="mean", steps=2)
    assert found.dtype == ">u2"
    np.testing.assert_array_equal(found, expected)


class Producer:
    """A CUDA array by DLPack and by the array interface, as PyTorch's: remembers which stream it was told to join."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.device = array, device
        self.joined: list[int] = []
        self.__cuda_array_interface__ = {**Exporter(array).__cuda_array_interface__, "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        self.joined.append(stream)
        return self.array.__dlpack__()


class WaitingDriver(CountingDriver):
    """Remembers which streams were waited for."""

    kind = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[int] = []

    def new_stream(self) -> int:
        return 77

    def synchronize(self, stream: int) -> None:
        self.waited.append(stream)


def test_frames_that_are_still_being_written_are_waited_for(onnx_of: Callable[[str], Path]) -> None:
    driver = WaitingDriver()
    device_loop = Restorer(OnnxDeviceEngine.open(onnx_of("nafnet_w16"), driver, "cpu"))
    frame, out = Producer(picture((16, 20, 3), np.uint8)), Producer(np.zeros((16, 20, 3), np.uint8))
    device_loop.on_device(frame, sampler="mean", steps=2, out=out)
    assert frame.joined == out.joined == [1], "the legacy default stream, which is then waited for"
    assert 1 in driver.waited
    driver.waited.clear()
    device_loop.on_device(frame, sampler="mean", steps=2, out=out, stream=9)
    assert frame.joined == out.joined == [1, 9], "the caller's own stream"
    assert driver.waited[-1] == 9
    assert 1 not in driver.waited
    driver.waited.clear()
    device_loop.on_device(Exporter(frame.array), sampler="mean", steps=2, out=Exporter(out.array))
    assert 1 in driver.waited, "an array interface that names no stream"
    with pytest.raises(InvalidValueError, match="on device 1 of DLPack's type 2, and engines run on the first GPU"):
        device_loop.on_device(Producer(frame.array, (2, 1)), sampler="mean", steps=2)


def test_memory_that_is_not_there_is_one_sentence(driver: CountingDriver) -> None:
    with pytest.raises(EngineError, match="no memory for"):
        driver.malloc(10**15)


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="cuda-bindings, pycuda, host"):
        open_driver("opencl")
