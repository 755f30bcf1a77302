"""Three stages at once: a source in one thread, work in the caller's, a sink in a third, bounded queues between them.

A stage that is slower than the others makes them wait (back-pressure), so that no more than a few items exist at a
time. An error in any stage stops all of them and is raised to the caller; what came before it is finished first.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Item = TypeVar("Item")

DEPTH = 2
"""Items that may wait before each of the later stages."""

_POLL = 0.05
"""Seconds between looks at whether to stop."""


class _Stopped(Exception):
    """Another stage has ended the pipeline."""


class _End:
    """What a queue ends with: the reason, where it is an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Channel(Generic[Item]):
    """A bounded queue between two threads that neither waits at for ever."""

    def __init__(self, depth: int, stop: threading.Event) -> None:
        self._items: queue.Queue[Item | _End] = queue.Queue(depth)
        self._stop = stop

    def put(self, item: Item | _End, patience: float | None = None) -> None:
        deadline = None if patience is None else time.monotonic() + patience
        while not self._stop.is_set() and (deadline is None or time.monotonic() < deadline):
            try:
                return self._items.put(item, timeout=_POLL)
            except queue.Full:
                continue
        raise _Stopped

    def get(self) -> Item | _End:
        while not self._stop.is_set():
            try:
                return self._items.get(timeout=_POLL)
            except queue.Empty:
                continue
        raise _Stopped


def run_pipeline(
    source: Iterable[In],
    work: Callable[[In], Out],
    sink: Callable[[Out], None],
    depth: int = DEPTH,
    patience: float | None = None,
) -> None:
    """Take every item from the source, work on it, and give the result to the sink, in order.

    Args:
        source: iterated in a thread of its own; a generator is closed there.
        work: called in the caller's thread, which is the one that signals interrupt.
        sink: called in a thread of its own.
        depth: items that may wait before work, and before the sink.
        patience: seconds to wait for the sink after an error or an interrupt; None waits until it has finished with
            the items that it was given.

    Raises:
        Whatever source, work or sink raised. After an error of source or work, and after an interrupt, the results so
        far are still given to the sink.
    """
    halt, drop = threading.Event(), threading.Event()
    before: _Channel[In] = _Channel(depth, halt)
    after: _Channel[Out] = _Channel(depth, drop)
    failure: list[BaseException] = []
    # Daemons: a source that waits for ever on a pipe must not keep the process.
    reader = threading.Thread(target=_read, args=(source, before), name="source", daemon=True)
    writer = threading.Thread(target=_write, args=(after, sink, failure, (halt, drop)), name="sink", daemon=True)
    reader.start()
    writer.start()
    error: BaseException | None = None
    try:
        error = _work(before, work, after)
        after.put(_End())
        writer.join()
    except _Stopped:
        pass  # the sink has failed
    except BaseException:
        # The source stops at once; what is restored already is still written.
        halt.set()
        _finish(after, writer, patience)
        raise
    finally:
        halt.set()
        drop.set()
        reader.join(patience)
    if failure:
        raise failure[0]
    if error is not None:
        raise error


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Neighbours together, `size` at a time; what an error interrupts is given before it is raised."""
    batch: list[Item] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:  # but not GeneratorExit: a generator that is closed must not yield
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _work(before: _Channel[In], work: Callable[[In], Out], after: _Channel[Out]) -> BaseException | None:
    """Until the source ends; its error, if it ended with one."""
    while not isinstance(item := before.get(), _End):
        after.put(work(item))
    return item.error


def _finish(after: _Channel[Out], writer: threading.Thread, patience: float | None) -> None:
    """Let the sink finish what it has, as long as there is patience."""
    try:
        after.put(_End(), patience)
    except _Stopped:
        return
    writer.join(patience)


def _read(source: Iterable[In], before: _Channel[In]) -> None:
    """The source's thread: items, and at last its end or its error."""
    error: BaseException | None = None
    iterator = iter(source)
    try:
        for item in iterator:
            before.put(item)
    except _Stopped:
        return
    except BaseException as raised:
        error = raised
    finally:
        # Here, not where the garbage collector pleases: a decoder is closed by the thread that used it.
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    try:
        before.put(_End(error))
    except _Stopped:
        return


def _write(
    after: _Channel[Out],
    sink: Callable[[Out], None],
    failure: list[BaseException],
    stops: tuple[threading.Event, threading.Event],
) -> None:
    """The sink's thread; an error there stops all."""
    try:
        while not isinstance(item := after.get(), _End):
            sink(item)
    except _Stopped:
        return
    except BaseException as raised:
        failure.append(raised)
        for stop in stops:
            stop.set()
