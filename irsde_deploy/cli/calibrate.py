"""irsde-deploy calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from cloup import option_group

from ..core.sampling import Sampling
from ..errors import InvalidValueError, requires_extra
from .command import Choice, command, takes_engine
from .common import PATH, given_options
from .output import TERMINAL
from .sampling import PLAN_OPTIONS, noise_level_option, sampling_of, seed_option

METHODS = ("minmax", "percentile", "entropy", "mse")
"""The methods of `calibration.ranges`, in words, since that module imports onnx."""

_WITH_MANIFEST = {"engine_argument", "engine_option", "data", "output", "manifest", "cache", "report", "overwrite"}
"""What may be given beside a manifest, which has the rest."""


@command(
    "irsde-deploy calibrate derain.onnx --data rainy/,clean/ -o derain.int8.onnx",
    "irsde-deploy calibrate derain.onnx --data rainy/ --psnr-budget 45",
)
@takes_engine("onnx_file", "ONNX", PATH, "Exported FP32 graph")
@click.option(
    "--data", metavar="LQ[,GT]", help="Folder of degraded pictures, and that of clean ones under the same names."
)
@click.option("-o", "--output", type=PATH, help="ONNX file to write [default: the ONNX file's name with .int8.onnx].")
@click.option("--method", type=Choice(METHODS), default="mse", show_default=True, help="How a range is chosen.")
@sampling_of(
    option_group(
        "Trajectory",
        *PLAN_OPTIONS,
        noise_level_option("Noise level of the pictures, 0..255, in place of --t0; denoising models only."),
        seed_option("Seed of crops and noise."),
    )
)
@click.option("--crop", type=int, default=128, show_default=True, help="Largest side of a state, in pixels.")
@click.option("--states", type=int, help="Number of states [default: doubled until the ranges have converged].")
@click.option("--most-states", type=int, help="Number of states at which doubling ends [default: 2048].")
@click.option("--residuals", is_flag=True, help="Quantise the inputs of residual sums too, which TensorRT can fuse.")
@click.option(
    "--rest",
    type=Choice(["fp32", "fp16"]),
    help="Precision of what stays in floating point [default: fp16 with --psnr-budget, else fp32].",
)
@click.option(
    "--psnr-budget",
    type=float,
    metavar="DB",
    help="Least PSNR of restored pictures against FP32's: the cheapest layers to leave in floating point are searched.",
)
@click.option(
    "--report",
    type=PATH,
    metavar="FOLDER",
    help="Folder for a report of what each layer costs at each timestep; takes long.",
)
@click.option("--manifest", type=PATH, help="Manifest (.json) of an earlier run, to be repeated.")
@click.option(
    "--cache",
    type=PATH,
    metavar="FOLDER",
    help="Folder of range tables, used again where they fit [default: the output's folder].",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def calibrate(
    onnx_file: Path,
    data: str | None,
    output: Path | None,
    report: Path | None,
    manifest: Path | None,
    cache: Path | None,
    overwrite: bool,
    sampling: Sampling,
    **settings: Any,
) -> None:
    """Quantise an exported FP32 graph to INT8, with ranges from states along the sampling trajectory.

    With pairs the states are drawn exactly; without clean pictures they are recorded along FP32 trajectories. Writes
    the graph, and beside it a manifest (.json) that repeats the run, and the table of ranges.
    """
    if manifest is not None and (surplus := given_options(lambda name: name not in _WITH_MANIFEST)):
        raise InvalidValueError(f"{', '.join(surplus)}: the manifest has that already: leave it out")
    with requires_extra("cpu", "calibrating"):
        from ..calibration.calibrate import calibrate_graph
        from ..calibration.options import CalibrationOptions
    options = CalibrationOptions(sampling, **settings) if manifest is None else None
    calibrate_graph(
        onnx_file,
        data,
        output,
        options,
        manifest=manifest,
        cache=cache,
        report=report,
        overwrite=overwrite,
        listener=TERMINAL,
    )
