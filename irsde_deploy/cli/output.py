"""What a command prints, and where: its result on stdout; errors, notes and progress on stderr.

`-q` leaves errors and what was asked for in so many words (`show`), `-v` adds details, `--json` puts one object on
stdout in place of the lines. One command runs at a time in a process, and `begin` starts it.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

from .._version import __version__
from ..system.listener import Advance, Listener
from .wording import for_terminal

_LIBRARIES = ("numpy", "cv2", "PIL", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch", "av")
"""Modules whose versions -v names where the command has used them."""

_CLEAR = "\r\033[K"
"""What empties a line of a terminal."""


@dataclass
class _Output:
    """How the command at work prints.

    Attributes:
        quiet: whether errors alone are printed.
        verbose: whether details are.
        document: the object that --json prints when the command ends; None without it.
        notes: sentences that were noted, for that object.
        started: when the command began, by the system's monotonic clock.
        redraw: draws the progress bar again that text was printed over; None where none is shown.
    """

    quiet: bool = False
    verbose: bool = False
    document: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    redraw: Callable[[], None] | None = None


_now = _Output()


def begin(command: str, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Start printing for a command."""
    global _now
    if quiet and verbose:
        raise click.UsageError("-q prints less and -v prints more: give one of the two")
    _now = _Output(quiet, verbose, {"command": command, "version": __version__} if as_json else None)
    detail(f"{__version__} {command}; Python {platform.python_version()}, {platform.system()} {platform.machine()}")


def end(exit_status: int, error: str | None = None) -> None:
    """Print what belongs to a command's end: with --json the object, with -v the time and the versions; only once."""
    global _now
    found = [(name, getattr(sys.modules.get(name), "__version__", None)) for name in _LIBRARIES]
    used = ", ".join(f"{name} {version}" for name, version in found if version)
    seconds = time.monotonic() - _now.started
    detail(f"took {seconds:.2f} s; {used}")
    document, notes = _now.document, _now.notes
    _now = _Output()
    if document is not None:
        document |= {"notes": notes, "seconds": seconds, "error": error and worded(error), "exit_status": exit_status}
        click.echo(json.dumps(_plain(document), indent=2))


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null, paths text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)


def report(**fields: Any) -> None:
    """Put fields into the object that --json prints; nothing without it."""
    if _now.document is not None:
        _now.document |= fields


def wants_json() -> bool:
    """Whether the command prints one object in place of its lines."""
    return _now.document is not None


def tell(text: str) -> None:
    """Lines on stdout, of what the command does and has done."""
    if not _now.quiet and _now.document is None:
        _print(text)


def show(text: str) -> None:
    """Lines on stdout that the command is there for: printed with -q, too."""
    if _now.document is None:
        _print(text)


def say(sentence: str) -> None:
    """One line on stderr about what went wrong."""
    _print(f"irsde-deploy: {sentence}", err=True)


def inform(sentence: str) -> None:
    """One line on stderr about how it went."""
    aside(f"irsde-deploy: {sentence}")


def note(sentence: str) -> None:
    """One line on stderr about something that is not an error."""
    _now.notes.append(worded(sentence))
    inform(f"note: {sentence}")


def aside(text: str) -> None:
    """Lines on stderr, where stdout is not for them."""
    if not _now.quiet:
        _print(text, err=True)


def detail(sentence: str) -> None:
    """One line on stderr that only -v prints."""
    if _now.verbose:
        _print(f"irsde-deploy: {sentence}", err=True)


def _print(text: str, err: bool = False) -> None:
    """Print lines, above the progress bar where one is shown."""
    if _now.redraw is not None:
        click.echo(_CLEAR, nl=False, err=True)
    for line in text.split("\n"):
        click.echo(worded(line), err=err)
    if _now.redraw is not None:
        if sys.stdout is not None:
            sys.stdout.flush()  # or the bar could come before the line
        _now.redraw()


def on_terminal() -> bool:
    """Whether progress is shown: on a terminal, unless -q was given."""
    return sys.stderr is not None and sys.stderr.isatty() and not _now.quiet


@contextmanager
def progress(length: int, label: str) -> Iterator[Advance]:
    """A progress bar with ETA on stderr, on a terminal only."""
    with click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        hidden=not on_terminal(),
        show_pos=False,
        item_show_func=lambda text: text,
    ) as bar:

        def advance(position: int, text: str | None = None) -> None:
            bar.update(position - bar.pos, text)
            bar.render_progress()  # update() leaves out what changes the text alone

        def redraw() -> None:
            bar._last_line = None  # else click leaves out a line that it takes for being there still
            bar.render_progress()

        with _drawn(redraw):
            yield advance


@contextmanager
def status(label: str) -> Iterator[Callable[[str], None]]:
    """One line on stderr that says how far something is, on a terminal only, and goes at the end."""
    shown = label

    def draw() -> None:
        click.echo(f"{_CLEAR}{shown}", nl=False, err=True)

    def update(text: str) -> None:
        nonlocal shown
        shown = f"{label}: {text}"
        if on_terminal():
            draw()

    try:
        with _drawn(draw):
            yield update
    finally:
        if on_terminal():
            click.echo(_CLEAR, nl=False, err=True)


@contextmanager
def _drawn(redraw: Callable[[], None]) -> Iterator[None]:
    """Have text printed above what `redraw` draws, where that is shown at all."""
    output, before = _now, _now.redraw
    output.redraw = redraw if on_terminal() else None
    try:
        yield
    finally:
        output.redraw = before


TERMINAL = Listener(tell, note, progress)
"""Prints what long work tells."""


def worded(sentence: str) -> str:
    """A sentence as people at a terminal are told it."""
    return for_terminal(sentence, _all_commands())


def _all_commands() -> click.Group:
    from . import cli  # which imports the commands, and those this module

    return cli
