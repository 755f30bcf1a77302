"""A file that one process at a time can hold.

The operating system holds the lock, on the open file and not by the file's existence: it ends with the process, and a
file that a killed run has left keeps nobody away.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import OutputFileError
from .files import not_writable

_TRIES = 10
"""How often a lock is tried whose file was removed by its holder while we opened it."""


class LockFile:
    """A lock of one name.

    filelock takes the lock; opening, checking and removing the file are ours, since its own `FileLock` leaves the file
    where it is, and refuses file systems without locks (docs/dependencies.md).

    Args:
        path: of the file. Its folder is made where it is missing; the folder above must be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether the lock is ours."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock without waiting; whether it is ours now.

        It is not where another process, or another lock of this one, holds it. On a file system that knows no locks
        (some network ones), everybody gets it: there, runs are not kept from one another.

        Raises:
            OSError: the file cannot be made or opened.
        """
        for _ in range(_TRIES):
            with suppress(FileExistsError):
                self.path.parent.mkdir()  # exist_ok=True would fail where the folder goes while it looks
            try:
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                descriptor = os.open(self.path, flags, 0o666)
            except FileNotFoundError:
                continue  # whoever held it has just removed the folder
            if not _locked(descriptor):
                os.close(descriptor)
                return False
            if self._is(descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # whoever held it has just removed it, and another run may hold one of the same name
        return False

    def claim(self, taken: str) -> None:
        """Take the lock without waiting.

        Args:
            taken: what to say where another process has it.

        Raises:
            OutputFileError: it has, or the file cannot be made or opened.
        """
        try:
            acquired = self.acquire()
        except OSError as error:
            raise not_writable(self.path.parent, error) from None
        if not acquired:
            raise OutputFileError(taken)

    def release(self, remove: bool = False) -> None:
        """Let go of the lock; `remove` deletes its file, too. Does nothing where the lock is not ours."""
        if self._descriptor is None:
            return
        if remove and sys.platform != "win32":
            self.path.unlink(missing_ok=True)  # before others can lock it
        os.close(self._descriptor)
        self._descriptor = None
        if remove and sys.platform == "win32":  # there, files that are open cannot be removed
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _is(self, descriptor: int) -> bool:
        """Whether the file that was opened is still the one of that name."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False


def _locked(descriptor: int) -> bool:
    """Whether nobody else has a lock on an open file: we have it then, where the file system knows locks."""
    from filelock import lock_descriptor

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return True
