"""Device memory that is given back with the last reference to it."""

from __future__ import annotations

from .protocol import Driver


class Memory:
    """An allocation of a driver.

    Attributes:
        pointer: where it is; aligned to 256 bytes on a GPU.
        size: bytes.
    """

    def __init__(self, driver: Driver, size: int) -> None:
        self._driver = driver
        self.size = size
        self.pointer = driver.malloc(size)

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._driver.free(self.pointer)
