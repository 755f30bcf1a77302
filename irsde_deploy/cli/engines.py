"""What `export` and `build` share: precision, the options of a TensorRT build, and building with the time shown."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..runtimes.tensorrt.options import BACKENDS, BuildOptions
from .command import Choice
from .common import gathered
from .output import TERMINAL, status, tell

if TYPE_CHECKING:
    import onnx

    from ..core.card import ModelCard

_BUILD_OPTIONS = (
    click.option(
        "--backend",
        type=Choice(list(BACKENDS)),
        default="tensorrt",
        show_default=True,
        help="Library that builds and runs the plan.",
    ),
    click.option(
        "--min-size",
        "--min",
        "min_sizes",
        multiple=True,
        metavar="HxW",
        help="Smallest picture of a profile; repeat the three sizes for several profiles.",
    ),
    click.option("--opt-size", "opt_sizes", multiple=True, metavar="HxW", help="Picture that kernels are chosen for."),
    click.option(
        "--max-size", "--max", "max_sizes", multiple=True, metavar="HxW", help="Largest picture of a profile."
    ),
    click.option(
        "--batch", "batches", multiple=True, metavar="MIN:OPT:MAX", help="Batch sizes of a profile [default: 1:1:1]."
    ),
    click.option(
        "--minShapes", "min_shapes", multiple=True, metavar="x:1x3xHxW", help="Smallest shape, written as for trtexec."
    ),
    click.option(
        "--optShapes", "opt_shapes", multiple=True, metavar="x:1x3xHxW", help="Usual shape, written as for trtexec."
    ),
    click.option(
        "--maxShapes", "max_shapes", multiple=True, metavar="x:1x3xHxW", help="Largest shape, written as for trtexec."
    ),
    click.option(
        "--workspace",
        type=int,
        metavar="MIB",
        help="Most scratch memory that kernels may use [default: TensorRT's choice].",
    ),
    click.option(
        "--opt-level",
        "optimization_level",
        type=int,
        help="Effort of the builder, 0 (fast build) to 5 (fast plan) [default: TensorRT's, 3].",
    ),
    click.option(
        "--hardware-compatible", is_flag=True, help="Make a plan that later GPU generations run too (TensorRT)."
    ),
    click.option(
        "--version-compatible",
        is_flag=True,
        help="Make a plan that later versions of the same major one run too (TensorRT).",
    ),
    click.option(
        "--compute-capability",
        "compute_capabilities",
        multiple=True,
        metavar="X.Y",
        help="Compute capability of a GPU to build for, or 'current'; repeatable (tensorrt-rtx) "
        "[default: 8.0 and later].",
    ),
    click.option("--tf32", is_flag=True, help="Let FP32 convolutions use TF32 tensor cores (10-bit mantissa)."),
    click.option(
        "--timing-cache/--no-timing-cache",
        default=True,
        help="Keep kernel timings beside the plan for the next build [default: keep].",
    ),
)
BUILD_SETTINGS = (
    *(f"{end}_{kind}" for kind in ("sizes", "shapes") for end in ("min", "opt", "max")),
    "batches",
    *(field.name for field in dataclasses.fields(BuildOptions) if field.name != "profiles"),
)
"""Parameters that those options fill."""


def build_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a TensorRT build, given to the command as one dict, `build_settings`, for `read_build_options`.

    `--opt` for `--opt-size` is added by the command that has no options file of that name.
    """
    return gathered((option_group("TensorRT plan", *_BUILD_OPTIONS),), BUILD_SETTINGS, "build_settings")(command)


def read_build_options(card: ModelCard, settings: dict[str, Any]) -> BuildOptions:
    """BuildOptions for a model from what `build_options` gave."""
    from ..runtimes.tensorrt.profiles import parse_profiles

    rest = dict(settings)
    sizes, shapes = (
        (rest.pop(f"min_{kind}"), rest.pop(f"opt_{kind}"), rest.pop(f"max_{kind}")) for kind in ("sizes", "shapes")
    )
    profiles = parse_profiles(sizes, rest.pop("batches"), shapes, card.channels, card.multiple_of, card.margin)
    return BuildOptions(profiles=profiles, **rest)


def rebuild_where_unfit(plan: Path) -> None:
    """Build a plan again if it cannot run on this machine's GPU; says why.

    Raises:
        MissingPackageError: there is no GPU to run it on.
    """
    from ..runtimes.tensorrt.rebuild import rebuild_where_unfit as rebuild_plan

    rebuild_plan(plan, _lower, build_aloud, TERMINAL)


def _lower(model: onnx.ModelProto, card: ModelCard, precision: str, source: Path) -> tuple[onnx.ModelProto, ModelCard]:
    from ..precision.lowering import for_plan  # imports onnx: only where something is built again

    return for_plan(model, card, precision, source, TERMINAL)


def build_aloud(model: onnx.ModelProto, card: ModelCard, source: Path, plan: Path, options: BuildOptions) -> None:
    """Build a plan, with the elapsed time on a terminal, and print what was built."""
    from ..runtimes.tensorrt.builder import build_plan

    for profile in options.profiles:
        tell(f"profile: {profile} (batch x height x width)")
    started = time.monotonic()
    with status(f"building with {options.backend}") as update:

        def show(seconds: float, phase: str) -> None:
            update(f"{seconds:.0f} s  {phase[:60]}")  # nobody knows how long a build takes

        plan_card = build_plan(model, card, source, plan, options, show)
    tell(
        f"wrote {plan} ({plan.stat().st_size / 1e6:.1f} MB, {card.precision}) in {time.monotonic() - started:.1f} s by "
        f"{options.backend} {plan_card.version}; runs on {plan_card.needs}"
    )
