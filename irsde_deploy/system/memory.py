"""Memory: how much there is for a picture on the CPU, and how much an evaluation of a network takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PAGE = 4096
"""Bytes; what Linux counts a process's addresses in on the processors of the field."""

SHARE = 0.8
"""Of the available memory that a picture may take: other programs take some meanwhile."""


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can get without swapping, within the limits of its control groups and of `ulimit -v`.

    None where nobody says, as on other systems than Linux. `root`: of the file system that is asked.
    """
    found = [_free_memory(root), *_free_in_groups(root), _free_addresses(root)]
    return min((value for value in found if value is not None), default=None)


def _free_memory(root: Path) -> int | None:
    """MemAvailable, in kB."""
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_addresses(root: Path) -> int | None:
    """What `ulimit -v` leaves."""
    for line in _lines(root / "proc/self/limits"):
        if line.startswith("Max address space"):
            limit = line.split()[3]
            used = int(next(iter(_lines(root / "proc/self/statm")), "0").split()[0]) * PAGE
            return max(0, int(limit) - used) if limit.isdigit() else None
    return None


_GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in /proc/self/cgroup ("": version 2) -> files of limit and use, and what of the use can be dropped."""


def _free_in_groups(root: Path) -> Iterator[int]:
    """What each control group that this process is in leaves, from its own up to the root."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names = [name for name in controllers.split(",") if name in _GROUPS]
        if not names:
            continue
        base = root / "sys/fs/cgroup" / names[0]
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            if (free := _free_in(folder, *_GROUPS[names[0]])) is not None:
                yield free
            if folder == base:
                break


def _free_in(folder: Path, limit: str, usage: str, droppable: str) -> int | None:
    """What one group leaves; None where it has no limit, or is not to be seen from here."""
    most, used = (next(iter(_lines(folder / name)), "") for name in (limit, usage))
    if not most.isdigit() or not used.isdigit():
        return None
    dropped = next((int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.split()[0] == droppable), 0)
    return max(0, int(most) - int(used) + dropped)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except OSError:
        return []
