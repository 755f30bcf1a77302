"""The CPU as a device: its memory is host memory, its kernels are the GPU's, compiled for the CPU.

It is for tests on machines without a GPU, and for looking at a device loop in a debugger. Everything happens at once,
in the caller's thread; a graph is the list of the calls that were recorded.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ....errors import OutOfMemoryError
from ..kernels import C_TYPES, SIGNATURES, host_library


class HostDriver:
    """The CPU as a device; see `Driver`."""

    kind = "host"

    def __init__(self) -> None:
        library = ctypes.CDLL(str(host_library()))
        self.name = "host"
        self._kernels = {name: _function(library, name, types) for name, types in SIGNATURES.items()}
        # Pointers are numbers to everybody else: only this keeps the arrays alive until `free`.
        self._memory: dict[int, npt.NDArray[np.uint8]] = {}
        self._recording: list[Callable[[], None]] | None = None

    def activate(self) -> None:
        """Nothing to do."""

    def malloc(self, size: int) -> int:
        try:
            memory = np.empty(max(1, size), dtype=np.uint8)
        except MemoryError:
            raise OutOfMemoryError(
                f"there is no memory for {size / 1e9:.2f} GB: use smaller tiles or batches"
            ) from None
        self._memory[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def free(self, pointer: int) -> None:
        del self._memory[pointer]

    def upload(self, pointer: int, array: npt.NDArray[Any], stream: int) -> None:
        # Copies are put in line, too: in a recording they must happen between the kernels around them.
        self.submit(lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))

    def download(self, array: npt.NDArray[Any], pointer: int, stream: int) -> None:
        self.submit(lambda: ctypes.memmove(array.ctypes.data, pointer, array.nbytes))

    def new_stream(self) -> int:
        return 0

    def synchronize(self, stream: int) -> None:
        """Everything is done already."""

    def event(self, stream: int) -> float:
        return time.perf_counter()

    def elapsed(self, start: float, end: float) -> float:
        return (end - start) * 1e3

    def launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        self.submit(lambda: self._kernels[kernel](count, *arguments))

    def submit(self, call: Callable[[], Any]) -> None:
        """Do a call, or record it where a graph is being captured; engines that run on the host are put in line so."""
        if self._recording is None:
            call()
        else:
            self._recording.append(call)

    def capture(self, work: Callable[[], None], stream: int) -> list[Callable[[], None]]:
        calls: list[Callable[[], None]] = []
        self._recording = calls
        try:
            work()
        finally:
            self._recording = None
        return calls

    def replay(self, graph: list[Callable[[], None]], stream: int) -> None:
        for call in graph:
            call()

    def release(self, graph: list[Callable[[], None]]) -> None:
        graph.clear()


def _function(library: ctypes.CDLL, name: str, types: str) -> Any:
    function = getattr(library, name)
    function.argtypes = [C_TYPES[letter] for letter in "q" + types]  # "q": the number of work items, which comes first
    function.restype = None
    return function
