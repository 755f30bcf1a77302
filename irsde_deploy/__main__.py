"""Entry point of the command line: every expected error becomes one sentence on stderr and its exit code.

The codes are listed in docs/exit-codes.md.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import click

from .errors import (
    Interrupted,
    IrsdeError,
    MissingPackageError,
    OutOfMemoryError,
    defect_words,
    is_out_of_memory,
    one_line,
    system_words,
)
from .system.memory import address_limit
from .system.temporaries import delete_unfinished

EXIT_BUG = 70
EXIT_INTERRUPTED = 130

LEAST_ADDRESSES = 512 * 2**20
"""Bytes of addresses below which libraries crash while they are loaded, OpenCV's among them."""

_SIGNALS = tuple(name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))  # Windows has no SIGHUP


def main() -> NoReturn:
    """Run the command line and exit."""
    _occupy_standard_descriptors()
    interrupts = _Interrupts()
    try:
        _require_addresses()
        from .cli import cli  # which imports NumPy and OpenCV: what goes wrong there is to be a sentence, too

        cli.main(standalone_mode=False)
        if sys.stdout is not None:  # it is where a shell has closed it
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        interrupts.ignore()
        if interrupts.received:  # whatever a library has made of it
            sentence, code = _interrupted()
        else:
            sentence, code = _explain(error)
        if code == EXIT_BUG and os.environ.get("IRSDE_DEBUG"):
            raise
        if sentence:
            click.echo(_for_terminal(sentence), err=True)
        _end_command(code, sentence)
        if isinstance(error, OSError):
            _drop_stdout()
        if code == EXIT_INTERRUPTED:
            delete_unfinished()
            _leave_at_once(code)
        sys.exit(code)
    sys.exit(0)


def _occupy_standard_descriptors() -> None:
    """Open what a shell has closed (`2>&-`): the next file to be opened would be what libraries write messages into.

    `sys.stdin` and `sys.stdout` stay None, by which a pipe's command knows; whoever writes to stderr need not ask.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (open until the process ends)


def _require_addresses() -> None:
    """Raise OutOfMemoryError where `ulimit -v` is so low that libraries crash instead of saying so."""
    limit = address_limit()
    if limit is not None and limit < LEAST_ADDRESSES:
        raise OutOfMemoryError(
            f"not enough memory: this process may use {limit >> 20} MiB of addresses (ulimit -v), and the libraries "
            f"alone take more: allow it {LEAST_ADDRESSES >> 20} MiB or more"
        )


def _leave_at_once(code: int) -> NoReturn:
    """Exit without taking libraries apart whose threads an interrupt has left at work: that can crash.

    What this thread is to delete or complete is in `finally` blocks, which have run by now, and what others are writing
    has been deleted (`delete_unfinished`); only what is buffered is not out.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _end_command(code: int, sentence: str) -> None:
    """Have the command that was begun, if any, print its end: with --json its object, with -v its time."""
    output = sys.modules.get(f"{__package__}.cli.output")  # it is not there where the commands cannot be imported
    if output is not None:
        with suppress(OSError):  # stdout may be what could not be written
            output.end(code, sentence.removeprefix("irsde-deploy: ") or None)


def _for_terminal(sentence: str) -> str:
    """A sentence with options for settings, as far as the commands can be imported."""
    if "`" not in sentence:  # which names no setting
        return one_line(sentence)
    try:
        from .cli import cli
        from .cli.wording import for_terminal
    except (ImportError, MemoryError):
        return one_line(sentence)
    return for_terminal(sentence, cli)


def _explain(error: BaseException) -> tuple[str, int]:
    """(sentence, exit code) of an error."""
    if isinstance(error, IrsdeError):  # first: its kinds are OSErrors, ImportErrors and so on as well
        return f"irsde-deploy: {error}", error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort, Interrupted)):
        return _interrupted()
    if isinstance(error, click.ClickException):
        return _explain_usage(error)
    if isinstance(error, ImportError) and not is_out_of_memory(error):
        advice = "'irsde-deploy doctor' says which command installs it"
        return f"irsde-deploy: {error.name or error} cannot be imported: {advice}", MissingPackageError.exit_code
    if _says_out_of_memory(error):
        return "irsde-deploy: not enough memory: use smaller pictures, `tile` 256 or a smaller `batch`", 1
    if isinstance(error, BrokenPipeError):
        return "", 1  # whoever read our output has gone, and knows
    if isinstance(error, OSError):
        return f"irsde-deploy: {system_words(error, 'output')}", 1
    return f"irsde-deploy: {defect_words(error)}", EXIT_BUG


def _explain_usage(error: click.ClickException) -> tuple[str, int]:
    """What click says of options and arguments, with the command that it is about."""
    command = "irsde-deploy"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        command = error.ctx.command_path
    return f"{command}: {error.format_message().rstrip('.')} (see '{command} --help')", error.exit_code


def _says_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # An OSError names a file, which says more, and its words may have "alloc" in the file's name.
    return is_out_of_memory(error) and not isinstance(error, OSError)


def _interrupted() -> tuple[str, int]:
    return "irsde-deploy: interrupted; finished files stay, none is half-written", EXIT_INTERRUPTED


class _Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt.

    It remembers that one came: libraries that are interrupted while they are imported raise ImportError.

    Attributes:
        received: whether a signal has come.
    """

    def __init__(self) -> None:
        self.received = False
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), self._receive)

    def ignore(self) -> None:
        """We are leaving; another signal must not spoil that."""
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def _receive(self, signum: int, frame: object) -> None:
        self.received = True
        raise KeyboardInterrupt


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that leaving does not fail on it again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
