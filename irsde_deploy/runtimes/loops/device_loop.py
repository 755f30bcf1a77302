"""The reverse SDE on a device: executes a plan around a device engine.

One upload, N evaluations with a fused update after each, one download. What a picture's size needs is made once and
kept (`device_size`), and the N steps are replayed as one graph.

The numbers are those of `loops.numpy_loop`: the same arithmetic in the same order (device/kernels/irsde_kernels.h).
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ...core.noise import NoiseSource
from ...core.sampling import Plan
from ...core.tiling import Tiling
from ..device.arrays import DeviceArray
from ..device.drivers import lock_of, own_stream
from ..device.engine import DeviceEngine
from .device_size import NEVER, SUFFIXES, DeviceSize
from .numpy_loop import not_finite

Method = TypeVar("Method", bound=Callable[..., Any])

MAX_SIZES = 3
"""How many picture sizes keep their buffers and graphs; the one unused for longest goes first."""


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
        self._sizes: OrderedDict[tuple[tuple[int, ...], Tiling | None], DeviceSize] = OrderedDict()

    @_one_at_a_time
    def __call__(
        self,
        batch: npt.NDArray[Any],
        plan: Plan,
        noise: NoiseSource,
        *,
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
        self._restore(size, staging, staging, plan, noise, stream=stream, on_step=on_step)
        restored = np.empty_like(picture)
        driver.download(restored, staging.pointer, stream)
        driver.synchronize(stream)
        return restored.astype(batch.dtype, copy=False)

    @_one_at_a_time
    def on_device(
        self,
        picture: DeviceArray,
        plan: Plan,
        noise: NoiseSource,
        *,
        out: DeviceArray | None = None,
        stream: int | None = None,
        bgr: bool = False,
        tiling: Tiling | None = None,
    ) -> DeviceArray:
        """Restore a batch (B, H, W, C) that is on the device already; four bytes of status come to the host.

        Args:
            picture: the batch, of uint8, uint16, float16 or float32, with any strides.
            plan, noise, tiling: as for pictures in host memory.
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
        self._restore(size, picture, target, plan, noise, stream=stream, bgr=bgr)
        driver.synchronize(stream)
        return target

    def _restore(
        self,
        size: DeviceSize,
        source: DeviceArray,
        target: DeviceArray,
        plan: Plan,
        noise: NoiseSource,
        *,
        stream: int,
        on_step: Callable[[int], None] | None = None,
        bgr: bool = False,
    ) -> None:
        """From a picture on the device to one on the device, everything on one stream."""
        recipe = size.set_up(plan, noise, stream)
        size.load(source, bgr, stream)
        size.run(recipe, on_step, stream)
        # Before the picture is stored: where a state is not finite, `target` must stay as it is.
        step = size.not_finite_at(stream)
        if step != NEVER:
            raise not_finite(self.engine, plan.table, step)
        size.store(target, bgr, stream)

    def _size(self, shape: tuple[int, ...], tiling: Tiling | None) -> DeviceSize:
        """The buffers for pictures (B, H, W), made when they are first needed."""
        key = (shape, tiling)
        if key not in self._sizes:
            while len(self._sizes) >= MAX_SIZES:
                self._sizes.popitem(last=False)[1].free()
            self._sizes[key] = self._new_size(shape, tiling)
        self._sizes.move_to_end(key)
        return self._sizes[key]

    def _new_size(self, shape: tuple[int, ...], tiling: Tiling | None) -> DeviceSize:
        """New buffers for a size; where there is no room for them, what is kept for other sizes goes first."""
        stream = own_stream(self.engine.driver)
        try:
            return DeviceSize(self.engine, shape, tiling, stream)
        except MemoryError:
            if not self._sizes:
                raise
        # Not in the except clause: the error's traceback would keep what the failed attempt had allocated.
        while self._sizes:
            self._sizes.popitem()[1].free()
        return DeviceSize(self.engine, shape, tiling, stream)


def _as_kernels_read_it(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A batch as one block of memory, in the processor's byte order and in a type that kernels read."""
    dtype = batch.dtype.newbyteorder("=")
    if dtype not in SUFFIXES:
        dtype = np.dtype(np.float32)
    return np.ascontiguousarray(batch, dtype=dtype)
