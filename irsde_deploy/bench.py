"""Speed measured beside quality: one evaluation and whole pictures, engines in turns, medians.

Engines take turns within every repeat, so that a machine that slows down slows all of them. The peak that evaluations
are compared with is measured too: the best float32 matrix product of NumPy's BLAS, with as many threads.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .presets import PRESETS
from .restorer import Restorer

PEAK_SIDE, PEAK_REPEATS = 1536, 7


@dataclass(frozen=True)
class EvaluationTiming:
    """One evaluation, with the update after it, at one size.

    Attributes:
        engine, precision: which. size: "HxW". batch: pictures at a time.
        median, p95: seconds.
        gflops: 10^9 floating-point operations a second (convolutions and matrix products of the
            graph as exported, of which a rewritten one needs fewer); None where uncounted.
        share: of the machine's matrix-product peak.
    """

    engine: str
    precision: str
    size: str
    batch: int
    median: float
    p95: float
    gflops: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class PictureTiming:
    """A whole picture by a preset.

    Attributes:
        engine, size, quality: which. made_of: the preset in words.
        median: seconds a picture.
        psnr: dB on pairs, mean; None without any.
    """

    engine: str
    size: str
    quality: str
    made_of: str
    median: float
    psnr: float | None = None


def time_evaluations(
    restorers: Sequence[Restorer],
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    batch: int,
    repeats: int,
    flops: Callable[[int, int], int] | None,
    peak: float | None,
) -> Iterator[EvaluationTiming]:
    """Each engine at each size, in turns.

    Args:
        restorers, names: the engines.
        sizes: (height, width). batch: pictures at a time. repeats: of each, after a warm-up.
        flops: (height, width) -> operations of one evaluation of the batch. peak: operations a second.
    """
    for height, width in sizes:
        picture = np.full((batch, height, width, 3), 128, dtype=np.uint8)
        taken = _in_turns([partial(r.seconds_per_evaluation, picture, repeats=1) for r in restorers], repeats)
        count = flops(height, width) if flops is not None else None
        for restorer, name, seconds in zip(restorers, names, taken, strict=True):
            median = statistics.median(seconds)
            speed = count / median if count is not None else None
            yield EvaluationTiming(
                name,
                restorer.card.precision,
                f"{height}x{width}",
                batch,
                median,
                float(np.quantile(seconds, 0.95)),
                None if speed is None else speed / 1e9,
                None if speed is None or peak is None else speed / peak,
            )


def time_pictures(
    restorers: Sequence[Restorer],
    names: Sequence[str],
    size: tuple[int, int],
    qualities: Sequence[str],
    repeats: int,
    measure: Callable[[Restorer, str], float] | None = None,
    options: dict[str, Any] | None = None,
) -> Iterator[PictureTiming]:
    """Whole pictures of one size by each engine and quality, in turns; `measure(restorer, quality)` gives the PSNR."""
    picture = np.full((*size, 3), 128, dtype=np.uint8)
    for quality in qualities:
        works = [_restoring(r, picture, quality, options or {}) for r in restorers]
        taken = _in_turns(works, repeats)
        for restorer, name, seconds in zip(restorers, names, taken, strict=True):
            psnr = measure(restorer, quality) if measure is not None else None
            made_of = str(PRESETS[quality])
            yield PictureTiming(name, f"{size[0]}x{size[1]}", quality, made_of, statistics.median(seconds), psnr)


def _restoring(
    restorer: Restorer, picture: npt.NDArray[Any], quality: str, options: dict[str, Any]
) -> Callable[[], float]:
    def work() -> float:
        started = time.perf_counter()
        restorer(picture, quality=quality, **options)
        return time.perf_counter() - started

    return work


def _in_turns(works: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Seconds of every work, once to warm up and then `repeats` times, each in its turn."""
    taken: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for times, work in zip(taken, works, strict=True):
            seconds = work()
            if repeat:
                times.append(seconds)
    return taken


def matrix_product_peak() -> float:
    """Float32 operations a second of NumPy's BLAS on its best of several products of 1536x1536."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32) for _ in range(2))
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
restorer = load(sys.argv[1], provider=sys.argv[2] or None)
restorer.seconds_per_evaluation(np.full((1, int(sys.argv[3]), int(sys.argv[4]), 3), 128, np.uint8), repeats=1)
status = pathlib.Path("/proc/self/status")
if status.exists():  # Linux, where ru_maxrss counts what the parent process had, too
    print(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(engine: str, provider: str | None, size: tuple[int, int]) -> int | None:
    """Bytes that a process needs at most for one evaluation, libraries included; None where it cannot be measured."""
    if sys.platform == "win32":
        return None
    command = [sys.executable, "-c", _MEMORY_PROGRAM, engine, provider or "", str(size[0]), str(size[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit if done.returncode == 0 else None


def as_json(timings: Sequence[EvaluationTiming | PictureTiming]) -> list[dict[str, Any]]:
    """Plain JSON types."""
    return [asdict(timing) for timing in timings]


def format_evaluations(timings: Sequence[EvaluationTiming]) -> str:
    """A Markdown table."""
    lines = ["| engine | size | median | p95 | GFLOP/s | of peak |", "|---|---|---|---|---|---|"]
    for t in timings:
        speed = "" if t.gflops is None else f"{t.gflops:.1f}"
        share = "" if t.share is None else f"{t.share:.0%}"
        size = t.size if t.batch == 1 else f"{t.batch} x {t.size}"
        lines.append(f"| {t.engine} | {size} | {t.median * 1e3:.1f} ms | {t.p95 * 1e3:.1f} ms | {speed} | {share} |")
    return "\n".join(lines)


def format_pictures(timings: Sequence[PictureTiming]) -> str:
    """A Markdown table."""
    lines = ["| engine | size | quality | made of | a picture | PSNR |", "|---|---|---|---|---|---|"]
    for t in timings:
        decibels = "" if t.psnr is None else f"{t.psnr:.2f} dB"
        lines.append(f"| {t.engine} | {t.size} | {t.quality} | {t.made_of} | {t.median:.3f} s | {decibels} |")
    return "\n".join(lines)
