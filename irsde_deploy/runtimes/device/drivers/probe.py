"""NVIDIA's driver, asked directly: how many devices, which, and of what compute capability.

No library above the driver may be asked before it: where there is none, TensorRT's lean runtime returns a broken object
and then crashes. This module needs no package.
"""

from __future__ import annotations

import ctypes
import platform
import re
from dataclasses import dataclass

from ....errors import MissingPackageError

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Device:
    """One GPU: its name, such as `NVIDIA H100 80GB HBM3`, and its compute capability, such as (9, 0)."""

    name: str
    compute_capability: tuple[int, int]

    @property
    def slug(self) -> str:
        """Its name as part of a file's name."""
        return re.sub(r"\W+", "-", self.name).strip("-").lower()

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability[0]}.{self.compute_capability[1]})"


def load_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver library, initialized; None where it is missing or fails."""
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    # The library may be there without a GPU, as in containers, or be older than the kernel's module.
    if library.cuInit(0) != 0:
        return None
    return library


def devices() -> list[Device] | None:
    """All GPUs that the driver sees; None where there is no working driver."""
    library = load_driver()
    if library is None:
        return None
    count = ctypes.c_int(0)
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    return [_device(library, index) for index in range(count.value)]


def first_device() -> Device | None:
    """The GPU that engines run on; None where there is none."""
    found = devices()
    return found[0] if found else None


def require_device(purpose: str) -> Device:
    """The first GPU.

    Args:
        purpose: what needs it, for the message: "the pycuda driver".

    Raises:
        MissingPackageError: there is no driver, or it sees no device.
    """
    found = devices()
    if found:
        return found[0]
    why = "NVIDIA's driver sees no device"
    if found is None:
        why = "NVIDIA's driver is not there"
    raise MissingPackageError(f"{purpose} needs an NVIDIA GPU, and {why}: 'irsde-deploy doctor' says what is missing")


def _device(library: ctypes.CDLL, index: int) -> Device:
    handle, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(handle), index)
    library.cuDeviceGetName(name, len(name), handle)
    numbers = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        numbers.append(value.value)
    return Device(name.value.decode(errors="replace"), (numbers[0], numbers[1]))
