"""The reverse SDE on a device: executes a StepTable around a device engine.

One upload, N evaluations with a fused update after each, one download. All buffers of one picture size are allocated
once; the N steps are recorded as one graph per size and number of steps, and replayed. The coefficients, timesteps,
seed and frame numbers are in device memory, so that another table or seed of the same length replays the same graph.

The numbers are those of `numpy_loop`: the same arithmetic in the same order (kernels/irsde_kernels.h).
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
"""Picture sizes whose buffers and graphs are kept; the one unused for longest goes first."""

NEVER = 2**31 - 1
"""In place of the step at which a state was not finite."""

_ROW = 32
"""Bytes of a kernel's Row."""

_ALIGNMENT = 256
"""Bytes; that of every pointer an engine is given."""

_PAD_MODES = {"zero": 0, "reflect": 1}
_SUFFIXES = {
    np.dtype(np.uint8): "u8",
    np.dtype(np.uint16): "u16",
    np.dtype(np.float16): "f16",
    np.dtype(np.float32): "f32",
}
"""Picture types that kernels read and write, as in their names; other floating-point pictures travel as float32."""


def _one_at_a_time(method: Method) -> Method:
    """A method of DeviceLoop that holds the driver's lock."""

    @functools.wraps(method)
    def locked(self: DeviceLoop, *arguments: Any, **named: Any) -> Any:
        with lock_of(self.engine.driver):
            return method(self, *arguments, **named)

    return cast(Method, locked)


class DeviceLoop:
    """See the module's text. Several threads may call it; they take turns, as all do that use one driver.

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
        """A checked batch (B, H, W, C) in host memory -> restored, same shape and type."""
        self.engine.driver.activate()
        native = batch.dtype.newbyteorder("=")
        picture = np.ascontiguousarray(batch, dtype=native if native in _SUFFIXES else np.float32)
        size = self._size(picture.shape[:3], tiling)
        staging = size.staging(picture)
        stream = own_stream(self.engine.driver)
        self.engine.driver.upload(staging.pointer, picture, stream)
        self._restore(size, staging, staging, table, noise, clip, on_step, stream, reversed_channels=False)
        restored = np.empty_like(picture)
        self.engine.driver.download(restored, staging.pointer, stream)
        self.engine.driver.synchronize(stream)
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
        """A batch (B, H, W, C) that is on the device already -> restored there; four bytes of status come to the host.

        Args:
            picture: any strides; uint8, uint16, float16 or float32.
            table, noise, clip, tiling: as for host pictures.
            out: where to write, same shape; may be `picture` itself. By default an array of the driver's own.
            stream: to work on, a CUDA handle; the loop's own by default, after waiting for the picture's producer.
            bgr: the channels are blue, green, red, in picture and out.

        Raises:
            NotFiniteError: a state is not finite; out is not written.
        """
        self.engine.driver.activate()
        picture.require_on(self.engine.driver)
        size = self._size(picture.shape[:3], tiling)
        target = out if out is not None else DeviceArray.empty(self.engine.driver, picture.shape, picture.dtype)
        target.require_on(self.engine.driver)
        target.require_like(picture)
        if stream is None:
            stream = own_stream(self.engine.driver)
            for producer in {picture.stream, target.stream}:
                if producer is not None:
                    self.engine.driver.synchronize(producer)
        self._restore(size, picture, target, table, noise, clip, None, stream, bgr)
        self.engine.driver.synchronize(stream)
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
        size.set_up(table, noise, stream)
        size.load(source, reversed_channels, stream)
        size.run(table, not isinstance(noise, SeededNoise), clip, on_step, stream)
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
        """Buffers for a size; where there is no room for them, what is kept for others goes first."""
        stream = own_stream(self.engine.driver)
        try:
            return _Size(self.engine, shape, tiling, stream)
        except MemoryError:
            if not self._sizes:
                raise
        while self._sizes:
            self._sizes.popitem()[1].free()
        return _Size(self.engine, shape, tiling, stream)


class _Size:
    """Buffers and graphs for pictures of one size, whole or in tiles."""

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
        self.t_stride = -(-4 * batch // _ALIGNMENT) * _ALIGNMENT
        self.fours = batch * card.channels * height * ((width + 3) // 4)
        self._buffers: dict[str, Memory] = {}
        self._staging: dict[np.dtype[Any], DeviceArray] = {}
        self._graphs: dict[tuple[int, bool, bool], Any] = {}
        if tiling is None:
            self.evaluate: Evaluation = engine.evaluation(padded, stream)
        else:
            tiles = tiling.over(padded[1], padded[2], multiple)
            self.evaluate = TiledEvaluation(engine, batch, tiles, self.io, self.dimensions, stream)
        self.capturable = engine.capturable
        for name in ("y", "q", "mu"):
            self._buffer(name, 4 * self.pixels)
        for name in ("x", "mu_in", "eps"):
            self._buffer(name, np.dtype(engine.io_type).itemsize * self.padded_pixels)
        self._buffer("control", 4 * (3 + batch))

    def staging(self, picture: npt.NDArray[Any]) -> DeviceArray:
        """A contiguous picture on the device, to upload to and download from."""
        if picture.dtype not in self._staging:
            self._staging[picture.dtype] = DeviceArray.empty(self.driver, picture.shape, picture.dtype)
        return self._staging[picture.dtype]

    def set_up(self, table: StepTable, noise: NoiseSource, stream: int) -> None:
        """Send what differs from run to run: coefficients, timesteps, seed and frames, or the noise itself."""
        steps = len(table)
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
        for name, array in (("rows", _rows(table)), ("t", timesteps), ("control", control)):
            self._send(name, array, stream)
        self.driver.synchronize(stream)  # the arrays must outlive the copies

    def load(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """Picture -> mu, and the network's padded mu."""
        kernel = f"irsde_load_{_SUFFIXES[picture.dtype]}_{self.io}"
        pointers = (picture.pointer, self._at("mu"), self._at("mu_in"))
        layout = (*picture.element_strides, int(reversed_channels))
        self.driver.launch(kernel, self.pixels, (*pointers, *layout, *self.dimensions), stream)
        self._pad("mu_in", stream)

    def store(self, picture: DeviceArray, reversed_channels: bool, stream: int) -> None:
        """mu + y -> picture."""
        pointers = (picture.pointer, self._at("mu"), self._at("y"))
        arguments = (*pointers, *picture.element_strides, int(reversed_channels), *self.dimensions)
        self.driver.launch(f"irsde_store_{_SUFFIXES[picture.dtype]}", self.pixels, arguments, stream)

    def run(
        self, table: StepTable, given: bool, clip: bool, on_step: Callable[[int], None] | None, stream: int
    ) -> None:
        """The start and all steps: replayed as a graph where the engine allows it, else one by one."""
        steps = len(table)
        if on_step is not None:
            on_step(0)
        if not self.capturable:
            self._steps(steps, given, clip, stream, on_step)
            return
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
        self.driver.synchronize(stream)
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
        """First step whose state was not finite, or NEVER."""
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
        return self._at("noise") + 4 * self.pixels * k if given else 0

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
