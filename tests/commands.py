"""The command line as a process."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-m", "irsde_deploy"]


def irsde(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd)


def irsde_on_terminal(*arguments: object) -> tuple[int, str]:
    """Run a command whose output goes to a terminal; gives its exit code and all that the terminal was sent."""
    controller, terminal = pty.openpty()
    with subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux ends a terminal whose other side is closed
            while chunk := os.read(controller, 4096):
                shown += chunk
        process.wait(timeout=60)
    os.close(controller)
    return process.returncode, shown.decode()
