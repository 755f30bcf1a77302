"""irsde-deploy build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InvalidValueError, requires_extra
from .common import PATH, require_new
from .engines import PRECISIONS, build_options, in_precision, read_build_options, require_builder
from .engines import build as build_plan


@click.command()
@click.argument("onnx_file", metavar="ONNX", type=PATH)
@click.option("-o", "--output", type=PATH, help="Plan to write [default: the ONNX file's name with .plan].")
@click.option(
    "--precision",
    type=click.Choice((*PRECISIONS, "int8")),
    help="Of the plan [default: mixed for an FP32 graph, else the graph's].",
)
@build_options
@click.option("--opt", "opt_short", multiple=True, metavar="HxW", help="Short for --opt-size.")
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
    require_plan_name(output, overwrite)
    with requires_extra("gpu", "building a plan"):
        from ..graphs.onnx_file import read_model
    model, card = read_model(onnx_file)
    build_settings["opt_sizes"] += opt_short
    options = read_build_options(card, build_settings)
    require_builder(options, output)
    if card.precision == "fp32":
        if precision == "int8":
            raise InvalidValueError(f"{onnx_file} is fp32: make it int8 first, with 'irsde-deploy calibrate'")
        precision = precision or "mixed"
        if precision != "fp32":
            lowered = in_precision(model, card, precision)
            model, card = lowered.model, lowered.card
    elif precision not in (None, card.precision):
        raise InvalidValueError(
            f"{onnx_file} is {card.precision} and cannot become {precision}: give the fp32 file that it was made from"
        )
    build_plan(model, card, onnx_file, output, options)


def require_plan_name(path: Path, overwrite: bool) -> None:
    """Raise unless a plan may be written there."""
    if path.suffix.lower() != ".plan":
        raise InvalidValueError(f"{path}: a plan's name must end in .plan")
    require_new(path, overwrite)
