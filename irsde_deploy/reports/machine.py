"""What engines are measured against: the machine's arithmetic peak, and the memory that one evaluation needs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .timing import Contestant

PEAK_SIDE, PEAK_REPEATS = 1536, 7
"""Side of the square matrices whose product is timed for the machine's peak, and how often."""


def matrix_product_peak() -> float:
    """Float32 operations a second of NumPy's BLAS on its best of several products of 1536x1536."""
    rng = np.random.default_rng(0)
    a = rng.random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
    b = rng.random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
    best = float("inf")
    for _ in range(PEAK_REPEATS):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * PEAK_SIDE**3 / best


_MEMORY_PROGRAM = """
import pathlib, re, resource, sys
import numpy as np
from irsde_deploy import load
restorer = load(sys.argv[1], "cpu", provider=sys.argv[2] or None)
shape = [int(side) for side in sys.argv[3:]]
restorer.seconds_per_evaluation(np.full((*shape, 3), 128, np.uint8), repeats=1)
status = pathlib.Path("/proc/self/status")
if status.exists():  # Linux, where ru_maxrss counts what the parent process had, too
    print("\\npeak", re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    print("\\npeak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(contestant: Contestant, size: tuple[int, int], batch: int = 1) -> int | None:
    """Bytes that a process needs at most for one evaluation on the CPU, libraries included.

    None where it cannot be measured, as on a GPU, whose memory is its own.

    Args:
        contestant: the engine, opened anew in a process of its own. size: (height, width). batch: pictures at a time.
    """
    on_cpu = contestant.device != "cuda" and contestant.path.suffix.lower() != ".plan"
    if sys.platform == "win32" or not on_cpu:
        return None
    arguments = [str(contestant.path), contestant.provider or "", *map(str, (batch, *size))]
    command = [sys.executable, "-c", _MEMORY_PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^peak (\d+)$", done.stdout, re.MULTILINE)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(found[1]) * unit if done.returncode == 0 and found else None
