"""A score network written as ONNX: inputs x, mu (batch, C, height, width) and t (batch), output eps; its card inside.

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
"""The version of the ONNX operators that is written unless another is asked for."""

OPSETS = range(17, 21)
"""The versions that can be written: PyTorch's tracer knows none after 20."""

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one ONNX file can hold; a larger model would need external data."""

_DYNAMIC = {0: "batch", 2: "height", 3: "width"}


def write_onnx(model: nn.Module, card: ModelCard, path: Path, opset: int = OPSET) -> None:
    """Write a self-contained ONNX file.

    Args:
        model: the network, a function of x, mu and t that returns eps; in eval mode, on the CPU.
        card: its card, which becomes the file's metadata.
        path: the file, which is replaced if it is there.
        opset: the version of the ONNX operators, 17..20.

    Raises:
        InvalidValueError: an opset out of range, or a model above 2 GB.
    """
    if opset not in OPSETS:
        raise InvalidValueError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    size = sum(parameter.numel() * 4 for parameter in model.parameters())  # float32
    if size > PROTOBUF_LIMIT:
        raise InvalidValueError(f"the weights take {size / 1e9:.1f} GB and one ONNX file holds 2 GB at most")
    _trace(model, card, path, opset)
    write_model(optimizer.optimize(onnx.load(path)), card, path)


def _trace(model: nn.Module, card: ModelCard, path: Path, opset: int) -> None:
    """Let PyTorch trace the network on a small input and write what it did."""
    side = 2 * card.multiple_of
    # Neither a batch of 1 nor a square, so that no axis can pass for another or for one that is always 1.
    x = torch.zeros(2, card.channels, side, side + card.multiple_of)
    sample: dict[str, torch.Tensor] = {"x": x, "mu": x, "t": torch.ones(2)}
    axes = {"x": _DYNAMIC, "mu": _DYNAMIC, "t": {0: "batch"}, "eps": _DYNAMIC}
    if not card.conditional:
        model = _WithoutMu(model)
        del sample["mu"], axes["mu"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the module's docstring says why not the newer exporter
        torch.onnx.export(
            model,
            tuple(sample.values()),
            path,
            dynamo=False,
            input_names=list(sample),
            output_names=["eps"],
            dynamic_axes=axes,
            opset_version=opset,
        )


class _WithoutMu(nn.Module):
    """A network that does not look at mu, as a function of x and t alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        eps: torch.Tensor = self.model(x, x, t)  # anything of the right shape will do for mu
        return eps
