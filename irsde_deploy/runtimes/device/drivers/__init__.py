"""Drivers: the devices that the device loop runs on. `open_driver` picks one from a plain dict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ....errors import InvalidValueError
from .protocol import Driver

__all__ = ["DRIVERS", "Driver", "lock_of", "open_driver", "own_stream"]


def _cuda_bindings() -> Driver:
    from .cuda_bindings import CudaBindingsDriver

    return CudaBindingsDriver()


def _pycuda() -> Driver:
    from .pycuda_driver import PyCudaDriver

    return PyCudaDriver()


def _host() -> Driver:
    from .host import HostDriver

    return HostDriver()


_own_streams: WeakKeyDictionary[Driver, int] = WeakKeyDictionary()


def own_stream(driver: Driver) -> int:
    """The one stream of a driver on which all that no caller's stream was named for is done."""
    if driver not in _own_streams:
        _own_streams[driver] = driver.new_stream()
    return _own_streams[driver]


_locks: WeakKeyDictionary[Driver, Any] = WeakKeyDictionary()


def lock_of(driver: Driver) -> Any:
    """Held while a picture is on a driver's device: buffers, and what a graph records, are one thread's at a time."""
    return _locks.setdefault(driver, threading.RLock())


DRIVERS: dict[str, Callable[[], Driver]] = {"cuda-bindings": _cuda_bindings, "pycuda": _pycuda, "host": _host}
"""Name -> how to open it."""


def open_driver(name: str = "cuda-bindings") -> Driver:
    """Open a driver: `cuda-bindings`, `pycuda` or, for tests without a GPU, `host`.

    Raises:
        MissingPackageError: its package or its device is not there.
    """
    if name not in DRIVERS:
        raise InvalidValueError(f"a driver must be one of {', '.join(DRIVERS)}, not {name!r}")
    return DRIVERS[name]()
