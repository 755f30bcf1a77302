"""Files: usable ones in, and out only such as are there in full or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputFileError, IrsdeError, OutputFileError


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary name beside path; rename it to path when the block ends well, remove it otherwise.

    Raises:
        OutputFileError: the folder cannot be written, or path is a folder.
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.part")
    require_writable(path)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _not_writable(path, error) from None
    try:
        yield temporary
        temporary.replace(path)
    except IrsdeError:
        raise
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_readable(path: Path) -> None:
    """Raise InputFileError unless path is an ordinary file with something in it."""
    if not path.exists():
        raise InputFileError(f"{path}: no such file")
    if not path.is_file():
        raise InputFileError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'is not an ordinary file'}")
    if path.stat().st_size == 0:
        raise InputFileError(f"{path}: the file is empty")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_writable(path: Path) -> None:
    """Make the folder of path, and raise OutputFileError where a file there cannot be written."""
    try:
        if path.is_dir():
            raise OutputFileError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise OutputFileError(f"{path}: is not an ordinary file (a device or pipe); give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OutputFileError:
        raise
    except OSError as error:
        raise _not_writable(path, error) from None


def _not_writable(path: Path, error: OSError) -> OutputFileError:
    return OutputFileError(f"{path}: cannot be written ({error.strerror or error}): choose another place")
