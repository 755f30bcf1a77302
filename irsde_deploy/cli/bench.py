"""irsde-deploy bench."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.presets import PRESETS
from ..errors import InputFileError, InvalidValueError, OutputFileError, requires_extra
from ..runtimes.tensorrt.profiles import parse_size
from ..system.threads import usable_threads
from .common import PATH, PROVIDERS, require_rgb, say

if TYPE_CHECKING:
    from ..pictures.pairs import Pair
    from ..reports.bench import Contestant, PictureTiming


@click.command()
@click.argument("engines", nargs=-1, required=True, type=PATH)
@click.option("--size", "sizes", multiple=True, metavar="HxW", help="Of the pictures [default: 256x256].")
@click.option("--batch", type=click.IntRange(1, 64), default=1, show_default=True, help="Pictures an evaluation.")
@click.option(
    "--engine-provider",
    "providers",
    multiple=True,
    type=click.Choice(PROVIDERS),
    help="What runs each .onnx; repeat to compare [default: onnxruntime].",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda for plans, else cpu]")
@click.option(
    "--quality",
    "qualities",
    multiple=True,
    type=click.Choice(list(PRESETS)),
    help="Presets that whole pictures are restored by; repeat for more [default: all].",
)
@click.option("--repeats", type=click.IntRange(1, 1000), default=7, show_default=True, help="Of each, in turns.")
@click.option("--data", type=PATH, help="Folder with LQ and GT: measures PSNR beside time.")
@click.option("-o", "--output", type=PATH, help="Folder for bench.json and bench.png.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
def bench(
    engines: tuple[Path, ...],
    sizes: tuple[str, ...],
    batch: int,
    providers: tuple[str, ...],
    device: str | None,
    qualities: tuple[str, ...],
    repeats: int,
    data: Path | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure ENGINES: one evaluation and whole pictures, in turns; share of the machine's peak, memory, PSNR."""
    from ..reports import bench as measuring

    if output is not None:
        _require_output(output, overwrite)
    pairs = None if data is None else _pairs(data)
    wanted = list(dict.fromkeys(_size(text) for text in sizes)) or [(256, 256)]
    contestants = _open(engines, providers, device)
    peak = measuring.matrix_product_peak()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {usable_threads()} threads"
    click.echo(f"{machine}; matrix products at {peak / 1e9:.1f} GFLOP/s")
    evaluations = list(measuring.time_evaluations(contestants, wanted, batch, repeats, peak))
    click.echo(measuring.format_evaluations(evaluations))
    memory = {each.name: measuring.peak_memory(each, wanted[-1], batch) for each in contestants}
    for name, size in memory.items():
        click.echo(f"{name}: {'memory not measured' if size is None else f'{size / 1e6:.0f} MB at most'}")
    measure = None if pairs is None else partial(_psnr, pairs)
    chosen = tuple(dict.fromkeys(qualities)) or tuple(PRESETS)
    pictures = list(measuring.time_pictures(contestants, wanted[-1], chosen, max(1, repeats // 3), measure))
    click.echo(measuring.format_pictures(pictures))
    if output is not None:
        report = {
            "machine": machine,
            "engines": {each.name: each.restorer.engine.name for each in contestants},
            "matrix_product_peak_gflops": peak / 1e9,
            "evaluations": measuring.as_json(evaluations),
            "pictures": measuring.as_json(pictures),
            "peak_memory_bytes": memory,
        }
        _write(output, report, pictures)


def _require_output(output: Path, overwrite: bool) -> None:
    from ..system.files import require_writable

    if output.exists() and not output.is_dir():
        raise OutputFileError(f"{output}: is a file, and a report goes into a folder: give another name with -o")
    if (output / "bench.json").exists() and not overwrite:
        raise OutputFileError(f"{output}: holds a report already: pass --overwrite to replace it")
    require_writable(output / "bench.json")


def _open(engines: tuple[Path, ...], providers: tuple[str, ...], device: str | None) -> list[Contestant]:
    """Every engine; .onnx files once a provider. Files of one name are told apart by their folders."""
    from ..reports.bench import Contestant
    from ..restorer import load

    paths = list(dict.fromkeys(engines))
    names = Counter(path.name for path in paths)
    contestants = []
    for path in paths:
        shown = path.name if names[path.name] == 1 else str(path)
        for provider in dict.fromkeys(providers) if providers and path.suffix.lower() == ".onnx" else (None,):
            name = shown if provider is None else f"{shown} ({provider})"
            restorer = require_rgb(load(path, device, provider=provider), path)
            contestants.append(Contestant(name, restorer, path, provider, device, _operations(path)))
    return contestants


def _operations(path: Path) -> Callable[[int, int, int], int] | None:
    """(batch, height, width) -> operations of one evaluation; None where they cannot be counted."""
    if path.suffix.lower() != ".onnx":
        return None
    try:
        from ..graphs.flops import count_flops
        from ..graphs.onnx_file import read_model
    except ImportError:
        say("note: operations are counted with the package onnx, which is not installed")
        return None
    model, card = read_model(path)
    multiple = card.multiple_of
    return lambda batch, h, w: count_flops(model, batch, h + -h % multiple, w + -w % multiple)


def _pairs(data: Path) -> list[Pair]:
    with requires_extra("evaluate", "measuring PSNR"):
        from ..pictures.pairs import find_pairs
    return find_pairs(data)


def _psnr(pairs: list[Pair], contestant: Contestant, quality: str) -> float | None:
    """Mean PSNR of a data set, as `irsde-deploy evaluate` measures it."""
    from ..pictures.metrics import CROP_BORDER
    from ..reports.evaluation import Evaluation, evaluate

    def restore(lq: Any) -> tuple[Any, int]:
        return contestant.restorer(lq, contestant.sampling, quality=quality), 0

    evaluation = Evaluation({})
    for measurement in evaluate(restore, pairs, CROP_BORDER, {}, lambda *_: None):
        if measurement.error:
            raise InputFileError(measurement.error)
        evaluation.measurements.append(measurement)
    return evaluation.mean("psnr")


def _write(output: Path, report: dict[str, Any], pictures: list[PictureTiming]) -> None:
    from ..system.files import write_atomically

    with write_atomically(output / "bench.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    written = f"wrote {output / 'bench.json'}"
    (output / "bench.png").unlink(missing_ok=True)  # of an earlier report
    if any(timing.psnr is not None for timing in pictures):
        _plot(output / "bench.png", pictures)
        written += " and bench.png"
    click.echo(written)


def _plot(path: Path, pictures: list[PictureTiming]) -> None:
    """PNG: PSNR against the seconds that a picture takes, a line an engine."""
    with requires_extra("export", "plotting"):
        from matplotlib.figure import Figure

    from ..system.files import write_atomically

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for engine in dict.fromkeys(timing.engine for timing in pictures):
        mine = sorted((t.median, t.psnr or 0.0, t.quality) for t in pictures if t.engine == engine)
        axes.plot([t[0] for t in mine], [t[1] for t in mine], "o-", label=engine)
        for seconds, decibels, quality in mine:
            axes.annotate(quality, (seconds, decibels), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel=f"seconds a picture of {pictures[0].size}", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")


def _size(text: str) -> tuple[int, int]:
    from ..pictures.files import MAX_PIXELS

    size = parse_size(text)
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise InvalidValueError(f"a picture has 1 to {MAX_PIXELS} pixels, not {text}")
    return size
