"""irsde-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, requires_extra
from ..system.files import write_atomically
from .build import require_plan_name
from .common import (
    DIVERGENCE,
    PATH,
    describe_checkpoint,
    given_options,
    model_options,
    progress,
    require_onnx_name,
    say,
)
from .engines import (
    BUILD_SETTINGS,
    PRECISIONS,
    build,
    build_options,
    in_precision,
    read_build_options,
    read_pictures,
    require_builder,
)
from .whole_loop import LOOP_SETTINGS, LOOP_SUFFIX, loop_of_graph, loop_options, read_loop_options, write_loop

if TYPE_CHECKING:
    from ..core.comparison import Comparison


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the checkpoint's name with .onnx].")
@model_options
@click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 17..20.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of the graph; inputs and outputs stay float32 [default: fp32, with --engine mixed].",
)
@click.option(
    "--psnr-budget",
    type=float,
    metavar="DB",
    help="Search the cheapest set of FP32 nodes with which restored pictures have DB of PSNR against FP32's.",
)
@click.option("--pictures", type=PATH, multiple=True, help="Degraded pictures or folders to measure precision on.")
@click.option("--engine", type=PATH, help="Build this TensorRT plan (.plan) too; the options below are for it.")
@build_options
@click.option(
    "--whole-loop",
    is_flag=True,
    help="Write the whole sampling loop as one graph, lq and noise to restored; CHECKPOINT may be an exported .onnx. "
    "The options below are for it.",
)
@loop_options
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def export(
    checkpoint: Path,
    output: Path | None,
    opset: int,
    precision: str | None,
    psnr_budget: float | None,
    pictures: tuple[Path, ...],
    engine: Path | None,
    overwrite: bool,
    build_settings: dict[str, Any],
    whole_loop: bool,
    loop_settings: dict[str, Any],
    **settings: Any,
) -> None:
    """Export CHECKPOINT (.pt, .pth, .safetensors) to ONNX and prove it equal to PyTorch; --engine builds a plan too.

    With --whole-loop the file is the whole sampling loop. Exit code 3, and no file, where ONNX Runtime disagrees with
    PyTorch, or with the loop.
    """
    _refuse_surplus(engine, whole_loop)
    if whole_loop and checkpoint.suffix.lower() == ".onnx":
        loop_of_graph(checkpoint, output, overwrite, loop_settings)
        return
    output = output or checkpoint.with_suffix(LOOP_SUFFIX if whole_loop else ".onnx")
    require_onnx_name(output, overwrite)
    if engine is not None:
        require_plan_name(engine, overwrite)
    precision = precision or ("mixed" if engine is not None or psnr_budget is not None else "fp32")
    if precision != "mixed" and psnr_budget is not None:
        raise InvalidValueError(f"--psnr-budget searches a mixed precision: leave out --precision {precision}")
    if precision == "fp32" and pictures:
        raise InvalidValueError("--pictures is for measuring fp16 or mixed: add --precision, or leave it out")
    with requires_extra("export", "exporting a checkpoint"):
        from ..export.exporter import export_checkpoint
        from ..graphs.onnx_file import read_model, write_model
        from ..precision.lowering import check_budget
        from ..reports.parity import format_comparison, format_heading
    check_budget(precision, psnr_budget)
    loaded, description = describe_checkpoint(checkpoint, settings)
    loop = read_loop_options(description.card, loop_settings, opset) if whole_loop else None
    measured_on = read_pictures(description.card, pictures)
    options = None if engine is None else read_build_options(description.card, build_settings)
    if options is not None and engine is not None:
        require_builder(options, engine)
    click.echo(f"opset = {opset}")
    comparisons: list[Comparison] = []
    with write_atomically(output) as temporary:
        try:
            with progress(description.card.sde.T, "comparing with PyTorch") as advance:
                complete = export_checkpoint(loaded, description.card, temporary, opset, comparisons.append, advance)
        finally:
            if comparisons:
                click.echo("\n".join([format_heading(), *map(format_comparison, comparisons)]))
        if precision != "fp32":
            lowered = in_precision(*read_model(temporary), precision, measured_on, psnr_budget)
            write_model(lowered.model, lowered.card, temporary)
        if loop is not None:
            write_loop(*read_model(temporary), loop, temporary)
    if not complete:
        say(f"note: {DIVERGENCE}")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
    if engine is not None and options is not None:
        build(*read_model(output), output, engine, options)


def _refuse_surplus(engine: Path | None, whole_loop: bool) -> None:
    """Raise InvalidValueError for options of what is not asked for."""
    if engine is None and (surplus := given_options(BUILD_SETTINGS.__contains__)):
        raise InvalidValueError(f"{', '.join(surplus)}: for a plan: add --engine FILE.plan, or leave it out")
    if not whole_loop and (surplus := given_options(LOOP_SETTINGS.__contains__)):
        raise InvalidValueError(f"{', '.join(surplus)}: for a whole loop: add --whole-loop, or leave it out")
    if whole_loop and engine is not None:
        raise InvalidValueError("--engine builds from the score graph: leave it out, or leave out --whole-loop")
