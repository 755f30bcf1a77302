"""What `export --whole-loop` adds: its options, and writing the graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import option_group

from ..core.sampling import Sampling
from ..errors import InvalidValueError, requires_extra
from ..system.files import require_output, told_of, write_atomically
from .command import Choice
from .common import gathered, given_options, note_uncalibrated
from .output import note, progress, tell
from .sampling import PLAN_OPTIONS, noise_level_option

if TYPE_CHECKING:
    import onnx

    from ..core.card import ModelCard
    from ..core.comparison import Comparison
    from ..graphs.whole_loop import LoopPlan

LOOP_SUFFIX = ".loop.onnx"

_LOOP_OPTIONS = (
    *PLAN_OPTIONS,
    noise_level_option("Noise level of the pictures, 0..255, in place of --t0; denoising models only."),
    click.option(
        "--noise-input",
        type=Choice(["noise", "seed"]),
        default="noise",
        show_default=True,
        help="What the graph takes beside pictures: normal values, or a seed to draw them from (ONNX Runtime only).",
    ),
)
LOOP_SETTINGS = ("sampler", "steps", "quality", "t0", "noise_level", "debias", "clip", "noise_input")
"""Parameters that those options fill."""


loop_options = gathered((option_group("Whole loop", *_LOOP_OPTIONS),), LOOP_SETTINGS, "loop_settings")
"""Options of a whole loop, given to the command as one dict, `loop_settings`, for `read_loop_options`."""


def read_loop_options(card: ModelCard, settings: dict[str, Any], opset: int | None = None) -> LoopPlan:
    """The plan of a model's whole loop from what `loop_options` gave; `opset`: of the graph, where it is known."""
    from ..graphs.whole_loop import plan_loop, require_opset

    noise_input = settings.pop("noise_input")
    plan = plan_loop(card, Sampling(**settings), seeded=noise_input == "seed")
    if opset is not None:
        require_opset(plan, opset)
    if plan.seeded and plan.noise_input is None:
        note("nothing is drawn with these settings, so that the graph has no input for a seed")
    return plan


def write_loop(model: onnx.ModelProto, card: ModelCard, plan: LoopPlan, path: Path) -> None:
    """Write the whole loop of a score graph, with the comparisons that it has passed printed."""
    from ..core.comparison import format_comparison, format_heading
    from ..embedding.whole_loop_file import CASES, export_whole_loop

    second = {"noise": f", noise ({len(plan.draws)}, batch, {card.channels}, height, width)", "seed": ", seed (1)"}
    tell(
        f"whole loop: {plan.sampler}, {len(plan.table)} steps; inputs lq (batch, {card.channels}, height, width)"
        + second.get(plan.noise_input or "", "")
    )
    comparisons: list[Comparison] = []
    try:
        with progress(len(CASES), "comparing with the loop") as advance:

            def keep(comparison: Comparison) -> None:
                comparisons.append(comparison)
                advance(len(comparisons))

            export_whole_loop(model, card, plan, path, keep)
    finally:
        if comparisons:
            tell("\n".join([format_heading("the loop in NumPy"), *map(format_comparison, comparisons)]))


def loop_of_graph(source: Path, output: Path | None, overwrite: bool, settings: dict[str, Any]) -> None:
    """`export derain.onnx --whole-loop`: from a score graph that was exported before; needs no PyTorch."""
    allowed = {*LOOP_SETTINGS, "checkpoint", "output", "overwrite", "whole_loop"}
    if surplus := given_options(lambda name: name not in allowed):
        raise InvalidValueError(f"{', '.join(surplus)}: for checkpoints: {source} is exported already, leave it out")
    output = output or source.with_suffix(LOOP_SUFFIX)
    require_output(output, ".onnx", overwrite)
    if output.resolve() == source.resolve():
        raise InvalidValueError(f"{output}: a whole loop must not replace the graph it is made of: give another name")
    with requires_extra("cpu", "writing a whole loop"):
        from ..graphs.onnx_file import read_model
    model, card = read_model(source)
    plan = read_loop_options(card, settings)
    note_uncalibrated(source, card, plan.table.t)
    with write_atomically(output) as temporary, told_of(source, temporary):
        write_loop(model, card, plan, temporary)
    tell(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
