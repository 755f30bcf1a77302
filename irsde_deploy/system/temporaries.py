"""Names of unfinished files and folders, and what becomes of those that killed processes have left.

A temporary lies beside what it will be, and its name says who is at work on it:
`.NAME.PLACE-PID-START.TOKEN.part`, where NAME is the beginning of the output's name, PLACE stands for the boot and the
container in which the process number PID means something, and START is when that process began. So the next run can
tell what nobody will finish from what a living process still writes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNKNOWN_PLACE = "00000000"
"""The place of processes on systems that do not say enough to know it (they have no /proc)."""
ABANDONED = 24 * 3600
"""Seconds after which a temporary that nobody has touched counts as left, where its process cannot be looked up: it
comes from another machine, from another container, or from before the machine was started again."""

_unfinished: set[Path] = set()
_NAME = re.compile(
    r"\.(?P<name>.{1,40})\.(?P<place>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<start>\d{1,20})"
    r"\.(?P<digest>[0-9a-f]{8})[0-9a-f]{6}\.(?P<kind>part|old)",
    re.DOTALL,
)


def temporary_beside(path: Path, kind: str = "part") -> Path:
    """A free name beside a path, for what will be renamed to it (`part`) or was moved out of its way (`old`)."""
    # Short enough for any file system: 40 characters have at most 160 bytes.
    mine = f"{_this_place()}-{os.getpid()}-{_start_of(os.getpid()) or 0}"
    return path.with_name(f".{path.name[:40]}.{mine}.{_digest(path)}{secrets.token_hex(3)}.{kind}")


@contextmanager
def unfinished(temporary: Path) -> Iterator[None]:
    """Around all that makes and fills a temporary, which is deleted at the end, unless it has been renamed."""
    _unfinished.add(temporary)
    try:
        yield
    finally:
        _delete(temporary)
        _unfinished.discard(temporary)


def delete_unfinished() -> None:
    """Delete what this process is writing; for one that ends at once, whatever its other threads are doing."""
    for temporary in tuple(_unfinished):
        _delete(temporary)


def clear_leftovers(folder: Path) -> None:
    """Delete the temporaries in a folder that no living process will finish; what cannot be deleted stays."""
    for path, found in _left_in(folder):
        if found["kind"] == "part":
            _delete(path)


def repair(path: Path) -> None:
    """Put back what a killed process had moved out of the way of a folder, where it did not come to the new one."""
    for left, found in _left_in(path.parent):
        if found["kind"] != "old" or found["digest"] != _digest(path):
            continue
        if os.path.lexists(path):
            _delete(left)
        else:
            with suppress(OSError):
                left.rename(path)


@functools.lru_cache(maxsize=1024)
def clear_leftovers_once(folder: Path) -> None:
    """The same as `clear_leftovers`, once in a process: a folder of many pictures is not looked through for each."""
    clear_leftovers(folder)


def _left_in(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The temporaries in a folder that no living process will finish."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(".")]
    except OSError:  # no folder yet, or none that can be looked into
        return []
    left = []
    for name in names:
        found = _NAME.fullmatch(name)
        if found is not None and _is_left(folder / name, found):
            left.append((folder / name, found))
    return left


def _is_left(path: Path, found: re.Match[str]) -> bool:
    """Whether the process that a temporary's name tells of is no more."""
    if found["place"] == UNKNOWN_PLACE or found["place"] != _this_place():
        return _untouched(path)
    return not _is_alive(int(found["pid"]), int(found["start"]))


def _is_alive(pid: int, start: int) -> bool:
    """Whether the process of this number that began then still runs; another may have the number by now."""
    found = _start_of(pid)
    if found is not None:
        return found == start
    try:  # some systems hide in /proc what other users run
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _untouched(path: Path) -> bool:
    """Whether nobody has touched a file or folder, or what is in it, for long."""
    newest = 0.0
    with suppress(OSError):
        for each in (path, *path.rglob("*")):
            newest = max(newest, each.lstat().st_mtime)
    return 0.0 < newest < time.time() - ABANDONED


def _delete(path: Path) -> None:
    """Delete a file, a link or a folder, as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """What a temporary's name says of its output's whole name, of which it has only the beginning."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]


@functools.cache
def _this_place() -> str:
    """Eight characters for the boot and the container that this process is in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        processes = Path("/proc/self/ns/pid").readlink()  # containers count their processes by themselves
    except OSError:
        return UNKNOWN_PLACE
    return hashlib.sha256(f"{boot} {processes}".encode()).hexdigest()[:8]


def _start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since the boot; None where there is none, or no /proc to say it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, the command's name in brackets, may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):  # ended already; its parent has not asked yet
        return None
    return int(fields[19])
