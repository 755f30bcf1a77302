"""The reverse SDE on a device: executes a StepTable around a device engine.

One upload, N evaluations with a fused update after each, one download. All buffers of one picture size are allocated
once; the N steps are recorded as one graph per size and number of steps, and replayed. The coefficients, timesteps,
seed and frame numbers are in device memory, so that another table or seed of the same length replays the same graph.

The numbers are those of `loops.numpy_loop`: the same arithmetic in the same order (device/kernels/irsde_kernels.h).
"""

from __future__ import annotations

import functools
import gc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ...core.noise import NoiseSource, SeededNoise
from ...core.samplers import StepTable
from ...core.tiling import Tiling
from ..device.arrays import DeviceArray
from ..device.drivers import lock_of, own_stream
from ..device.drivers.memory import Memory
from ..device.engine import DeviceEngine, Evaluation
from .device_tiles import TiledEvaluation
from .numpy_loop import not_finite

Method = TypeVar("Method", bound=Callable[..., Any])

MAX_SIZES = 3
"""How many picture sizes keep their buffers and graphs; the one unused for longest goes first."""

NEVER = 2**31 - 1
"""The step that the kernels report where every state was finite: larger than any, since they keep the smallest."""

_ROW = 32
"""Bytes of the kernels' struct Row, eight floats."""

_ALIGNMENT = 256
"""The alignment in bytes of every pointer that an engine is given: TensorRT asks for that of an allocation."""

_PAD_MODES = {"zero": 0, "reflect": 1}
"""Padding of the model card -> the kernels' number for it."""

_SUFFIXES = {
    np.dtype(np.uint8): "u8",
    np.dtype(np.uint16): "u16",
    np.dtype(np.float16): "f16",
    np.dtype(np.float32): "f32",
}
"""Type of pictures -> how the names of the kernels that read and write it end. Pictures of other floating-point types
are converted to float32 on the host."""


def _one_at_a_time(method: Method) -> Method:
    """Make a method of DeviceLoop hold the driver's lock while it works."""

    @functools.wraps(method)
    def locked(self: DeviceLoop, *arguments: Any, **named: Any) -> Any:
        with lock_of(self.engine.driver):
            return method(self, *arguments, **named)

    return cast(Method, locked)


class DeviceLoop:
    """The loop on a device, around an engine there; see `protocol.Loop`.

    Several threads may call it; they take turns, as all do that use one driver.

    Args:
        engine: the network; its driver is the device.
    """

    def __init__(self, engine: DeviceEngine) -> None:
        self.engine = engine
        self._sizes: OrderedDict[tuple[tuple[int, ...], Tiling | None], _Size] = OrderedDict()

    @_one_at_a_time
    def __call__(
        self,
        batch: npt.NDArray[Any],
        table: StepTable,
        noise: NoiseSource,
        clip: bool = False,
        on_step: Callable[[int], None] | None = None,
        tiling: Tiling | None = None,
    ) -> npt.NDArray[Any]:
        """See `protocol.Loop`."""
        driver = self.engine.driver
        driver.activate()
        picture = _as_kernels_read_it(batch)
        size = self._size(picture.shape[:3], tiling)
        staging = size.staging(picture)
        stream = own_stream(driver)
        driver.upload(staging.pointer, picture, stream)
        # One buffer for both: once the degraded picture is in mu, its place is free for the restored one.
        self._restore(size, staging, staging, table, noise, clip, on_step, stream, reversed_channels=False)
        restored = np.empty_like(picture)
        driver.download(restored, staging.pointer, stream)
        driver.synchronize(stream)
        return restored.astype(batch.dtype, copy=False)

    @_one_at_a_time
    def on_device(
        self,
        picture: DeviceArray,
        table: StepTable,
        noise: NoiseSource,
        clip: bool = False,
        out: DeviceArray | None = None,
        stream: int | None = None,
        bgr: bool = False,
        tiling: Tiling | None = None,
    ) -> DeviceArray:
        """Restore a batch (B, H, W, C) that is on the device already; four bytes of status come to the host.

        Args:
            picture: the batch, of uint8, uint16, float16 or float32, with any strides.
            table, noise, clip, tiling: as for pictures in host memory.
            out: the array to write to, of the same shape and type; it may be `picture` itself. By default a new one in
                the driver's memory.
            stream: handle of the CUDA stream to work on. By default the driver's own, after waiting for what the
                producers of picture and out have on theirs.
            bgr: whether the channels of picture and out are blue, green, red.

        Returns:
            The array that was written to, complete.

        Raises:
            NotFiniteError: a state is not finite; out is not written.
        """
        driver = self.engine.driver
        driver.activate()
        picture.require_on(driver)
        size = self._size(picture.shape[:3], tiling)
        target = out
        if target is None:
            target = DeviceArray.empty(driver, picture.shape, picture.dtype)
        target.require_on(driver)
        target.require_like(picture)
        if stream is None:
            stream = own_stream(driver)
            # On a stream of the caller's its order is the caller's business; on ours nobody else could know it.
            for producer in {picture.stream, target.stream}:
                if producer is not None:
                    driver.synchronize(producer)
        self._restore(size, picture, target, table, noise, clip, None, stream, bgr)
        driver.synchronize(stream)
        return target

    def _restore(
        self,
        size: _Size,
        source: DeviceArray,
        target: DeviceArray,
        table: StepTable,
        noise: NoiseSource,
        clip: bool,
        on_step: Callable[[int], None] | None,
        stream: int,
        reversed_channels: bool,
    ) -> None:
        """From a picture on the device to one on the device, everything on one stream."""
        given = not isinstance(noise, SeededNoise)  # kernels draw a seed's noise themselves
        size.set_up(table, noise, stream)
        size.load(source, reversed_channels, stream)
        size.run(table, given, clip, on_step, stream)
        # Before the picture is stored: where a state is not finite, `target` must stay as it is.
        step = size.not_finite_at(stream)
        if step != NEVER:
            raise not_finite(self.engine, table, step)
        size.store(target, reversed_channels, stream)

    def _size(self, shape: tuple[int, ...], tiling: Tiling | None) -> _Size:
        """The buffers for pictures (B, H, W), made when they are first needed."""
        key = (shape, tiling)
        if key not in self._sizes:
            while len(self._sizes) >= MAX_SIZES:
                self._sizes.popitem(last=False)[1].free()
            self._sizes[key] = self._new_size(shape, tiling)
        self._sizes.move_to_end(key)
        return self._sizes[key]

    def _new_size(self, shape: tuple[int, ...], tiling: Tiling | None) -> _Size:
        """New buffers for a size; where there is no room for them, what is kept for other sizes goes first."""
        stream = own_stream(self.engine.driver)
        try:
            return _Size(self.engine, shape, tiling, stream)
        except MemoryError:
            if not self._sizes:
                raise
        # Not in the except clause: the error's traceback would keep what the failed attempt had allocated.
        while self._sizes:
            self._sizes.popitem()[1].free()
        return _Size(self.engine, shape, tiling, stream)


def _as_kernels_read_it(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A batch as one block of memory, in the processor's byte order and in a type that kernels read."""
    dtype = batch.dtype.newbyteorder("=")
    if dtype not in _SUFFIXES:
        dtype = np.dtype(np.float32)
    return np.ascontiguousarray(batch, dtype=dtype)


class _Size:
    """The buffers and graphs for pictures of one size, whole or in tiles."""

    def __init__(self, engine: DeviceEngine, shape: tuple[int, ...], tiling: Tiling | None, stream: int) -> None:
        batch, height, width = shape
        card = engine.card
        multiple = card.multiple_of
        self.driver, self.own_stream = engine.driver, stream
        self.batch, self.channels = batch, card.channels
        padded = (batch, height + -height % multiple, width + -width % multiple)
        self.dimensions = (card.channels, height, width, padded[1], padded[2])
        self.pad_mode = _PAD_MODES[card.pad_mode]
        self.io = _SUFFIXES[np.dtype(engine.io_type)]
        self.pixels = batch * card.channels * height * width
        self.padded_pixels = batch * card.channels * padded[1] * padded[2]
        # Each step's timesteps (B,) start at an aligned address, as the engine takes a pointer to them.
        self.t_stride = -(-4 * batch // _ALIGNMENT) * _ALIGNMENT
        # Where noise is drawn a thread does four neighbours in x: one counter of the generator gives four normals.
        self.fours = batch * card.channels * height * ((width + 3) // 4)
        self._buffers: dict[str, Memory] = {}
        self._staging: dict[np.dtype[Any], DeviceArray] = {}
        self._graphs: dict[tuple[int, bool, bool], Any] = {}
        if tiling is None:
            self.evaluate: Evaluation = engine.evaluation(padded, stream)
        else:
            tiles = tiling.over(padded[1], padded[2], multiple)
            self.evaluate = TiledEvaluation(engine, batch, tiles, self.io, self.dimensions, stream)
        self.capturable = engine.capturable  # of the evaluation that was made last, which is ours
        for name in ("y", "q", "mu"):
            self._buffer(name, 4 * self.pixels)
        for name in ("x", "mu_in", "eps"):
            self._buffer(name, np.dtype(engine.io_type).itemsize * self.padded_pixels)
        # The first step that was not finite, the seed in two words, and the frame number of every picture.
        self._buffer("control", 4 * (3 + batch))

    def staging(self, picture: npt.NDArray[Any]) -> DeviceArray:
        """A contiguous picture on the device, to upload to and download from."""
        if picture.dtype not in self._staging:
            self._staging[picture.dtype] = DeviceArray.empty(self.driver, picture.shape, picture.dtype)
        return self._staging[picture.dtype]

    def set_up(self, table: StepTable, noise: NoiseSource, stream: int) -> None:
        """Send what differs from run to run: coefficients, timesteps, seed and frames, or the noise itself."""
        steps = len(table)
        rows = _rows(table)
        timesteps = np.zeros((steps, self.t_stride // 4), dtype=np.float32)
        timesteps[:, : self.batch] = table.t[:, None]
        control = np.zeros(3 + self.batch, dtype=np.uint32)
        control[0] = NEVER
        if isinstance(noise, SeededNoise):
            control[1:3] = noise.seed & 0xFFFFFFFF, noise.seed >> 32
            control[3:] = noise.frames
        else:
            given = np.ascontiguousarray(np.stack([noise(k) for k in range(steps + 1)]), dtype=np.float32)
            self._send("noise", given, stream)
        self._send("rows", rows, stream)
        self._send("t", timesteps, stream)
        self._send("control", control, stream)
        self.driver.synchronize(stream)  # the arrays, all of them in variables here, must outlive the copies

    def load(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """Make mu of a picture, and of that the padded mu that the network sees."""
        kernel = f"irsde_load_{_SUFFIXES[picture.dtype]}_{self.io}"
        pointers = (picture.pointer, self._at("mu"), self._at("mu_in"))
        layout = (*picture.element_strides, int(reversed_channels))
        self.driver.launch(kernel, self.pixels, (*pointers, *layout, *self.dimensions), stream)
        self._pad("mu_in", stream)

    def store(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """Write mu + y, the restored picture, to a picture."""
        pointers = (picture.pointer, self._at("mu"), self._at("y"))
        arguments = (*pointers, *picture.element_strides, int(reversed_channels), *self.dimensions)
        self.driver.launch(f"irsde_store_{_SUFFIXES[picture.dtype]}", self.pixels, arguments, stream)

    def run(
        self, table: StepTable, given: bool, clip: bool, on_step: Callable[[int], None] | None, stream: int
    ) -> None:
        """Do the start and all steps: replay them as a graph where the engine allows it, else one by one."""
        steps = len(table)
        if on_step is not None:
            on_step(0)
        if not self.capturable:
            self._steps(steps, given, clip, stream, on_step)
            return
        # What the kernels' arguments depend on; the rest of a run is in device memory.
        key = (steps, given, clip)
        if key not in self._graphs:
            self._graphs[key] = self._captured(steps, given, clip, stream)
        self.driver.replay(self._graphs[key], stream)
        if on_step is not None:
            self.driver.synchronize(stream)
            on_step(steps)

    def _captured(self, steps: int, given: bool, clip: bool, stream: int) -> Any:
        """A graph of the whole loop, recorded on a stream of our own (the default stream cannot be).

        One evaluation of the start runs before, since engines finish setting up at their first.
        """
        self.driver.synchronize(stream)  # what `set_up` and `load` have on it is read on our own
        self._start(steps, given, self.own_stream)
        self._evaluate(0, self.own_stream)
        self.driver.synchronize(self.own_stream)
        collecting = gc.isenabled()
        gc.disable()  # memory that a collection gives back would spoil the capture
        try:
            return self.driver.capture(lambda: self._steps(steps, given, clip, self.own_stream, None), self.own_stream)
        finally:
            if collecting:
                gc.enable()

    def _steps(self, steps: int, given: bool, clip: bool, stream: int, on_step: Callable[[int], None] | None) -> None:
        """Put the start and every step on the stream."""
        self._start(steps, given, stream)
        for k in range(steps):
            self._evaluate(k, stream)
            self._step(k, given, clip, stream)
            if on_step is not None:
                self.driver.synchronize(stream)
                on_step(k + 1)

    def _start(self, steps: int, given: bool, stream: int) -> None:
        """The initial y, and the first x."""
        pointers = (self._at("y"), self._at("x"), self._at("mu"), self._noise(0, given), self._at("control"))
        start = self._at("rows") + _ROW * steps
        self.driver.launch(f"irsde_start_{self.io}", self.fours, (*pointers, start, *self.dimensions), stream)
        self._pad("x", stream)

    def _evaluate(self, k: int, stream: int) -> None:
        timesteps = self._at("t") + self.t_stride * k
        self.evaluate(self._at("x"), self._at("mu_in"), timesteps, self._at("eps"), stream)

    def _step(self, k: int, given: bool, clip: bool, stream: int) -> None:
        pointers = [self._at(name) for name in ("y", "q", "x", "eps", "mu")]
        pointers += [self._noise(k + 1, given), self._at("control"), self._at("rows") + _ROW * k]
        arguments = (*pointers, k + 1, int(clip), *self.dimensions)
        self.driver.launch(f"irsde_step_{self.io}", self.fours, arguments, stream)
        self._pad("x", stream)

    def _pad(self, buffer: str, stream: int) -> None:
        if self.padded_pixels > self.pixels:
            arguments = (self._at(buffer), self.pad_mode, *self.dimensions)
            self.driver.launch(f"irsde_pad_{self.io}", self.padded_pixels, arguments, stream)

    def not_finite_at(self, stream: int) -> int:
        """The first step whose state was not finite, or NEVER."""
        flag = np.empty(1, dtype=np.int32)
        self.driver.download(flag, self._at("control"), stream)
        self.driver.synchronize(stream)
        return int(flag[0])

    def free(self) -> None:
        """Give all memory back."""
        self._forget_graphs()
        self._buffers.clear()
        self._staging.clear()

    def _noise(self, k: int, given: bool) -> int:
        """Where the given noise of step k is; 0 where the kernels draw it."""
        if not given:
            return 0
        return self._at("noise") + 4 * self.pixels * k

    def _at(self, name: str) -> int:
        return self._buffers[name].pointer

    def _send(self, name: str, array: npt.NDArray[Any], stream: int) -> None:
        self._buffer(name, array.nbytes)
        self.driver.upload(self._at(name), array, stream)

    def _buffer(self, name: str, size: int) -> None:
        """Allocate a buffer, or a larger one; graphs that know the old address are forgotten."""
        if name in self._buffers and self._buffers[name].size >= size:
            return
        if self._buffers.pop(name, None) is not None:  # given back first: there may be no room for both
            self._forget_graphs()
        self._buffers[name] = Memory(self.driver, size)

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self.driver.release(graph)
        self._graphs.clear()


def _rows(table: StepTable) -> npt.NDArray[np.float32]:
    """(N + 1, 8): the kernel's Row of each step, then the initial state's deviation; rounded to float32 once."""
    rows = np.zeros((len(table) + 1, 8))
    rows[:-1] = np.stack([table.a, table.c, table.d, table.s, table.p, table.r, table.a_clip, table.k], axis=1)
    rows[-1, 0] = table.start
    return rows.astype(np.float32)
