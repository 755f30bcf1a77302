"""Speed measured beside quality: one evaluation and whole pictures, engines in turns, medians.

Engines take turns within every repeat, so that a machine that slows down slows all of them. The peak that evaluations
are compared with is measured too (`machine`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.presets import PRESETS
from ..core.sampling import Sampling
from ..errors import InputFileError, requires_extra
from ..restorer import Restorer
from ..system.figures import figure_file
from ..system.tables import markdown_table, write_json

if TYPE_CHECKING:
    from ..pictures.pairs import Pair


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
        blind = Sampling().blind_sde(self.restorer.sde)
        return Sampling() if blind is None else Sampling(t0=blind.T)


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


def mean_psnr(contestant: Contestant, quality: str, pairs: Sequence[Pair]) -> float | None:
    """Mean PSNR of a data set in dB, as `irsde-deploy evaluate` measures it; None where nothing differs anywhere.

    Raises:
        InputFileError: a pair cannot be read or restored.
    """
    from ..pictures.metrics import CROP_BORDER
    from .evaluation import Evaluation, evaluate

    def restore(lq: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
        return contestant.restorer(lq, contestant.sampling, quality=quality), 0

    evaluation = Evaluation({})
    for measurement in evaluate(restore, pairs, CROP_BORDER, {}, lambda *_: None):
        if measurement.error:
            raise InputFileError(measurement.error)
        evaluation.measurements.append(measurement)
    return evaluation.mean("psnr")


def counted_operations(path: Path) -> Callable[[int, int, int], int]:
    """(batch, height, width) -> operations of one evaluation of an exported graph, with its padding.

    Raises:
        MissingPackageError: the package onnx is not installed.
    """
    with requires_extra("cpu", "counting operations"):
        from ..graphs.flops import count_flops
        from ..graphs.onnx_file import read_model
    model, card = read_model(path)
    multiple = card.multiple_of

    def count(batch: int, height: int, width: int) -> int:
        return count_flops(model, batch, height + -height % multiple, width + -width % multiple)

    return count


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


# -- reports -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benchmark:
    """All that one run has measured.

    Attributes:
        machine: in words. engines: name of each contestant -> what runs it.
        peak: float32 operations a second of the machine, as `machine.matrix_product_peak` has it.
        memory: name of each contestant -> bytes that it needs at most; None where it was not measured.
    """

    machine: str
    engines: dict[str, str]
    peak: float
    evaluations: Sequence[EvaluationTiming]
    pictures: Sequence[PictureTiming]
    memory: dict[str, int | None]


def write_reports(benchmark: Benchmark, folder: Path) -> list[Path]:
    """Write bench.json, and bench.png where PSNR was measured; gives the paths of what was written."""
    numbers, plot = folder / "bench.json", folder / "bench.png"
    report = {
        "machine": benchmark.machine,
        "engines": benchmark.engines,
        "matrix_product_peak_gflops": benchmark.peak / 1e9,
        "evaluations": [asdict(timing) for timing in benchmark.evaluations],
        "pictures": [asdict(timing) for timing in benchmark.pictures],
        "peak_memory_bytes": benchmark.memory,
    }
    write_json(numbers, report)
    plot.unlink(missing_ok=True)  # of an earlier report
    if all(timing.psnr is None for timing in benchmark.pictures):
        return [numbers]
    _write_plot(plot, benchmark.pictures)
    return [numbers, plot]


def _write_plot(path: Path, pictures: Sequence[PictureTiming]) -> None:
    """Draw PSNR against the seconds that a picture takes, a line an engine."""
    with figure_file(path, size=(7, 4), dpi=120) as figure:
        axes = figure.add_subplot()
        lines: dict[str, list[tuple[float, float, str]]] = {}
        for t in pictures:
            lines.setdefault(t.engine, []).append((t.median, t.psnr or 0.0, t.quality))
        for engine, points in lines.items():
            points.sort()
            axes.plot([point[0] for point in points], [point[1] for point in points], "o-", label=engine)
            for seconds, decibels, quality in points:
                axes.annotate(quality, (seconds, decibels), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel=f"seconds a picture of {pictures[0].size}", ylabel="PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()


def format_evaluations(timings: Sequence[EvaluationTiming]) -> str:
    """The evaluations as a Markdown table."""
    rows = []
    for t in timings:
        size = t.size if t.batch == 1 else f"{t.batch} x {t.size}"
        speed = "" if t.gflops is None else f"{t.gflops:.1f}"
        share = "" if t.share is None else f"{t.share:.0%}"
        rows.append((t.engine, size, f"{t.median * 1e3:.1f} ms", f"{t.p95 * 1e3:.1f} ms", speed, share))
    return markdown_table(("engine", "size", "median", "p95", "GFLOP/s", "of peak"), rows)


def format_pictures(timings: Sequence[PictureTiming]) -> str:
    """The whole pictures as a Markdown table."""
    rows = []
    for t in timings:
        decibels = "" if t.psnr is None else f"{t.psnr:.2f} dB"
        rows.append((t.engine, t.size, t.quality, t.made_of, f"{t.median:.3f} s", decibels))
    return markdown_table(("engine", "size", "quality", "made of", "a picture", "PSNR"), rows)
