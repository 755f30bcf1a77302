"""irsde-deploy export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import refuse, requires_extra
from ..export.export_settings import PRECISIONS, ExportSettings, PlanOrder
from ..system.files import require_output
from .command import Choice, command
from .common import PATH, given_options, model_options, read_sources
from .engines import BUILD_SETTINGS, build_aloud, build_options, read_build_options
from .output import TERMINAL
from .whole_loop import LOOP_SETTINGS, LOOP_SUFFIX, loop_of_graph, loop_options, read_loop_options, write_loop

if TYPE_CHECKING:
    import onnx

    from ..core.card import ModelCard
    from ..export.export_settings import Rewriter


@command(
    "irsde-deploy export ckpt.pth --opt options/test/ir-sde.yml -o derain.onnx",
    "irsde-deploy export runs/derain/best.pt --whole-loop --quality balanced -o derain.loop.onnx",
)
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the checkpoint's name with .onnx].")
@model_options
@click.option("--opset", type=int, default=18, show_default=True, help="Version of the ONNX operators, 17 to 20.")
@click.option(
    "--precision",
    type=Choice(PRECISIONS),
    help="Precision of the graph; inputs and outputs stay float32 [default: fp32, with --engine mixed].",
)
@click.option(
    "--psnr-budget",
    type=float,
    metavar="DB",
    help="Least PSNR of restored pictures against FP32's: the cheapest set of nodes to keep in FP32 is searched.",
)
@click.option(
    "--pictures",
    type=PATH,
    multiple=True,
    help="Degraded picture, or folder of them, to measure the precision on; repeatable [default: a synthetic one].",
)
@click.option(
    "--engine", type=PATH, help="TensorRT plan (.plan) to build too; the options under 'TensorRT plan' are for it."
)
@build_options
@click.option(
    "--whole-loop",
    is_flag=True,
    help="Write the whole sampling loop as one graph, lq and noise to restored; CHECKPOINT may be an exported .onnx. "
    "The options under 'Whole loop' are for it.",
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
    model: dict[str, Any],
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
    require_output(output, ".onnx", overwrite)  # as `export_files` does, but before PyTorch is imported
    plan = _plan_order(engine, overwrite, build_settings)
    if precision is None:
        precision = "fp32" if engine is None and psnr_budget is None else "mixed"
    exported = ExportSettings(opset, precision, psnr_budget, pictures)
    with requires_extra("export", "exporting a checkpoint"):
        from ..export.exporter import export_files
    rewriter_for = partial(_loop_writer, settings=loop_settings, opset=opset) if whole_loop else None
    export_files(
        checkpoint,
        output,
        read_sources(model),
        exported,
        plan,
        rewriter_for,
        overwrite=overwrite,
        listener=TERMINAL,
    )


def _plan_order(plan: Path | None, overwrite: bool, settings: dict[str, Any]) -> PlanOrder | None:
    if plan is None:
        return None
    require_output(plan, ".plan", overwrite, "a plan's name")
    return PlanOrder(plan, partial(read_build_options, settings=settings), build_aloud)


def _loop_writer(card: ModelCard, settings: dict[str, Any], opset: int) -> Rewriter:
    """What writes the whole loop of a graph; raises where the settings do not fit the model."""
    plan = read_loop_options(card, settings, opset)

    def write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
        write_loop(model, card, plan, path)

    return write


def _refuse_surplus(engine: Path | None, whole_loop: bool) -> None:
    """Raise InvalidValueError for options of what is not asked for."""
    of_plans = ", ".join(given_options(BUILD_SETTINGS.__contains__))
    of_loops = ", ".join(given_options(LOOP_SETTINGS.__contains__))
    planned = engine is not None
    refuse(
        [
            (bool(of_plans) and not planned, f"{of_plans}: for a plan: add --engine FILE.plan, or leave it out"),
            (bool(of_loops) and not whole_loop, f"{of_loops}: for a whole loop: add --whole-loop, or leave it out"),
            (planned and whole_loop, "--engine builds from the score graph: leave it out, or leave out --whole-loop"),
        ]
    )
