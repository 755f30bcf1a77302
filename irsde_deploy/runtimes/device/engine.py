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
"""A function (x, mu, t, eps, stream) that puts one evaluation on the stream. The others are pointers on the device, to
arrays (B, C, H, W) of the engine's `io_type`, and for t to (B,) of float32."""


class DeviceEngine(ABC):
    """A score network on a device. It is an `Engine` too: called with arrays, it copies them there and back.

    Attributes:
        card: how pictures must be prepared, and the SDE.
        name: library, version and device, for people.
        driver: the device.
        io_type: the type of x, mu and eps on the device, float32 or float16. Timesteps are float32.
        capturable: whether what `evaluation` returned last may be recorded into a graph.
    """

    card: ModelCard
    name: str
    driver: Driver
    io_type: npt.DTypeLike = np.float32
    capturable: bool = True
    _called: tuple[PaddedShape, Evaluation, list[Memory]] | None = None

    @property
    def host(self) -> HostDriver | None:
        """The driver where it is the host's, with which an engine puts its calls in line (`submit`); None on a GPU."""
        if isinstance(self.driver, HostDriver):
            return self.driver
        return None

    @abstractmethod
    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        """The network for one shape; it keeps what it needs for that shape alone (a profile, memory) while it lives.

        Args:
            shape: of the padded pictures.
            stream: the stream to set up on.

        Raises:
            EngineError: the engine cannot take this shape; the message says which it can.
        """

    def takes(self, shape: PaddedShape) -> bool:
        """Whether `evaluation` can take a shape, memory aside."""
        return True

    def __call__(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        """See `Engine`."""
        with lock_of(self.driver):
            return self._evaluated(x, mu, t)

    def _evaluated(self, x: Float32, mu: Float32, t: Float32) -> Float32:
        driver = self.driver
        stream = own_stream(driver)
        driver.activate()
        inputs: list[npt.NDArray[Any]] = [
            np.ascontiguousarray(x, dtype=self.io_type),
            np.ascontiguousarray(mu, dtype=self.io_type),
            np.ascontiguousarray(t, dtype=np.float32),
        ]
        eps = np.empty_like(inputs[0])
        shape = (x.shape[0], x.shape[2], x.shape[3])
        if self._called is None or self._called[0] != shape:
            self._called = None  # its memory goes before the next is asked for
            evaluate = self.evaluation(shape, stream)
            self._called = (shape, evaluate, [Memory(driver, array.nbytes) for array in (*inputs, eps)])
        _, evaluate, (at_x, at_mu, at_t, at_eps) = self._called
        for memory, array in zip((at_x, at_mu, at_t), inputs, strict=True):
            driver.upload(memory.pointer, array, stream)
        evaluate(at_x.pointer, at_mu.pointer, at_t.pointer, at_eps.pointer, stream)
        driver.download(eps, at_eps.pointer, stream)
        driver.synchronize(stream)  # the arrays live until here, as copies in both directions ask
        return eps.astype(np.float32)
