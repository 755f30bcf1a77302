"""The command line, in this process or, where signals, pipes and terminals matter, in one of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pty
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from irsde_deploy.__main__ import main

PROGRAM = [sys.executable, "-m", "irsde_deploy"]


def irsde(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, where PyTorch is imported once; C libraries' output is taken, too."""
    done = _run(arguments)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def irsde_piped(given: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The same with bytes on stdin, where a file will do for a pipe."""
    stdin, kept = sys.stdin, os.dup(0)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(given)
            file.seek(0)
            os.dup2(file.fileno(), 0)
            with open(0, closefd=False) as sys.stdin, warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # a pipe's descriptors end with their process
                return _run(arguments)
    finally:
        sys.stdin = stdin
        os.dup2(kept, 0)
        os.close(kept)


def _run(arguments: Sequence[object]) -> subprocess.CompletedProcess[bytes]:
    argv = sys.argv
    sys.argv = ["irsde-deploy", *map(str, arguments)]
    try:
        with _taken(1, "stdout") as stdout, _taken(2, "stderr") as stderr:
            try:
                main()
            except SystemExit as stop:
                code = stop.code
    finally:
        sys.argv = argv
    assert code is None or isinstance(code, int), code
    return subprocess.CompletedProcess(sys.argv, code or 0, stdout.read(), stderr.read())


class _Taken:
    """What was written, once it is all there."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it has been read)

    def read(self) -> bytes:
        with self.file as file:
            file.seek(0)
            return file.read()


@contextlib.contextmanager
def _taken(descriptor: int, name: str) -> Iterator[_Taken]:
    """Send a descriptor, and the stream of this name in `sys`, to a file."""
    taken, stream, kept = _Taken(), getattr(sys, name), os.dup(descriptor)
    stream.flush()
    os.dup2(taken.file.fileno(), descriptor)
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as replacement:
            setattr(sys, name, replacement)
            yield taken
    finally:
        setattr(sys, name, stream)
        os.dup2(kept, descriptor)
        os.close(kept)


def irsde_on_terminal(*arguments: object, program: Sequence[str] = PROGRAM) -> tuple[int, str]:
    """Run a command whose output goes to a terminal; gives its exit code and all that the terminal was sent."""
    controller, terminal = pty.openpty()
    with subprocess.Popen([*program, *map(str, arguments)], stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux ends a terminal whose other side is closed
            while chunk := os.read(controller, 4096):
                shown += chunk
        process.wait(timeout=60)
    os.close(controller)
    return process.returncode, shown.decode()


def irsde_forked(*arguments: object, errors: Path = Path(os.devnull)) -> BaseProcess:
    """Start a command in a process forked from this one, which has imported PyTorch: for signals, and how it ends.

    It is alone in a group of processes, and ends as a program does: its own processes are waited for.

    Args:
        arguments: of the command. errors: the file that gets its stderr.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()  # CUDA's threads do not survive a fork
    context = multiprocessing.get_context("spawn" if on_gpu else "fork")
    process = context.Process(target=_be_program, args=([*map(str, arguments)], errors))
    process.start()
    return process


def _be_program(arguments: list[str], errors: Path) -> None:
    os.setsid()
    for number, path in ((1, Path(os.devnull)), (2, errors)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["irsde-deploy", *arguments]
    main()
