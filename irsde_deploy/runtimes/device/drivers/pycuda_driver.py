"""NVIDIA GPUs by PyCUDA, for programs that use it already.

`pycuda.autoinit` is never imported: it would create a context of its own beside the primary one, which PyTorch and the
CUDA runtime use. PyCUDA has no graphs, so those come from NVIDIA's driver library itself; its launches take streams of
PyCUDA's own alone, so a caller's stream needs the driver cuda-bindings.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ....errors import EngineError, InvalidValueError, OutOfMemoryError, is_out_of_memory, reason, requires_extra
from ....system.cache import cache_folder
from ..kernels import GPU_OPTIONS, SIGNATURES, SOURCE
from .cuda_bindings import THREADS
from .probe import load_driver, require_device

_NUMPY_TYPES: dict[str, Any] = {"P": np.uintp, "i": np.int32, "q": np.int64}
_CAPTURE_THREAD_LOCAL = 1  # CUstreamCaptureMode


class PyCudaDriver:
    """A GPU by PyCUDA; see `Driver`."""

    kind = "cuda"

    def __init__(self, index: int = 0) -> None:
        device = require_device("the pycuda driver")
        with requires_extra("pycuda", "running on a GPU by PyCUDA"):
            import pycuda.driver as cuda
        self._cuda = cuda
        cuda.init()
        self._context = cuda.Device(index).retain_primary_context()
        atexit.register(self._context.detach)  # left to itself, PyCUDA ends a primary context by the wrong function
        self._thread = threading.local()
        self._library = load_driver()
        # PyCUDA frees what nothing refers to any more, and everybody else has numbers.
        self._streams: dict[int, Any] = {}
        self._allocations: dict[int, Any] = {}
        self.name = f"pycuda, {device.name}"
        self.activate()
        self._module = cuda.module_from_buffer(_compiled(device.compute_capability))
        self._kernels = {name: self._module.get_function(name) for name in SIGNATURES}

    def activate(self) -> None:
        current = self._cuda.Context.get_current()
        if current is None or current.handle != self._context.handle:
            self._thread.__dict__.setdefault("pushed", []).append(_Pushed(self._context))

    def malloc(self, size: int) -> int:
        allocation = self._calling(self._cuda.mem_alloc, max(1, size))
        pointer = int(allocation)
        self._allocations[pointer] = allocation
        return pointer

    def free(self, pointer: int) -> None:
        self._calling(self._allocations.pop(pointer).free)

    def upload(self, pointer: int, array: npt.NDArray[Any], stream: int) -> None:
        self._calling(self._cuda.memcpy_htod_async, pointer, array, self._stream(stream))

    def download(self, array: npt.NDArray[Any], pointer: int, stream: int) -> None:
        self._calling(self._cuda.memcpy_dtoh_async, array, pointer, self._stream(stream))

    def new_stream(self) -> int:
        stream = self._calling(self._cuda.Stream, 1)  # CU_STREAM_NON_BLOCKING
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def synchronize(self, stream: int) -> None:
        self._ask("cuStreamSynchronize", ctypes.c_void_p(stream))

    def event(self, stream: int) -> Any:
        return self._calling(self._cuda.Event().record, self._stream(stream))

    def elapsed(self, start: Any, end: Any) -> float:
        self._calling(end.synchronize)
        return float(self._calling(start.time_till, end))

    def launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        # PyCUDA takes the size of an argument from its NumPy type.
        typed = [_NUMPY_TYPES[letter](value) for letter, value in zip(SIGNATURES[kernel], arguments, strict=True)]
        function = self._kernels[kernel]
        grid = ((count + THREADS - 1) // THREADS, 1)
        block = (THREADS, 1, 1)
        self._calling(function, np.int64(count), *typed, grid=grid, block=block, stream=self._stream(stream))

    def capture(self, work: Callable[[], None], stream: int) -> ctypes.c_void_p:
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        handle = ctypes.c_void_p(stream)
        self._ask("cuStreamBeginCapture_v2", handle, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        except BaseException:
            # A stream that stays in capture mode refuses everything from then on.
            if self._answer("cuStreamEndCapture", handle, ctypes.byref(graph)) == 0:
                self._answer("cuGraphDestroy", graph)
            raise
        self._ask("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            self._ask("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._ask("cuGraphDestroy", graph)
        return executable

    def replay(self, graph: ctypes.c_void_p, stream: int) -> None:
        self._ask("cuGraphLaunch", graph, ctypes.c_void_p(stream))

    def release(self, graph: ctypes.c_void_p) -> None:
        self._ask("cuGraphExecDestroy", graph)

    def _stream(self, stream: int) -> Any:
        if stream not in self._streams:
            raise InvalidValueError("the pycuda driver cannot work on a caller's stream: use the driver cuda-bindings")
        return self._streams[stream]

    def _ask(self, function: str, *arguments: Any) -> None:
        """Call a function of NVIDIA's library; EngineError, with the library's words, where it fails."""
        status = self._answer(function, *arguments)
        if status != 0:
            words = ctypes.c_char_p()
            self._answer("cuGetErrorString", status, ctypes.byref(words))
            text = (words.value or b"").decode() or "no words for it"
            raise _refusal(Exception(text), f" ({function}, CUDA error {status})")

    def _answer(self, function: str, *arguments: Any) -> int:
        """The status that a function of NVIDIA's library answers with; 0 where all is well."""
        return int(getattr(self._library, function)(*arguments))

    def _calling(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What a function of PyCUDA returns; its errors become EngineErrors."""
        try:
            return function(*arguments, **named)
        except self._cuda.Error as error:
            raise _refusal(error, "") from None


def _refusal(error: BaseException, where: str) -> EngineError:
    """The error for what the GPU refused, with the words of PyCUDA or of the driver."""
    kind = OutOfMemoryError if is_out_of_memory(error) else EngineError
    return kind(f"the GPU refused: {reason(error)}{where}")


class _Pushed:
    """A context on PyCUDA's stack of this thread until the thread ends: PyCUDA aborts the process if one is left."""

    def __init__(self, context: Any) -> None:
        context.push()
        self._context = context
        self._thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            atexit.register(self.pop)  # its locals outlive everything that is run at exit

    def pop(self) -> None:
        """Take the context down; what PyCUDA gives back later puts it there again for as long as that takes."""
        if self._context is not None and threading.get_ident() == self._thread:  # each thread has a stack of its own
            self._context.pop()
        self._context = None

    __del__ = pop


def _compiled(compute_capability: tuple[int, int]) -> bytes:
    """The kernels by nvcc, which PyCUDA needs anyway; PyCUDA keeps them in its own cache folder."""
    from pycuda.compiler import compile as nvcc

    folder = cache_folder() / "pycuda"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    architecture = f"sm_{compute_capability[0]}{compute_capability[1]}"
    code = nvcc(
        SOURCE.read_text(), no_extern_c=True, arch=architecture, options=list(GPU_OPTIONS), cache_dir=str(folder)
    )
    return bytes(code)
