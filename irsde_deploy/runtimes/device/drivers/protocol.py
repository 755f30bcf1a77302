"""What the device loop asks of a device: memory, copies, streams, events, kernels and graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy.typing as npt


class Driver(Protocol):
    """One device. Pointers and streams are integers, as CUDA's are; work on a stream happens in order.

    Every method raises EngineError, with the driver's own words, where the device refuses.
    """

    @property
    def name(self) -> str:
        """The driver and the device, for people."""

    @property
    def kind(self) -> str:
        """Whose memory its pointers are: `cuda` or `host`."""

    def activate(self) -> None:
        """Make the device current in this thread; before anything else in it."""

    def malloc(self, size: int) -> int:
        """Allocate bytes; at least one."""

    def free(self, pointer: int) -> None:
        """Give an allocation back; nothing may be using it any more."""

    def upload(self, pointer: int, array: npt.NDArray[Any], stream: int) -> None:
        """Copy a contiguous array to the device; the array must live until the stream is synchronized."""

    def download(self, array: npt.NDArray[Any], pointer: int, stream: int) -> None:
        """Copy from the device into a contiguous array, which is filled when the stream is synchronized."""

    def new_stream(self) -> int:
        """A stream of the driver's own."""

    def synchronize(self, stream: int) -> None:
        """Wait until everything on the stream is done."""

    def event(self, stream: int) -> Any:
        """A point in time on the stream."""

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two events; waits for the second."""

    def launch(self, kernel: str, count: int, arguments: tuple[int, ...], stream: int) -> None:
        """Run a kernel of `kernels.SIGNATURES` over `count` work items."""

    def capture(self, work: Callable[[], None], stream: int) -> Any:
        """Record what `work` puts on the stream, without doing it, as a graph."""

    def replay(self, graph: Any, stream: int) -> None:
        """Do what a graph holds."""

    def release(self, graph: Any) -> None:
        """Give a graph back."""
