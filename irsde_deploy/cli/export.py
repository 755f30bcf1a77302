"""irsde-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidValueError, OutputFileError, requires_extra
from .common import DIVERGENCE, PATH, describe_checkpoint, model_options, progress, say

if TYPE_CHECKING:
    from ..export.parity import Comparison


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the checkpoint's name with .onnx].")
@model_options
@click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 17..20.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def export(checkpoint: Path, output: Path | None, opset: int, overwrite: bool, **settings: Any) -> None:
    """Export CHECKPOINT (.pt, .pth, .safetensors) to ONNX and prove it equal to PyTorch.

    Exit code 3, and no file, where ONNX Runtime and PyTorch disagree.
    """
    output = output or checkpoint.with_suffix(".onnx")
    if output.suffix.lower() != ".onnx":
        raise InvalidValueError(f"{output}: the output must end in .onnx")
    if output.exists() and not overwrite:
        raise OutputFileError(f"{output}: exists already: pass --overwrite to replace it")
    with requires_extra("export", "exporting a checkpoint"):
        from ..export.exporter import export_checkpoint
        from ..export.report import format_comparison, format_heading
    loaded, description = describe_checkpoint(checkpoint, settings)
    click.echo(f"opset = {opset}")
    comparisons: list[Comparison] = []
    try:
        with progress(description.card.sde.T, "comparing with PyTorch") as advance:
            complete = export_checkpoint(loaded, description.card, output, opset, comparisons.append, advance)
    finally:
        if comparisons:
            click.echo("\n".join([format_heading(), *map(format_comparison, comparisons)]))
    if not complete:
        say(f"note: {DIVERGENCE}")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
