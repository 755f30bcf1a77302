"""What an export is asked for, checked before anything is read; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import refuse
from ..runtimes.tensorrt.options import BuildOptions
from ..system.parsing import shown

if TYPE_CHECKING:
    import onnx

    from ..core.card import ModelCard
    from ..runtimes.tensorrt.rebuild import Build

PRECISIONS = ("fp32", "fp16", "mixed")
"""The precisions that a graph can be written in; INT8 takes a calibration."""

Rewriter: TypeAlias = "Callable[[onnx.ModelProto, ModelCard, Path], None]"
"""Writes what it makes of a score graph and its card to a path."""


@dataclass(frozen=True)
class ExportSettings:
    """How a checkpoint becomes a graph.

    Attributes:
        opset: of ONNX, 17 to 20.
        precision: one of `PRECISIONS`; inputs and outputs stay float32.
        psnr_budget: search the cheapest set of FP32 nodes with which restored pictures have so many dB of PSNR against
            FP32's; for the precision mixed.
        pictures: degraded pictures, or folders of them, that the precision is measured on; a synthetic one by default.

    Raises:
        InvalidValueError: settings that do not go together.
    """

    opset: int = 18
    precision: str = "fp32"
    psnr_budget: float | None = None
    pictures: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        searching, measuring = self.psnr_budget is not None, bool(self.pictures)
        refuse(
            [
                (
                    self.precision not in PRECISIONS,
                    f"a graph's precision must be one of {', '.join(PRECISIONS)}, not {shown(self.precision)}",
                ),
                (
                    searching and self.precision != "mixed",
                    f"`psnr_budget` searches a mixed precision: leave out `precision` {self.precision}",
                ),
                (
                    measuring and self.precision == "fp32",
                    "`pictures` is for measuring fp16 or mixed: add `precision`, or leave it out",
                ),
            ]
        )


@dataclass(frozen=True)
class PlanOrder:
    """A TensorRT plan to be built from the exported graph.

    Attributes:
        path: of the plan.
        options: the model's card -> how to build, since sizes must fit the network.
        build: what builds it; `builder.build_plan` by default.
    """

    path: Path
    options: Callable[[ModelCard], BuildOptions]
    build: Build | None = None

    def checked_options(self, card: ModelCard) -> BuildOptions:
        """How to build, if that is possible here.

        Raises:
            OutputFileError: the plan cannot be written. MissingPackageError: TensorRT, or the GPU that it needs.
        """
        from ..runtimes.tensorrt.builder import require_buildable

        options = self.options(card)
        require_buildable(options, self.path)
        return options
