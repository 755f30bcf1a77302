"""Files that are either there in full or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputFileError


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary name beside path; rename it to path when the block ends well, remove it otherwise.

    Raises:
        OutputFileError: the folder cannot be written, or path is a folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.is_dir():
        raise OutputFileError(f"{path}: is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise OutputFileError(f"{path}: cannot be written ({error.strerror or error}): choose another place") from None
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, OutputFileError):
            raise
        raise OutputFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
