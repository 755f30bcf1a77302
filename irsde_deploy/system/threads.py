"""How many threads to use: as many as OMP_NUM_THREADS says, which every library of the field listens to."""

from __future__ import annotations

import os

MOST = 256
"""No library gets more threads than this, whatever the variable says."""


def wanted_threads() -> int:
    """The number that OMP_NUM_THREADS says, `MOST` at most; 0 where it says none."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    # OpenMP allows "4,2" for nested regions, and no library here has any; a number of ten digits is a mistake.
    if not threads.isdecimal() or len(threads) >= 10:
        return 0
    return min(int(threads), MOST)


def usable_threads() -> int:
    """The number that OMP_NUM_THREADS says, and where it says none, that of the processors this process may use."""
    return wanted_threads() or _processors()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows; it knows of taskset and of containers' cpusets
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
