"""What long work tells whoever started it: lines of the result, notes, and how far it is.

A function that works for minutes takes a `Listener` and is silent without one. The command line gives one that prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


class Advance(Protocol):
    """Moves a progress bar to a position, with a text beside it."""

    def __call__(self, position: int, text: str | None = None) -> None:
        """`position` runs from 0 to the length that the bar was opened with."""


def _keep_silent(sentence: str) -> None:
    """Nobody is listening."""


@contextmanager
def _show_nothing(length: int, label: str) -> Iterator[Advance]:
    """A progress bar that is not shown."""

    def advance(position: int, text: str | None = None) -> None:
        pass

    yield advance


@dataclass(frozen=True)
class Listener:
    """Callables that long work calls; each does nothing by default.

    Attributes:
        line: takes a line of the result, as soon as it is known. It may hold several, with line ends between.
        note: takes a sentence about something that the user may not expect.
        progress: takes a length and a label and is a context manager, which gives the function that moves the bar.
    """

    line: Callable[[str], None] = _keep_silent
    note: Callable[[str], None] = _keep_silent
    progress: Callable[[int, str], AbstractContextManager[Advance]] = _show_nothing

    @contextmanager
    def trials(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Progress of a search; gives a function of the trials done, and of about how many there will be."""
        with self.progress(100, label) as advance:

            def on_trial(done: int, about: int) -> None:
                percent = min(100 * done // about, 100)
                advance(percent, f"{done} of about {about} trials")

            yield on_trial


SILENT = Listener()
