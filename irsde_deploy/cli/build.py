"""irsde-deploy build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import requires_extra
from ..export.export_settings import PRECISIONS
from ..system.files import require_output
from .command import Choice, command, takes_engine
from .common import PATH
from .engines import build_aloud, build_options, read_build_options
from .output import TERMINAL


@command(
    "irsde-deploy build derain.onnx -o derain.plan --max-size 1088x1920",
    "irsde-deploy build derain.onnx --backend tensorrt-rtx --opt 512x768 --max 1088x1920",
)
@takes_engine("onnx_file", "ONNX", PATH, "Exported graph")
@click.option("-o", "--output", type=PATH, help="Plan to write [default: the ONNX file's name with .plan].")
@click.option(
    "--precision",
    type=Choice((*PRECISIONS, "int8")),
    help="Precision of the plan [default: mixed for an FP32 graph, else the graph's].",
)
@build_options
@click.option("--opt", "opt_short", multiple=True, metavar="HxW", help="Same as --opt-size.")
@click.option("--overwrite", is_flag=True, help="Replace an existing plan.")
def build(
    onnx_file: Path,
    output: Path | None,
    precision: str | None,
    opt_short: tuple[str, ...],
    overwrite: bool,
    build_settings: dict[str, Any],
) -> None:
    """Build a TensorRT plan from an exported ONNX file.

    TensorRT builds on the GPU that the plan is for; TensorRT-RTX (--backend tensorrt-rtx) on any machine.
    """
    output = output or onnx_file.with_suffix(".plan")
    require_output(output, ".plan", overwrite, "a plan's name")
    with requires_extra("gpu", "building a plan"):
        from ..graphs.onnx_file import read_model
        from ..precision.lowering import for_plan
        from ..runtimes.tensorrt.builder import require_buildable
    model, card = read_model(onnx_file)
    build_settings["opt_sizes"] += opt_short
    options = read_build_options(card, build_settings)
    require_buildable(options, output)
    model, card = for_plan(model, card, precision, onnx_file, TERMINAL)
    build_aloud(model, card, onnx_file, output, options)
