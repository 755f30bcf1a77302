"""What the device loop asks of an engine: evaluate the network on buffers that are on the device already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...core.arrays import Float32
from ...core.card import ModelCard
from .drivers import Driver, lock_of, own_stream
from .drivers.host import HostDriver
from .drivers.memory import Memory

PaddedShape: TypeAlias = tuple[int, int, int]
"""(batch, height, width) of what the network sees; the channels are the card's."""


Evaluation: TypeAlias = Callable[[int, int, int, int, int], None]
"""(x, mu, t, eps, stream): puts one evaluation on the stream; device pointers, (B, C, H, W) and t (B,)."""


class DeviceEngine(ABC):
    """A score network on a device. It is an `Engine` too: called with arrays, it copies them there and back.

    Attributes:
        card: how pictures must be prepared, and the SDE.
        name: library, version and device, for people.
        driver: the device.
        io_type: of x, mu and eps on the device: float32 or float16. Timesteps are float32.
        capturable: whether the last evaluation made may be recorded into a graph.
    """

    card: ModelCard
    name: str
    driver: Driver
    io_type: npt.DTypeLike = np.float32
    capturable: bool = True
    _called: tuple[PaddedShape, Evaluation, list[Memory]] | None = None

    @property
    def host(self) -> HostDriver | None:
        """The driver, where it is the host's: calls of the engine are put in line with its `submit`."""
        return self.driver if isinstance(self.driver, HostDriver) else None

    @abstractmethod
    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        """The network for one shape, with what it needs for that alone (a profile, memory) as long as it is kept.

        Raises:
            EngineError: the engine cannot take this shape; says which it can.
        """

    def takes(self, shape: PaddedShape) -> bool:
        """Whether `evaluation` can take a shape, memory aside."""
        return True

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        with lock_of(self.driver):
            return self._evaluated(x, mu, t)

    def _evaluated(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        driver, stream = self.driver, own_stream(self.driver)
        driver.activate()
        arrays = [np.ascontiguousarray(a, dtype=d) for a, d in ((x, self.io_type), (mu, self.io_type), (t, np.float32))]
        eps: npt.NDArray[Any] = np.empty_like(arrays[0])
        shape = (x.shape[0], x.shape[2], x.shape[3])
        if self._called is None or self._called[0] != shape:
            self._called = None  # its memory goes before the next is asked for
            self._called = (shape, self.evaluation(shape, stream), [Memory(driver, a.nbytes) for a in (*arrays, eps)])
        _, evaluate, buffers = self._called
        for buffer, array in zip(buffers, arrays, strict=False):
            driver.upload(buffer.pointer, array, stream)
        evaluate(buffers[0].pointer, buffers[1].pointer, buffers[2].pointer, buffers[3].pointer, stream)
        driver.download(eps, buffers[3].pointer, stream)
        driver.synchronize(stream)
        return eps.astype(np.float32)
