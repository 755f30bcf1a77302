"""irsde-deploy bench."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..errors import InvalidValueError, OutputFileError, requires_extra
from ..noise_level import blind_sde
from ..presets import PRESETS
from ..runtimes.profiles import parse_size
from .common import PATH, PROVIDERS, require_rgb, say

if TYPE_CHECKING:
    from ..bench import PictureTiming
    from ..restorer import Restorer


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
    from .. import bench as measuring

    if output is not None and (output / "bench.json").exists() and not overwrite:
        raise OutputFileError(f"{output}: holds a report already: pass --overwrite to replace it")
    wanted = [_size(text) for text in sizes] or [(256, 256)]
    restorers = _open(engines, providers, device)
    names = list(restorers)
    opened = [restorer for restorer, _, _ in restorers.values()]
    peak = measuring.matrix_product_peak()
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads",
        "engines": {name: restorer.engine.name for name, restorer in zip(names, opened, strict=True)},
        "matrix_product_peak_gflops": peak / 1e9,
    }
    click.echo(f"{about['machine']}; matrix products at {peak / 1e9:.1f} GFLOP/s")
    flops = _flops(engines, batch)
    evaluations = list(measuring.time_evaluations(opened, names, wanted, batch, repeats, flops, peak))
    click.echo(measuring.format_evaluations(evaluations))
    memory = {
        name: measuring.peak_memory(str(path), provider, wanted[-1]) for name, (_, path, provider) in restorers.items()
    }
    for name, size in memory.items():
        click.echo(f"{name}: {'memory not measured' if size is None else f'{size / 1e6:.0f} MB at most'}")
    options = {"t0": opened[0].sde.T} if blind_sde(opened[0].sde, None, None) else {}
    measure = None if data is None else _psnr_on(data, options)
    chosen = qualities or tuple(PRESETS)
    pictures = list(measuring.time_pictures(opened, names, wanted[-1], chosen, max(1, repeats // 3), measure, options))
    click.echo(measuring.format_pictures(pictures))
    if output is not None:
        report = {
            **about,
            "evaluations": measuring.as_json(evaluations),
            "pictures": measuring.as_json(pictures),
            "peak_memory_bytes": memory,
        }
        _write(output, report, pictures)


def _open(
    engines: tuple[Path, ...], providers: tuple[str, ...], device: str | None
) -> dict[str, tuple[Restorer, Path, str | None]]:
    """Name -> (restorer, file, provider) of every engine; .onnx files once a provider."""
    from ..restorer import load

    opened: dict[str, tuple[Restorer, Path, str | None]] = {}
    for path in engines:
        for provider in providers if providers and path.suffix.lower() == ".onnx" else (None,):
            name = path.name if provider is None else f"{path.name} ({provider})"
            opened[name] = (require_rgb(load(path, device, provider=provider), path), path, provider)
    return opened


def _flops(engines: tuple[Path, ...], batch: int) -> Any:
    """(height, width) -> operations of one evaluation, by the first ONNX file; None where none can be counted."""
    graph = next((path for path in engines if path.suffix.lower() == ".onnx"), None)
    if graph is None:
        return None
    try:
        from ..export.flops import count_flops
        from ..export.onnx_model import read_model
    except ImportError:
        say("note: operations are counted with the package onnx, which is not installed")
        return None
    model, card = read_model(graph)
    multiple = card.multiple_of
    return lambda h, w: count_flops(model, batch, h + -h % multiple, w + -w % multiple)


def _psnr_on(data: Path, options: dict[str, Any]) -> Any:
    """(restorer, quality) -> mean PSNR on the pairs of a folder."""
    with requires_extra("evaluate", "measuring PSNR"):
        from ..evaluation import find_pairs
    from ..images import read_picture
    from ..metrics import psnr

    pairs = [(read_picture(pair.lq).rgb, read_picture(pair.gt).rgb) for pair in find_pairs(data)]

    def measure(restorer: Restorer, quality: str) -> float:
        return float(np.mean([psnr(restorer(lq, quality=quality, **options), gt) for lq, gt in pairs]))

    return measure


def _write(output: Path, report: dict[str, Any], pictures: list[PictureTiming]) -> None:
    from ..files import write_atomically

    with write_atomically(output / "bench.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    written = f"wrote {output / 'bench.json'}"
    if any(timing.psnr is not None for timing in pictures):
        _plot(output / "bench.png", pictures)
        written += " and bench.png"
    click.echo(written)


def _plot(path: Path, pictures: list[PictureTiming]) -> None:
    """PNG: PSNR against the seconds that a picture takes, a line an engine."""
    with requires_extra("export", "plotting"):
        from matplotlib.figure import Figure

    from ..files import write_atomically

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
    size = parse_size(text)
    if 0 in size:
        raise InvalidValueError(f"a picture has at least one pixel, not {text}")
    return size
