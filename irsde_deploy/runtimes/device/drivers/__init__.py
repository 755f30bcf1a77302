"""Drivers: the devices that the device loop runs on. `open_driver` picks one from a plain dict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ....errors import InvalidValueError
from ....system.parsing import shown
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


# Beside the drivers and not in them: a driver is whatever fits the protocol, and these two are for all of them alike.
_own_streams: WeakKeyDictionary[Driver, int] = WeakKeyDictionary()
_locks: WeakKeyDictionary[Driver, Any] = WeakKeyDictionary()


def own_stream(driver: Driver) -> int:
    """The driver's own stream: everything for which a caller names no other runs on it."""
    if driver not in _own_streams:
        _own_streams[driver] = driver.new_stream()
    return _own_streams[driver]


def lock_of(driver: Driver) -> Any:
    """The driver's lock: whoever works on its device holds it, since buffers and recordings are one thread's at a time.

    It is reentrant: a loop holds it while it calls an engine that takes it, too.
    """
    return _locks.setdefault(driver, threading.RLock())


DRIVERS: dict[str, Callable[[], Driver]] = {"cuda-bindings": _cuda_bindings, "pycuda": _pycuda, "host": _host}
"""Name of a driver -> the function that opens it."""


def open_driver(name: str = "cuda-bindings") -> Driver:
    """Open a driver: `cuda-bindings`, `pycuda` or, for tests without a GPU, `host`.

    Raises:
        InvalidValueError: there is no driver of this name.
        MissingPackageError: its package or its device is not there.
    """
    if name not in DRIVERS:
        raise InvalidValueError(f"a driver must be one of {', '.join(DRIVERS)}, not {shown(name)}")
    return DRIVERS[name]()
