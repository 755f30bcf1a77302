"""How many threads to use: as many as OMP_NUM_THREADS says, which every library of the field listens to."""

from __future__ import annotations

import os

MOST = 256


def wanted_threads() -> int:
    """What OMP_NUM_THREADS says, `MOST` at most; 0 where it says nothing."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(threads), MOST) if threads.isdecimal() and len(threads) < 10 else 0


def usable_threads() -> int:
    """The same, and where it says nothing, as many as this process has processors."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted_threads() or processors
