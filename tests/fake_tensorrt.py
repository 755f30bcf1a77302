"""A stand-in for TensorRT on the host driver: it runs the ONNX graph that a plan would hold, and is strict about calls.

It lets a CPU run `runtimes/tensorrt/engine.py`; it says nothing about TensorRT's kernels or speed.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from irsde_deploy.runtimes.device.drivers.host import HostDriver
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.tensorrt.profiles import Profile

SCRATCH = 4096
"""Bytes that every context asks for."""


class TensorIOMode(Enum):
    INPUT, OUTPUT = range(2)


class DataType(Enum):
    FLOAT, HALF = range(2)


class ExecutionContextAllocationStrategy(Enum):
    STATIC, USER_MANAGED = range(2)


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY, EAGER = range(2)


class FakeTensorRt:
    """The module: `trt.Runtime(logger)`, enums, version. `rtx` adds what TensorRT-RTX alone has."""

    TensorIOMode, DataType = TensorIOMode, DataType
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    def __init__(
        self,
        source: Path,
        profiles: tuple[Profile, ...],
        driver: HostDriver,
        half: bool = False,
        rtx: bool = False,
        output: str = "eps",
        capturable: bool = True,
        half_output: bool = False,
    ) -> None:
        self.network, self.profiles, self.driver, self.half, self.rtx = (
            OnnxEngine.open(source),
            profiles,
            driver,
            half,
            rtx,
        )
        self.output, self.capturable, self.half_output = output, capturable, half_output
        self.__version__ = "1.7.1.116" if rtx else "10.13.3.9"
        self.contexts: list[Context] = []

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)


class Runtime:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content != b"a plan":
            self.logger.errors.append("Serialization assertion failed")
            return None
        return Engine(self.trt)


class Engine:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.names = ["x", "mu", "t", trt.output]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.OUTPUT if name == self.trt.output else TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        half = (self.trt.half and name != "t") or (self.trt.half_output and name == "eps")
        return DataType.HALF if half else DataType.FLOAT

    def create_runtime_config(self) -> Config:
        return Config(self.trt.rtx)

    def create_execution_context(self, config: Config) -> Context:
        assert config.strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        if self.trt.rtx:
            assert (
                config.dynamic_shapes_kernel_specialization_strategy is DynamicShapesKernelSpecializationStrategy.EAGER
            )
            assert config.cache is not None
        context = Context(self.trt, config)
        self.trt.contexts.append(context)
        return context


class Config:
    def __init__(self, rtx: bool) -> None:
        self.strategy: Any = None
        self.cache: Any = None
        if rtx:
            self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
            self.create_runtime_cache = Cache
            self.set_runtime_cache = lambda cache: setattr(self, "cache", cache)

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class Cache:
    """Holds `kernels of N shapes`."""

    def __init__(self) -> None:
        self.shapes = 0

    def deserialize(self, content: bytes) -> None:
        self.shapes = int(content.split()[2])

    def serialize(self) -> bytes:
        return f"kernels of {self.shapes} shapes".encode()


class Context:
    def __init__(self, trt: FakeTensorRt, config: Config) -> None:
        self.trt, self.config = trt, config
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory = 0
        self.executions = 0
        if trt.rtx:
            self.is_stream_capturable = lambda stream: trt.capturable

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile, self.waits = index, self._waits()
        return 0 <= index < len(self.trt.profiles)

    def _waits(self) -> int | None:
        """How often a stream was waited for, if the driver counts."""
        waited = getattr(self.trt.driver, "waited", None)
        return None if waited is None else len(waited)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None, "the profile comes first"
        assert self.waits is None or self.waits < (self._waits() or 0), "the profile must be set, and not on its way"
        profile = self.trt.profiles[self.profile]
        low, high = profile.min, profile.max
        sides = [(shape[0], low[0], high[0])]
        if name != "t":
            sides += [(shape[2], low[1], high[1]), (shape[3], low[2], high[2])]
        self.shapes[name] = shape
        return all(least <= side <= most for side, least, most in sides)

    def update_device_memory_size_for_shapes(self) -> int:
        assert set(self.shapes) == {"x", "mu", "t"}, "every input's shape comes first"
        return SCRATCH

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert size >= SCRATCH
        self.memory = pointer

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return pointer != 0

    def execute_async_v3(self, stream: int) -> bool:
        assert self.memory, "memory comes first"
        addresses = dict(self.addresses)
        if self.executions == 0 and self.config.cache is not None:
            self.config.cache.shapes += 1
        self.executions += 1
        self.trt.driver.submit(lambda: self._run(addresses))
        return set(addresses) == {"x", "mu", "t", "eps"}

    def _run(self, addresses: dict[str, int]) -> None:
        ctypes.memset(self.memory, 0xFF, SCRATCH)
        shape = self.shapes["x"]
        io_type = np.float16 if self.trt.half else np.float32
        x, mu = (view(addresses[name], shape, io_type).astype(np.float32) for name in ("x", "mu"))
        eps = self.trt.network(x, mu, view(addresses["t"], shape[:1], np.float32).copy())
        view(addresses["eps"], shape, io_type)[:] = eps


def view(pointer: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype=dtype).reshape(shape)
