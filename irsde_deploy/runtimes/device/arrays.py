"""Arrays that are on the device already: this toolkit's own, and anybody's by `__cuda_array_interface__` or DLPack.

A frame that a decoder, CuPy, PyTorch, Numba or JAX holds is used where it is; nothing is copied. On the host driver,
whose device memory is host memory, NumPy arrays come in the same ways.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InvalidValueError, reason
from .drivers import Driver, own_stream
from .drivers.memory import Memory

LEGACY_STREAM = 1
"""CUDA's handle of the legacy default stream."""

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_KINDS = {_CPU: "host", _CUDA: "cuda", _CUDA_HOST: "cuda", _CUDA_MANAGED: "cuda"}
_DLPACK_TYPES = {0: "i", 1: "u", 2: "f"}  # DLDataTypeCode


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A strided array in device memory.

    Attributes:
        pointer: the address of its first element.
        shape: its sides, as many as there are.
        dtype: uint8, uint16, float16 or float32.
        strides: steps from one element to the next along each side, in bytes; they may be negative.
        kind: whose memory it is in: `cuda` or `host`.
        stream: the stream that the producer may still be writing on; None if there is nothing to wait for.
        owner: what keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    kind: str
    stream: int | None = None
    owner: Any = field(default=None, repr=False)

    @classmethod
    def empty(cls, driver: Driver, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
        """A contiguous array in a driver's memory, which is given back when nothing refers to the array any more."""
        dtype = np.dtype(dtype)
        memory = Memory(driver, dtype.itemsize * int(np.prod(shape)))
        strides = DeviceArray.contiguous_strides(shape, dtype)
        return cls(memory.pointer, tuple(shape), dtype, strides, driver.kind, owner=memory)

    @classmethod
    def of(cls, array: Any, stream: int = LEGACY_STREAM) -> DeviceArray:
        """Take anything with `__dlpack__` or `__cuda_array_interface__`; its memory is used, and nothing is copied.

        Args:
            array: the array, of any library.
            stream: what the producer has to do is done before what comes on this stream; the legacy default stream
                unless a caller names another.

        Raises:
            InvalidValueError: it has neither, or memory that is neither the first GPU's nor the host's.
        """
        if isinstance(array, cls):
            return array
        interface = hasattr(array, "__cuda_array_interface__")
        # DLPack first: it tells the producer the stream, so that the GPU waits there and not this thread.
        if hasattr(array, "__dlpack__"):
            try:
                return _from_dlpack(array, stream)
            except InvalidValueError:
                raise
            except (BufferError, RuntimeError, TypeError, ValueError) as error:  # of libraries that cannot export it
                if not interface:
                    raise InvalidValueError(f"this array cannot be taken by DLPack ({reason(error)})") from None
        if interface:
            try:
                return _from_interface(array)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidValueError(f"the array's __cuda_array_interface__ is not one ({reason(error)})") from None
        raise InvalidValueError(
            "a picture on the device must have __cuda_array_interface__ or __dlpack__; "
            f"{type(array).__name__} has neither"
        )

    @staticmethod
    def contiguous_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
        """The strides in bytes of an array without gaps, whose last index is the fastest."""
        strides = [dtype.itemsize]
        for side in reversed(shape[1:]):
            strides.insert(0, strides[0] * side)
        return tuple(strides)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """For CuPy, PyTorch, Numba and others: the memory as it is. Only where it is a GPU's."""
        if self.kind != "cuda":
            raise AttributeError("this array is in host memory")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": self.strides,
            "version": 3,
        }

    @property
    def element_strides(self) -> tuple[int, ...]:
        """The strides counted in elements, as kernels take them."""
        return tuple(stride // self.dtype.itemsize for stride in self.strides)

    def as_batch(self) -> DeviceArray:
        """(H, W, C) as (1, H, W, C); others as they are."""
        if len(self.shape) != 3:
            return self
        return replace(self, shape=(1, *self.shape), strides=(0, *self.strides))

    def without_batch(self) -> DeviceArray:
        """(1, H, W, C) as (H, W, C)."""
        return replace(self, shape=self.shape[1:], strides=self.strides[1:])

    def require_on(self, driver: Driver) -> None:
        """Raise InvalidValueError unless the memory is the driver's device's and the type one that kernels read."""
        if self.kind != driver.kind:
            raise InvalidValueError(
                f"the picture is in {self.kind} memory, and the engine works on {driver.kind} memory"
            )
        if self.dtype.str[1:] not in ("u1", "u2", "f2", "f4") or self.dtype.byteorder == ">":
            raise InvalidValueError(
                f"a picture on the device must be uint8, uint16, float16 or float32, not {self.dtype}"
            )
        if any(stride % self.dtype.itemsize for stride in self.strides):
            raise InvalidValueError("the strides of a picture on the device must be whole elements")

    def require_like(self, other: DeviceArray) -> None:
        """Raise InvalidValueError unless shape and type are those of another array."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            raise InvalidValueError(
                f"out must be {other.dtype} of the shape {other.shape}, not {self.dtype} of {self.shape}"
            )

    def to_host(self, driver: Driver) -> npt.NDArray[Any]:
        """A copy in host memory of a contiguous array."""
        driver.activate()
        host = np.empty(self.shape, self.dtype)
        stream = own_stream(driver)
        driver.download(host, self.pointer, stream)
        driver.synchronize(stream)
        return host


def _from_interface(array: Any) -> DeviceArray:
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = tuple(interface.get("strides") or DeviceArray.contiguous_strides(shape, dtype))
    stream = interface.get("stream", LEGACY_STREAM)  # version 2 of the interface, which PyTorch has, names none
    return DeviceArray(interface["data"][0], shape, dtype, strides, "cuda", stream, array)


class _DLTensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(array: Any, stream: int) -> DeviceArray:
    """Read the DLTensor of an array's capsule; the capsule is kept, and its own destructor gives the tensor back."""
    device_type = _dlpack_device(array)
    if device_type == _CPU:
        capsule, waits_for = array.__dlpack__(), None
    else:
        capsule, waits_for = array.__dlpack__(stream=stream), stream
    tensor = ctypes.cast(_capsule_pointer(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    dtype = _dlpack_dtype(tensor)
    shape, strides = _dlpack_layout(tensor, dtype)
    pointer = (tensor.data or 0) + tensor.byte_offset  # ctypes gives a null pointer, of an empty array, as None
    return DeviceArray(pointer, shape, dtype, strides, _KINDS[device_type], waits_for, (capsule, array))


def _dlpack_device(array: Any) -> int:
    """The DLDeviceType of an array, if its memory is one that engines run on."""
    device_type, device_id = map(int, array.__dlpack_device__())
    known = device_type in _KINDS
    if not known or (_KINDS[device_type] == "cuda" and device_id != 0):
        raise InvalidValueError(
            f"this array is on device {device_id} of DLPack's type {device_type}, and engines run on the first GPU"
        )
    return device_type


def _dlpack_dtype(tensor: _DLTensor) -> np.dtype[Any]:
    if tensor.code not in _DLPACK_TYPES or tensor.lanes != 1:  # a lane is a component of a vector type
        raise InvalidValueError("DLPack says that this array is neither integer nor floating point")
    return np.dtype(f"{_DLPACK_TYPES[tensor.code]}{tensor.bits // 8}")


def _dlpack_layout(tensor: _DLTensor, dtype: np.dtype[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, strides in bytes) of a DLTensor, whose own strides count elements."""
    shape = tuple(tensor.shape[: tensor.ndim])
    if not tensor.strides:  # null: contiguous
        return shape, DeviceArray.contiguous_strides(shape, dtype)
    return shape, tuple(dtype.itemsize * stride for stride in tensor.strides[: tensor.ndim])


def _capsule_pointer(capsule: Any, name: bytes) -> int:
    """The pointer inside a Python capsule of this name."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(get(capsule, name))
