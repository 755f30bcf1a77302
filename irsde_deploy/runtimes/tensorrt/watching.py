"""A build by TensorRT under watch: what it is doing, for how long, and stopped by an interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def in_thread(work: Callable[[], bytes], monitor: Any, on_time: Callable[[float, str], None] | None) -> bytes:
    """What `work` returns or raises, done in a thread of its own.

    TensorRT calls back into Python, where an interrupt would be lost. This thread shows the time, hears interrupts, and
    then waits until the build has let go.

    Args:
        work: the build.
        monitor: its progress monitor, of `make_monitor`.
        on_time: called several times a second with the elapsed seconds and what TensorRT is doing.
    """
    done = threading.Event()
    outcome: list[bytes | BaseException] = []
    started = time.monotonic()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.2):
            if on_time is not None:
                on_time(time.monotonic() - started, monitor.phase)
    except BaseException:
        monitor.cancelled = True  # heard at TensorRT's next step
        while not done.is_set():
            with suppress(KeyboardInterrupt):  # once is enough; TensorRT must not be left working
                done.wait()
        raise
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def make_monitor(trt: Any) -> Any:
    """A progress monitor for a build, as TensorRT asks for; it tells the phase, and stops the build when cancelled."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """What the build is doing; stops it when cancelled."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phase = ""
            self.cancelled = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phase = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
