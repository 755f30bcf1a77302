"""An FP32 graph in the precision that was asked for, with what that costs, measured on whole trajectories."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.example import example_picture
from ..errors import InvalidValueError, MissingPackageError, NotFiniteError, refuse
from ..graphs.onnx_file import set_metadata
from ..system.listener import SILENT, Listener
from .casts import lower
from .nodes import Group, groups, kept_nodes
from .search import SearchResult, cheapest_set, operation_costs
from .trajectory import TrajectoryQuality

KEPT_KEY = "irsde_fp32_nodes"
"""Metadata property of a lowered graph: JSON list of the nodes that were kept in FP32."""


@dataclass(frozen=True)
class Lowered:
    """A graph and what was done to it.

    Attributes:
        model: the graph, its kept nodes in its metadata.
        card: with the new precision.
        kept: names of the nodes that stay in FP32; total: number of those that could be lowered.
        psnr: dB of the restored pictures against the FP32 graph's, the worst of them; emulated on the CPU. None where
            that could not be measured; `unmeasured` says why.
        case: what was restored, in words.
        trials: trajectories that the search took; 0 without one.
    """

    model: onnx.ModelProto
    card: ModelCard
    kept: tuple[str, ...]
    total: int
    psnr: float | None
    case: str
    trials: int = 0
    unmeasured: str = ""

    @property
    def summary(self) -> str:
        """One line for people."""
        kept = f"{self.card.precision}: {len(self.kept)} of {self.total} nodes stay in FP32"
        if self.trials:
            kept += f" (found in {self.trials} trials)"
        if self.psnr is None:
            return f"{kept}; what that costs was not measured: {self.unmeasured}"
        cost = f"restored pictures have {self.psnr:.1f} dB against FP32's (FP16 emulated on the CPU; {self.case})"
        return f"{kept}; {cost}"


def lower_model(
    model: onnx.ModelProto,
    card: ModelCard,
    precision: str,
    pictures: Sequence[Float32] = (),
    psnr_budget: float | None = None,
    on_trial: Callable[[int, int], None] | None = None,
) -> Lowered:
    """Lower an FP32 graph.

    Args:
        model, card: of the FP32 graph.
        precision: `fp16` or `mixed`.
        pictures: degraded ones, each (1, C, H, W), to measure and search on; a small synthetic one by default.
        psnr_budget: for `mixed`: search the cheapest set of FP32 nodes that keeps the restored pictures within so many
            dB of FP32's, in place of the set that `precision.nodes.KEPT_KINDS` lists.
        on_trial: called with the trials done, and about how many there will be.

    Raises:
        InvalidValueError: a graph that is not FP32, or settings that do not go together.
    """
    check_budget(precision, psnr_budget)
    blind = card.sde.kind == "denoising"  # starts where the picture's noise is: here at the highest that it knows
    table = card.plan(t0=card.sde.T if blind else None).table
    quality, unmeasured = None, ""
    try:
        quality = TrajectoryQuality.of(model, card, pictures or [_example(card)], table)
    except (NotFiniteError, MissingPackageError) as error:  # weights that were never trained; no ONNX Runtime here
        if psnr_budget is not None:
            raise
        unmeasured = str(error)
    total = sum(len(group.nodes) for group in groups(model))
    if quality is not None and psnr_budget is not None:
        kept, trials = _searched(quality, psnr_budget, on_trial)
    else:
        kept, trials = tuple(sorted(kept_nodes(model, precision))), 0
    lowered = lower(model, kept)
    set_metadata(lowered, KEPT_KEY, json.dumps(kept))
    psnr = None
    if quality is not None:
        psnr = quality(frozenset(kept))
    case = f"{_in_words(pictures)}, {len(table)} steps of {card.sampler}"
    return Lowered(lowered, replace(card, precision=precision), kept, total, psnr, case, trials, unmeasured)


def _searched(
    quality: TrajectoryQuality, budget: float, on_trial: Callable[[int, int], None] | None
) -> tuple[tuple[str, ...], int]:
    """The nodes that the search keeps, in the graph's order of their modules, and how many trials it took."""
    result, found = search_precision(quality, budget, on_trial)
    kept: list[str] = []
    for group in found:
        kept += group.nodes
    return tuple(kept), result.trials


def _in_words(pictures: Sequence[Float32]) -> str:
    if not pictures:
        return "1 synthetic picture"
    return "1 given picture" if len(pictures) == 1 else f"{len(pictures)} given pictures"


def lower_aloud(
    model: onnx.ModelProto,
    card: ModelCard,
    precision: str,
    pictures: Sequence[Float32] = (),
    psnr_budget: float | None = None,
    listener: Listener = SILENT,
) -> Lowered:
    """`lower_model`, telling how far the search is, what was kept in FP32 and what that costs."""
    with listener.trials(f"measuring {precision}") as on_trial:
        lowered = lower_model(model, card, precision, pictures, psnr_budget, on_trial)
    listener.line(lowered.summary)
    if psnr_budget is not None:
        listener.line("kept in FP32:")
        for name in lowered.kept:
            listener.line(f"  {name}")
    return lowered


def for_plan(
    model: onnx.ModelProto, card: ModelCard, precision: str | None, source: Path, listener: Listener = SILENT
) -> tuple[onnx.ModelProto, ModelCard]:
    """A graph in the precision that a TensorRT plan is built in, and its card.

    Args:
        model, card: of an exported graph.
        precision: by default mixed for an FP32 graph, and otherwise the graph's own.
        source: the graph's file, for messages.
        listener: is told what stays in FP32 and what that costs.

    Raises:
        InvalidValueError: the graph cannot come into that precision.
    """
    own = card.precision
    wanted = precision or ("mixed" if own == "fp32" else own)
    if wanted == own:
        return model, card
    refuse(
        [
            (
                own != "fp32",
                f"{source} is {own} and cannot become {wanted}: give the fp32 file that it was made from",
            ),
            (wanted == "int8", f"{source} is fp32: make it int8 first, with 'irsde-deploy calibrate'"),
        ]
    )
    lowered = lower_aloud(model, card, wanted, listener=listener)
    return lowered.model, lowered.card


def check_budget(precision: str, psnr_budget: float | None) -> None:
    """Raise InvalidValueError unless a PSNR budget goes with the precision, and is one."""
    if psnr_budget is not None and (precision != "mixed" or not 0 < psnr_budget <= 200):
        raise InvalidValueError(
            f"a PSNR budget is for the precision mixed, and above 0 up to 200 dB, not {psnr_budget:g} for {precision}"
        )


def search_precision(
    quality: TrajectoryQuality, budget: float, on_trial: Callable[[int, int], None] | None = None
) -> tuple[SearchResult, list[Group]]:
    """`cheapest_set` over the modules of a graph: the result, and the groups of nodes that it keeps."""
    by_name = {f"{group.name} ({group.kind})": group for group in groups(quality.model)}
    costs = operation_costs(quality.model, {name: group.nodes for name, group in by_name.items()})

    def of_modules(names: frozenset[str]) -> float:
        nodes: set[str] = set()
        for name in names:
            nodes.update(by_name[name].nodes)
        return quality(frozenset(nodes))

    result = cheapest_set(costs, of_modules, budget, on_trial)
    return result, [by_name[name] for name in result.kept]


def _example(card: ModelCard) -> Float32:
    """A degraded picture to measure on, of 64 by 96 pixels or more where a network needs more."""
    side = 4 * card.multiple_of
    return example_picture(card, 1, max(64, side), max(96, side))
