"""NVIDIA GPUs by cuda-bindings, NVIDIA's own wheels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from ....errors import EngineError, OutOfMemoryError, is_out_of_memory, reason, requires_extra
from ..kernels import C_TYPES, SIGNATURES, cubin
from .probe import require_device

THREADS = 256
"""Threads in a block of every kernel."""


class CudaBindingsDriver:
    """A GPU by cuda-bindings; see `Driver`.

    It holds the device's primary context, which PyTorch, CuPy and the CUDA runtime use too.
    """

    kind = "cuda"

    def __init__(self, index: int = 0) -> None:
        device = require_device("the cuda-bindings driver")
        with requires_extra("gpu", "running on a GPU"):
            from cuda.bindings import driver
        self._cuda = driver
        self._check(driver.cuInit(0))
        handle = self._check(driver.cuDeviceGet(index))
        self._context = self._check(driver.cuDevicePrimaryCtxRetain(handle))
        self.activate()
        self.name = f"cuda-bindings, {device.name}"
        self._module = self._check(driver.cuModuleLoadData(cubin(device.compute_capability)))
        self._kernels: dict[str, tuple[Any, tuple[Any, ...]]] = {}
        for name, types in SIGNATURES.items():
            function = self._check(driver.cuModuleGetFunction(self._module, name.encode()))
            # "q": the number of work items, which every kernel takes first.
            self._kernels[name] = (function, tuple(C_TYPES[letter] for letter in "q" + types))

    def activate(self) -> None:
        self._check(self._cuda.cuCtxSetCurrent(self._context))

    def malloc(self, size: int) -> int:
        return int(self._check(self._cuda.cuMemAlloc(max(1, size))))  # CUDA refuses 0 bytes

    def free(self, pointer: int) -> None:
        self._check(self._cuda.cuMemFree(pointer))

    def upload(self, pointer: int, array: npt.NDArray[Any], stream: int) -> None:
        self._check(self._cuda.cuMemcpyHtoDAsync(pointer, array.ctypes.data, array.nbytes, stream))

    def download(self, array: npt.NDArray[Any], pointer: int, stream: int) -> None:
        self._check(self._cuda.cuMemcpyDtoHAsync(array.ctypes.data, pointer, array.nbytes, stream))

    def new_stream(self) -> int:
        # A blocking stream would wait for whatever is on the legacy default stream, and make that wait for it.
        flags = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._check(self._cuda.cuStreamCreate(flags)))

    def synchronize(self, stream: int) -> None:
        self._check(self._cuda.cuStreamSynchronize(stream))

    def event(self, stream: int) -> Any:
        event = self._check(self._cuda.cuEventCreate(self._cuda.CUevent_flags.CU_EVENT_DEFAULT))
        self._check(self._cuda.cuEventRecord(event, stream))
        return event

    def elapsed(self, start: Any, end: Any) -> float:
        self._check(self._cuda.cuEventSynchronize(end))
        return float(self._check(self._cuda.cuEventElapsedTime(start, end)))

    def launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        function, types = self._kernels[kernel]
        blocks = (count + THREADS - 1) // THREADS
        given = ((count, *arguments), types)
        self._check(self._cuda.cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, stream, given, 0))

    def capture(self, work: Callable[[], None], stream: int) -> Any:
        # Thread-local: what other threads of the program do on the GPU, such as allocating, must not spoil it.
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check(self._cuda.cuStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            # A stream that stays in capture mode refuses everything from then on.
            status, graph = self._cuda.cuStreamEndCapture(stream)
            if int(status) == 0:
                self._cuda.cuGraphDestroy(graph)
            raise
        graph = self._check(self._cuda.cuStreamEndCapture(stream))
        try:
            return self._check(self._cuda.cuGraphInstantiate(graph, 0))
        finally:
            self._check(self._cuda.cuGraphDestroy(graph))

    def replay(self, graph: Any, stream: int) -> None:
        self._check(self._cuda.cuGraphLaunch(graph, stream))

    def release(self, graph: Any) -> None:
        self._check(self._cuda.cuGraphExecDestroy(graph))

    def _check(self, answer: tuple[Any, ...]) -> Any:
        """The value of an answer, which is (status,) or (status, value); EngineError where the status is an error."""
        status, *values = answer
        if int(status) != 0:
            raise self._refusal(status)
        return values[0] if values else None

    def _refusal(self, status: Any) -> EngineError:
        _, text = self._cuda.cuGetErrorString(status)
        words = status.name
        if isinstance(text, bytes):  # None for a status that the driver does not know
            words = text.decode()
        error = Exception(words)
        kind = OutOfMemoryError if is_out_of_memory(error) else EngineError
        return kind(f"the GPU refused: {reason(error)} ({status.name})")
