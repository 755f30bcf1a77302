"""Score network -> ONNX: inputs x, mu (batch, C, height, width) and t (batch), output eps; the model card inside.

A network that does not look at mu (Denoising-SDE) becomes a graph without that input.

The graph holds no padding or cropping and no shape that depends on data. It is traced (`dynamo=False`) and then
folded by onnxscript's optimizer: on these networks tracing gives a graph about as fast as torch.export's in a tenth of
the time, with nodes named after the modules (benchmarks/onnx_exporters.py measures both), and every export is compared
with PyTorch before it is kept.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from onnxscript import optimizer
from torch import nn

from ..core.card import ModelCard
from ..errors import InvalidValueError
from ..graphs.onnx_file import write_model

OPSET = 18
OPSETS = range(17, 21)
PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one ONNX file can hold; a larger model would need external data."""

_DYNAMIC = {0: "batch", 2: "height", 3: "width"}


def write_onnx(model: nn.Module, card: ModelCard, path: Path, opset: int = OPSET) -> None:
    """Write a self-contained ONNX file.

    Args:
        model: (x, mu, t) -> eps, in eval mode, on the CPU.
        card: put into the file's metadata.
        path: of the file, replaced if there.
        opset: version of the ONNX operators, 17..20.

    Raises:
        InvalidValueError: an opset out of range, or a model above 2 GB.
    """
    if opset not in OPSETS:
        raise InvalidValueError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size > PROTOBUF_LIMIT:
        raise InvalidValueError(f"the weights take {size / 1e9:.1f} GB and one ONNX file holds 2 GB at most")
    _trace(model, card, path, opset)
    write_model(optimizer.optimize(onnx.load(path)), card, path)


def _trace(model: nn.Module, card: ModelCard, path: Path, opset: int) -> None:
    side = 2 * card.multiple_of
    x = torch.zeros(2, card.channels, side, side + card.multiple_of)
    inputs = ["x", "mu", "t"] if card.conditional else ["x", "t"]
    sample = {"x": x, "mu": x, "t": torch.ones(2)}
    axes = {"x": _DYNAMIC, "mu": _DYNAMIC, "t": {0: "batch"}, "eps": _DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # see the module's docstring
        torch.onnx.export(
            model if card.conditional else _WithoutMu(model),
            tuple(sample[name] for name in inputs),
            path,
            dynamo=False,
            input_names=inputs,
            output_names=["eps"],
            dynamic_axes={name: axes[name] for name in (*inputs, "eps")},
            opset_version=opset,
        )


class _WithoutMu(nn.Module):
    """A network that does not look at mu, as a function of what it looks at."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        eps: torch.Tensor = self.model(x, x, t)
        return eps
