"""irsde-deploy bench."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.presets import PRESETS
from ..errors import InvalidValueError, OutputFileError, requires_extra
from ..runtimes.tensorrt.profiles import parse_size
from ..system.listener import Listener
from .command import Choice, command
from .common import PATH, PROVIDERS, require_rgb
from .output import note, progress, show, tell
from .sampling import opened

if TYPE_CHECKING:
    from ..pictures.pairs import Pair
    from ..reports.timing import Contestant


@command(
    "irsde-deploy bench derain.onnx",
    "irsde-deploy bench derain.onnx derain.int8.onnx --engine-provider onnxruntime --engine-provider openvino",
)
@click.argument("engines", nargs=-1, type=PATH, metavar="ENGINES...")
@click.option("--engine", "named", multiple=True, type=PATH, help="Engine, in place of ENGINES; repeatable.")
@click.option("--size", "sizes", multiple=True, metavar="HxW", help="Size of the pictures [default: 256x256].")
@click.option("--batch", type=click.IntRange(1, 64), default=1, show_default=True, help="Pictures an evaluation.")
@click.option(
    "--engine-provider",
    "providers",
    multiple=True,
    type=Choice(PROVIDERS),
    help="What runs each .onnx; repeat to compare [default: onnxruntime].",
)
@click.option("--device", type=Choice(["cpu", "cuda"]), help="Where engines run [default: cuda for plans, else cpu].")
@click.option(
    "--quality",
    "qualities",
    multiple=True,
    type=Choice(list(PRESETS)),
    help="Presets that whole pictures are restored by; repeat for more [default: all].",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=7,
    show_default=True,
    help="Measurements of each engine, in turns.",
)
@click.option("--data", type=PATH, help="Folder with LQ and GT: measures PSNR beside time.")
@click.option("-o", "--output", type=PATH, help="Folder for bench.json and bench.png.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
def bench(
    engines: tuple[Path, ...],
    named: tuple[Path, ...],
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
    from ..reports.bench import run, write_reports

    if not engines + named:
        raise click.UsageError("no engine is given: name some, or give --engine FILE", click.get_current_context())
    if output is not None:
        _require_output(output, overwrite)
    pairs = [] if data is None else _pairs(data)
    wanted = list(dict.fromkeys(map(_size, sizes))) or [(256, 256)]
    chosen = list(dict.fromkeys(qualities)) or list(PRESETS)
    benchmark = run(_open(engines + named, providers, device), wanted, batch, repeats, chosen, pairs, _TABLES)
    if output is not None:
        first, *others = write_reports(benchmark, output)
        tell(" and ".join([f"wrote {first}", *(path.name for path in others)]))


_TABLES = Listener(show, note, progress)
"""Prints the tables with -q, too: they are what is asked for."""


def _require_output(output: Path, overwrite: bool) -> None:
    from ..system.files import require_writable

    if output.exists() and not output.is_dir():
        raise OutputFileError(f"{output}: is a file, and a report goes into a folder: give another name with -o")
    if (output / "bench.json").exists() and not overwrite:
        raise OutputFileError(f"{output}: holds a report already: pass --overwrite to replace it")
    require_writable(output / "bench.json")


def _open(engines: tuple[Path, ...], providers: tuple[str, ...], device: str | None) -> list[Contestant]:
    """Every engine; .onnx files once a provider. Files of one name are told apart by their folders."""
    from ..reports.timing import Contestant
    from ..restorer import load

    paths = list(dict.fromkeys(engines))
    names = Counter(path.name for path in paths)
    contestants = []
    for path in paths:
        shown = path.name if names[path.name] == 1 else str(path)
        for provider in _providers(path, providers):
            name = shown if provider is None else f"{shown} ({provider})"
            restorer = opened(require_rgb(load(path, device, provider=provider), path))
            contestants.append(Contestant(name, restorer, path, provider, device, _operations(path)))
    return contestants


def _providers(path: Path, wanted: tuple[str, ...]) -> list[str | None]:
    """What runs an engine, once each; None for what is the default, as with plans, which bring their own."""
    if not wanted or path.suffix.lower() != ".onnx":
        return [None]
    return list(dict.fromkeys(wanted))


def _operations(path: Path) -> Callable[[int, int, int], int] | None:
    """(batch, height, width) -> operations of one evaluation; None where they cannot be counted."""
    if path.suffix.lower() != ".onnx":
        return None
    try:
        from ..graphs.flops import counter
        from ..graphs.onnx_file import read_model
    except ImportError:
        note("operations are counted with the package onnx, which is not installed")
        return None
    model, card = read_model(path)
    return counter(model, card.multiple_of, card.margin)


def _pairs(data: Path) -> list[Pair]:
    with requires_extra("evaluate", "measuring PSNR"):
        from ..pictures.pairs import find_pairs
    return find_pairs(data)


def _size(text: str) -> tuple[int, int]:
    from ..pictures.files import MAX_PIXELS

    size = parse_size(text)
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise InvalidValueError(f"a picture has 1 to {MAX_PIXELS} pixels, not {text}")
    return size
