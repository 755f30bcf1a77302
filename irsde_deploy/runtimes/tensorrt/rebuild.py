"""A plan built again for this machine, from the ONNX file that it was built from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ...core.card import ModelCard
from ...errors import EngineError, requires_extra
from ...system.listener import SILENT, Listener
from ..device.drivers.probe import first_device, require_device
from .options import BuildOptions
from .plan_card import read_plan_card

if TYPE_CHECKING:
    import onnx

Lower: TypeAlias = "Callable[[onnx.ModelProto, ModelCard, str, Path], tuple[onnx.ModelProto, ModelCard]]"
"""A graph, its card, the precision that is wanted, and the graph's file -> graph and card in that precision;
`precision.lowering.for_plan` is one."""

Build: TypeAlias = "Callable[[onnx.ModelProto, ModelCard, Path, Path, BuildOptions], object]"
"""Builds a plan as `builder.build_plan` does: of a graph, its card and its file, at a path, with options."""


def rebuild_where_unfit(plan: Path, lower: Lower, build: Build | None = None, listener: Listener = SILENT) -> bool:
    """Build a plan again if it cannot run on this machine's GPU, and say why.

    Args:
        plan: replaced where it does not fit.
        lower: brings the ONNX file's graph into the plan's precision.
        build: what builds the plan; `builder.build_plan` by default.
        listener: is told the reasons, as a note.

    Returns:
        Whether it was built again.

    Raises:
        MissingPackageError: there is no GPU to run it on. EngineError: as `rebuild`.
    """
    from .engine import unfit

    reasons = unfit(read_plan_card(plan), plan)
    if not reasons:
        return False
    require_device(str(plan))
    listener.note(f"{plan} is built again: {'; '.join(reasons)}")
    rebuild(plan, lower, build)
    return True


def rebuild(plan: Path, lower: Lower, build: Build | None = None) -> None:
    """Build a plan again for this machine, as its card says, from the ONNX file that it was built from.

    Args:
        plan: replaced when the new one is complete.
        lower: brings the ONNX file's graph into the plan's precision.
        build: what builds the plan; `builder.build_plan` by default.

    Raises:
        EngineError: the ONNX file is not there. InvalidValueError: it cannot come into the plan's precision.
        MissingPackageError: a package, or the GPU that the build needs, is not there.
    """
    from .builder import build_plan, require_buildable

    card = read_plan_card(plan)
    source = card.source(plan)
    options = card.rebuild_options(first_device())
    if not source.is_file():
        raise EngineError(f"{plan}: to rebuild it, {source} must be there, which it was built from")
    with requires_extra("gpu", "building a plan"):
        from ...graphs.onnx_file import read_model
    require_buildable(options, plan)
    model, own = read_model(source)
    model, own = lower(model, own, card.model.precision, source)
    (build or build_plan)(model, own, source, plan, options)
