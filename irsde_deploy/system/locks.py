"""A file that one process at a time can hold, for as long as it lives: the operating system lets go of it then."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_TRIES = 10


class LockFile:
    """A lock; it says nothing where the file system knows none (some network ones).

    Args:
        path: of the file; its folder need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Whether it is ours now; False where another process, or another lock of this one, holds it."""
        for _ in range(_TRIES):
            self.path.parent.mkdir(exist_ok=True)
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
            os.close(descriptor)  # whoever held it has just removed it
        return False

    def release(self, remove: bool = False) -> None:
        """Let go of it, and remove it if it is ours and this is wanted."""
        if self._descriptor is None:
            return
        if remove and sys.platform != "win32":  # there, files that are open cannot be removed
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        if remove and sys.platform == "win32":
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _is(self, descriptor: int) -> bool:
        """Whether the file that was opened is still the one of that name."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True
