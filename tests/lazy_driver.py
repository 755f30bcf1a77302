"""A device that does nothing before somebody waits for it, as a GPU may, and an engine there whose work is NumPy's."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.errors import OutOfMemoryError
from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.device.engine import DeviceEngine, Evaluation, PaddedShape

SDE = MeanRevertingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.005)
CARD = ModelCard("mixing", {}, channels=3, multiple_of=16, pad_mode="reflect", sde=SDE, sampler="sde-2m", steps=3)


class LazyDriver(HostDriver):
    """Strict where the host is not: a thread must activate it, and an array must live until its copy is done.

    Attributes:
        waited: streams, in the order in which they were waited for.
        captures, released: numbers of graphs.
        room: bytes that may be allocated at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Callable[[], Any]] = []
        self._active: set[int] = set()
        self.waited: list[int] = []
        self.captures = self.released = 0
        self.room = 2**30

    @property
    def held(self) -> int:
        return sum(memory.nbytes for memory in self._memory.values())

    def activate(self) -> None:
        self._active.add(threading.get_ident())

    def malloc(self, size: int) -> int:
        assert threading.get_ident() in self._active, "the device was not made current in this thread"
        if self.held + size > self.room:
            raise OutOfMemoryError("there is no room on the device")
        return super().malloc(size)

    def free(self, pointer: int) -> None:
        self._work_off()
        super().free(pointer)

    def submit(self, call: Callable[[], Any]) -> None:
        if self._recording is None:
            self._waiting.append(call)
        else:
            self._recording.append(call)

    def upload(self, pointer: int, array: np.ndarray, stream: int) -> None:
        self._copy(pointer, array.ctypes.data, array)

    def download(self, array: np.ndarray, pointer: int, stream: int) -> None:
        self._copy(array.ctypes.data, pointer, array)

    def _copy(self, target: int, source: int, array: np.ndarray) -> None:
        size, alive = array.nbytes, weakref.ref(array)

        def copy() -> None:
            assert alive() is not None, "an array on the host was gone before its copy was done"
            ctypes.memmove(target, source, size)

        self.submit(copy)

    def synchronize(self, stream: int) -> None:
        assert self._recording is None
        self.waited.append(stream)
        self._work_off()

    def _work_off(self) -> None:
        calls, self._waiting = self._waiting, []
        for call in calls:
            call()

    def capture(self, work: Callable[[], None], stream: int) -> list[Callable[[], None]]:
        assert not gc.isenabled(), "a collection may give memory back in the middle of a recording"
        self.captures += 1
        return super().capture(work, stream)

    def replay(self, graph: list[Callable[[], None]], stream: int) -> None:
        self._waiting.extend(graph)

    def release(self, graph: list[Callable[[], None]]) -> None:
        self.released += 1
        super().release(graph)


def mixed(x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
    """What the network computes: eps = x' / 2 + t mu' / 100, of each entry with its own t; NaN where t mu overflows.

    Of x' and mu' a part is of the neighbours to the right and below, which at a picture's border are its padding.
    """
    with np.errstate(all="ignore"):
        product = t[:, None, None, None] * _blurred(mu)
        return _blurred(x) / np.float32(2) + product / np.float32(100) + (product - product)


def _blurred(planes: np.ndarray) -> np.ndarray:
    return (np.float32(2) * planes + np.roll(planes, -1, -1) + np.roll(planes, -1, -2)) / np.float32(4)


class Mixing:
    """The network as a function of arrays."""

    name = "mixing"

    def __init__(self, card: ModelCard = CARD) -> None:
        self.card = card

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        return mixed(x, mu, t)


class MixingOnDevice(DeviceEngine):
    """The same on a host driver.

    Attributes:
        shapes: those that `evaluation` was asked for. timesteps: where those of each evaluation were.
        overlaps: how often one evaluation was at work while another was, each taking `seconds`.
    """

    name = "mixing"

    def __init__(
        self, driver: HostDriver, card: ModelCard = CARD, capturable: bool = True, io_type: type = np.float32,
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self.driver, self.card, self.capturable, self.io_type = driver, card, capturable, io_type
        self.shapes: list[PaddedShape] = []
        self.timesteps: list[int] = []
        self._seconds, self._at_work, self.overlaps = seconds, 0, 0

    def evaluation(self, shape: PaddedShape, stream: int) -> Evaluation:
        self.shapes.append(shape)
        batch, height, width = shape
        picture = (batch, self.card.channels, height, width)

        def run(x: int, mu: int, t: int, eps: int) -> None:
            self._at_work += 1
            self.overlaps += self._at_work > 1
            time.sleep(self._seconds)
            given = [viewed(pointer, picture, self.io_type).astype(np.float32) for pointer in (x, mu)]
            viewed(eps, picture, self.io_type)[:] = mixed(*given, viewed(t, (batch,), np.float32))
            self._at_work -= 1

        def enqueue(x: int, mu: int, t: int, eps: int, stream: int) -> None:
            self.timesteps.append(t)
            self.driver.submit(lambda: run(x, mu, t, eps))

        return enqueue


def viewed(pointer: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Memory of the host driver as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype=dtype).reshape(shape)
