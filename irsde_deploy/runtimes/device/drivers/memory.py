"""Device memory that is given back with the last reference to it."""

from __future__ import annotations

from .protocol import Driver


class Memory:
    """An allocation in a driver's memory, which is freed with the object.

    Attributes:
        pointer: its address; aligned to 256 bytes on a GPU.
        size: its length in bytes.
    """

    def __init__(self, driver: Driver, size: int) -> None:
        self._driver = driver
        self.size = size
        self.pointer = driver.malloc(size)

    def __del__(self) -> None:
        if hasattr(self, "pointer"):  # not where the allocation itself failed
            self._driver.free(self.pointer)
