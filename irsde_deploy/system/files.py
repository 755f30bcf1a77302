"""Files that are checked before they are read, and outputs that appear complete or not at all."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DiskFullError, InputFileError, InvalidValueError, IrsdeError, OutputFileError, is_disk_full
from .temporaries import clear_leftovers_once, repair, temporary_beside, unfinished

_AT_CWD, _EXCHANGE = -100, 2
"""What <fcntl.h> calls AT_FDCWD, and <stdio.h> RENAME_EXCHANGE."""


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary name beside path; rename it to path when the block ends well, remove it otherwise.

    What killed processes have left in the folder is cleared first.

    Raises:
        OutputFileError: the folder cannot be written, or path is a folder.
    """
    temporary = temporary_beside(path)  # for a rename is atomic within one file system
    require_writable(path)
    clear_leftovers_once(path.parent)
    with unfinished(temporary), _errors_naming(path):
        # O_EXCL: nobody may have put a link there. The mode is cut down by the umask, which mkstemp would ignore.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with told_of(path, temporary):
            yield temporary
            temporary.replace(path)


@contextmanager
def told_of(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of the block that name a temporary file, which nobody will find, name the one that it stands for."""
    try:
        yield
    except IrsdeError as error:
        if str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(path))) from None


@contextmanager
def write_folder_atomically(path: Path, replaced: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder beside path; it becomes path when the block ends well, and goes otherwise.

    Args:
        path: of the folder.
        replaced: whether a folder that is there already is replaced; it stays until the new one is complete.

    Raises:
        OutputFileError: path exists and is not to be replaced, is no folder, or cannot be written.
    """
    path = _absolute(path)
    repair(path)
    clear_leftovers_once(path.parent)
    _require_place(path, replaced)
    temporary = temporary_beside(path)
    with unfinished(temporary), _errors_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if replaced and path.exists():
            _replace_folder(temporary, path)
        else:
            temporary.rename(path)


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in the place of another, which has the new one's name after that, or is gone."""
    if _exchanged(new, path):
        return
    # A folder that is not empty cannot be renamed over. `repair` undoes this where we are killed in between.
    old = temporary_beside(path, "old")
    path.rename(old)
    try:
        new.rename(path)
    finally:
        if not path.exists():  # the second rename failed, or was interrupted
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change their names in one step, and say whether that could be done: on Linux, mostly."""
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    done: int = rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE)
    return done == 0


def _absolute(path: Path) -> Path:
    """The path with all links on its way followed, but not one that it ends in: that is to be seen, and refused."""
    if path.name in ("", ".."):  # such as "." or "a/..", which have no name to put another beside
        return path.resolve()
    return path.parent.resolve() / path.name


def _require_place(path: Path, replaced: bool) -> None:
    """Raise OutputFileError where something is at path already, unless it is a folder that may be replaced."""
    if not os.path.lexists(path):
        return
    if replaced and path.is_dir() and not path.is_symlink():
        return
    advice = "it is no folder, choose another place"
    if path.is_dir():
        advice = "pass `overwrite` to replace it"
    raise OutputFileError(f"{path}: exists already: {advice}")


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into an OutputFileError that names path."""
    try:
        yield
    except IrsdeError:  # some are OSErrors too, and say more already
        raise
    except OSError as error:
        raise not_writable(path, error) from error


def require_readable(path: Path) -> None:
    """Raise InputFileError unless path is an ordinary file with something in it."""
    require_there(path)
    if path.is_dir():
        raise InputFileError(f"{path}: is a folder, not a file")
    if not path.is_file():
        raise InputFileError(f"{path}: is not an ordinary file")
    if path.stat().st_size == 0:
        raise InputFileError(f"{path}: the file is empty")


def require_there(path: Path) -> None:
    """Raise InputFileError where there is nothing at path: before its suffix is judged, which may be mistyped."""
    if not path.exists():
        raise missing(path)


def missing(path: Path, what: str = "no such file") -> InputFileError:
    """The error for a file that is not there, with the name in its folder that is most like its own, if any is."""
    meant = most_alike(path)
    return InputFileError(f"{path}: {what}" if meant is None else f"{path}: {what}: did you mean {meant}?")


def most_alike(path: Path) -> Path | None:
    """The file or folder beside path whose name is most like its own; None where none is."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:  # the folder is not there either, or not ours to look into
        return None
    alike = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return path.parent / alike[0] if alike else None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_sha256(text: str) -> bool:
    """Whether a text is what `file_sha256` gives."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def seen_from(folder: Path, path: Path) -> str:
    """A path as seen from a folder, with links followed and `/` between its parts on every system.

    The absolute path where none leads from the one to the other, as between two drives of Windows.
    """
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def require_output(path: Path, suffix: str, overwrite: bool, what: str = "the output") -> None:
    """Raise where a file must not be written: its name lacks the suffix, or `require_new` says so.

    Raises:
        InvalidValueError: another suffix; `what` is what the message calls the file. OutputFileError: it exists.
    """
    if path.suffix.lower() != suffix:
        raise InvalidValueError(f"{path}: {what} must end in {suffix}")
    require_new(path, overwrite)


def require_new(path: Path, overwrite: bool) -> None:
    """Raise OutputFileError where a file would be replaced without the user's word."""
    if path.exists() and not overwrite:
        raise OutputFileError(f"{path}: exists already: pass `overwrite` to replace it")


def require_writable(path: Path) -> None:
    """Make the folder of path, and raise OutputFileError where a file there cannot be written."""
    with _errors_naming(path):
        if path.is_dir():
            raise OutputFileError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise OutputFileError(f"{path}: is not an ordinary file (a device or pipe); give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def not_writable(path: Path, error: OSError, when_full: str = "free some space there") -> OutputFileError:
    """The error for a file that the system does not let us write.

    Args:
        path: of the file.
        error: what the system said.
        when_full: the advice where the disk is full; elsewhere it is to choose another place.
    """
    words = f"{path}: cannot be written ({error.strerror or error})"
    if is_disk_full(error):
        return DiskFullError(f"{words}: {when_full}")
    return OutputFileError(f"{words}: choose another place")
