"""How much memory there is for a picture on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PAGE = 4096
"""Bytes of a page, which Linux counts a process's addresses in, on the processors of the field."""

SHARE = 0.8
"""The share of the available memory that a picture may take: other programs take some meanwhile."""


def available_memory(root: Path = Path("/")) -> int | None:
    """The bytes that this process can get without swapping.

    That is within the limits of its control groups, such as a container's, and of `ulimit -v`.

    Args:
        root: where the file system is that tells; for tests.

    Returns:
        None where the system does not say, as on others than Linux.
    """
    limits = list(_free_in_groups(root))
    for free in (_free_memory(root), _free_addresses(root)):
        if free is not None:
            limits.append(free)
    return min(limits, default=None)


def _free_memory(root: Path) -> int | None:
    """The machine's available memory: MemAvailable counts what caches would give back, and MemFree does not."""
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024  # in kB
    return None


def _free_addresses(root: Path) -> int | None:
    """The part of the limit of `ulimit -v` that this process has not used yet; None where there is no limit."""
    limit = address_limit(root)
    if limit is None:
        return None
    pages = _first_line(root / "proc/self/statm").split() or ["0"]
    return max(0, limit - int(pages[0]) * PAGE)


def address_limit(root: Path = Path("/")) -> int | None:
    """The bytes of addresses that `ulimit -v` allows this process; None where there is no limit, or none to be seen."""
    for line in _lines(root / "proc/self/limits"):
        if line.startswith("Max address space"):
            limit = line.split()[3]
            if limit.isdigit():  # else "unlimited"
                return int(limit)
    return None


_GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Name of the memory controller in /proc/self/cgroup (it has none in version 2) -> the file of the limit, that of the
use, and the entry of memory.stat that says how much of the use can be dropped."""


def _free_in_groups(root: Path) -> Iterator[int]:
    """The bytes that each control group leaves which this process is in, from its own up to the root."""
    for line in _lines(root / "proc/self/cgroup"):
        # "4:cpu,memory:/user.slice": number, controllers, path
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for name in controllers.split(","):
            if name in _GROUPS:
                yield from _free_up_from(path, root / "sys/fs/cgroup" / name, _GROUPS[name])
                break


def _free_up_from(path: str, base: Path, files: tuple[str, str, str]) -> Iterator[int]:
    """The bytes that a group leaves, and each group above it, where there is a limit; base is the hierarchy's root."""
    group = base / path.strip("/")
    for folder in (group, *group.parents):
        free = _free_in(folder, *files)
        if free is not None:
            yield free
        if folder == base:
            break


def _free_in(folder: Path, limit: str, usage: str, droppable: str) -> int | None:
    """The bytes that one group leaves; None where it has no limit, or cannot be seen from here."""
    most = _first_line(folder / limit)
    used = _first_line(folder / usage)
    if not most.isdigit() or not used.isdigit():  # "max" is no limit
        return None
    # Cached files count as use until somebody else wants the memory.
    dropped = 0
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == droppable:
            dropped = int(value)
            break
    return max(0, int(most) - int(used) + dropped)


def _first_line(path: Path) -> str:
    """The first line of a file that is not empty; "" where there is none."""
    return next(iter(_lines(path)), "")


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty; none where it cannot be read."""
    try:
        text = path.read_text()
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]
