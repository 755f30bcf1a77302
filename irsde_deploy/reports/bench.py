"""Speed measured beside quality: what `irsde-deploy bench` runs, prints and writes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..system.figures import figure_file
from ..system.listener import SILENT, Listener
from ..system.one_of_many import those_that_work
from ..system.tables import markdown_table, write_json
from ..system.threads import usable_threads
from .machine import matrix_product_peak, peak_memory
from .timing import Contestant, EvaluationTiming, PictureTiming, time_evaluations, time_pictures

if TYPE_CHECKING:
    from ..pictures.pairs import Pair


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


def run(
    contestants: Sequence[Contestant],
    sizes: Sequence[tuple[int, int]],
    batch: int,
    repeats: int,
    qualities: Sequence[str],
    pairs: Sequence[Pair] = (),
    listener: Listener = SILENT,
) -> Benchmark:
    """Measure evaluations at every size, then memory and whole pictures at the last one.

    Args:
        contestants: the engines.
        sizes: (height, width) of pictures. batch: pictures of an evaluation. repeats: of each evaluation.
        qualities: presets that whole pictures are restored by, a third as often.
        pairs: what PSNR is measured on; it is not without any. Those that cannot be read are left out for all engines.
        listener: is told each table as soon as it is there, and what is left out.

    Raises:
        InputFileError: there are pairs, and none can be read.
    """
    pairs = readable_pairs(pairs, listener.note)
    peak = matrix_product_peak()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {usable_threads()} threads"
    listener.line(f"{machine}; matrix products at {peak / 1e9:.1f} GFLOP/s")
    evaluations = list(time_evaluations(contestants, sizes, batch, repeats, peak))
    listener.line(format_evaluations(evaluations))
    memory = {}
    for each in contestants:
        memory[each.name] = peak_memory(each, sizes[-1], batch)
        listener.line(f"{each.name}: {_megabytes(memory[each.name])}")
    measure = partial(data_set_psnr, pairs=pairs, on_note=listener.note) if pairs else None
    pictures = list(time_pictures(contestants, sizes[-1], qualities, max(1, repeats // 3), measure))
    listener.line(format_pictures(pictures))
    opened = {each.name: each.restorer.engine.name for each in contestants}
    return Benchmark(machine, opened, peak, evaluations, pictures, memory)


def readable_pairs(pairs: Sequence[Pair], on_note: Callable[[str], None]) -> list[Pair]:
    """The pairs that can be read and fit; `on_note` is told of the others. Raises InputFileError where none can."""
    from .evaluation import read_pair

    def tried(pair: Pair) -> Pair:
        read_pair(pair)
        return pair

    return those_that_work([(pair.lq, partial(tried, pair)) for pair in pairs], on_note, "PSNR is without it")


def data_set_psnr(
    contestant: Contestant, quality: str, pairs: Sequence[Pair], on_note: Callable[[str], None] = SILENT.note
) -> float | None:
    """Mean PSNR of a data set in dB, as `irsde-deploy evaluate` measures it.

    Returns:
        None where nothing differs anywhere, or a pair cannot be restored: a mean over other pairs than the other
        engines' would be compared with theirs. `on_note` is told of that pair.
    """
    from ..pictures.metrics import CROP_BORDER
    from .evaluation import Evaluation, evaluate

    def restore(lq: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
        return contestant.restorer(lq, contestant.sampling, quality=quality), 0

    evaluation = Evaluation({})
    for measurement in evaluate(restore, pairs, CROP_BORDER, {}, lambda *_: None):
        if measurement.error:
            on_note(f"{measurement.error}: {contestant.name} has no PSNR by {quality}")
            return None
        evaluation.measurements.append(measurement)
    return evaluation.mean("psnr")


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


def _megabytes(size: int | None) -> str:
    return "memory not measured" if size is None else f"{size / 1e6:.0f} MB at most"


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
