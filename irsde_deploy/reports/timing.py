"""Speed, engines in turns: one evaluation, and whole pictures by presets.

Engines take turns within every repeat, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.presets import PRESETS
from ..core.sampling import Sampling
from ..restorer import Restorer


@dataclass(frozen=True)
class Contestant:
    """An engine that is measured.

    Attributes:
        name: for tables. restorer: around it. path: its file.
        provider, device: what it was opened with.
        operations: (batch, height, width) -> floating-point operations of one evaluation; None where uncounted.
    """

    name: str
    restorer: Restorer
    path: Path
    provider: str | None = None
    device: str | None = None
    operations: Callable[[int, int, int], int] | None = None

    @property
    def sampling(self) -> Sampling:
        """The card's settings; models that start at a noise level, which nobody says here, start at the highest."""
        sampling = Sampling()
        if sampling.starts_blind(self.restorer.sde):
            return Sampling(t0=self.restorer.sde.T)
        return sampling


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
    contestants: Sequence[Contestant],
    sizes: Sequence[tuple[int, int]],
    batch: int,
    repeats: int,
    peak: float | None,
) -> Iterator[EvaluationTiming]:
    """Each engine at each size, in turns.

    Args:
        contestants: the engines.
        sizes: (height, width). batch: pictures at a time. repeats: of each, after a warm-up.
        peak: operations a second of the machine.
    """
    for height, width in sizes:
        picture = np.full((batch, height, width, 3), 128, dtype=np.uint8)
        taken = in_turns([partial(c.restorer.seconds_per_evaluation, picture, repeats=1) for c in contestants], repeats)
        for contestant, seconds in zip(contestants, taken, strict=True):
            speed = share = None
            if contestant.operations is not None:
                speed = contestant.operations(batch, height, width) / statistics.median(seconds)
                share = None if peak is None else speed / peak
            yield EvaluationTiming(
                contestant.name,
                contestant.restorer.card.precision,
                f"{height}x{width}",
                batch,
                statistics.median(seconds),
                float(np.quantile(seconds, 0.95)),
                None if speed is None else speed / 1e9,
                share,
            )


def time_pictures(
    contestants: Sequence[Contestant],
    size: tuple[int, int],
    qualities: Sequence[str],
    repeats: int,
    measure: Callable[[Contestant, str], float | None] | None = None,
) -> Iterator[PictureTiming]:
    """Whole pictures by each engine and quality, in turns.

    Args:
        contestants: the engines. size: (height, width) of the picture. qualities: presets. repeats: after a warm-up.
        measure: (engine, quality) -> PSNR in dB.
    """
    picture = np.full((*size, 3), 128, dtype=np.uint8)
    for quality in qualities:
        taken = in_turns([_restoring(contestant, picture, quality) for contestant in contestants], repeats)
        for contestant, seconds in zip(contestants, taken, strict=True):
            decibels = None
            if measure is not None:
                decibels = measure(contestant, quality)
            median = statistics.median(seconds)
            made_of = str(PRESETS[quality])
            yield PictureTiming(contestant.name, f"{size[0]}x{size[1]}", quality, made_of, median, decibels)


def _restoring(contestant: Contestant, picture: npt.NDArray[Any], quality: str) -> Callable[[], float]:
    def work() -> float:
        started = time.perf_counter()
        contestant.restorer(picture, contestant.sampling, quality=quality)
        return time.perf_counter() - started

    return work


def in_turns(works: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Seconds of every work, once to warm up and then `repeats` times, each in its turn."""
    taken: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for times, work in zip(taken, works, strict=True):
            seconds = work()
            if repeat:  # the first one warms up
                times.append(seconds)
    return taken
