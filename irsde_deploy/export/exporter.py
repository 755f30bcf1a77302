"""Checkpoint -> proven ONNX file: build the network, write the graph, compare with PyTorch, and only then keep it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.card import ModelCard
from ..core.comparison import Comparison
from ..networks.checkpoints import Checkpoint, naming
from ..networks.detection import build_network
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.engines.torch_engine import TorchEngine
from ..system.files import write_atomically
from .parity import compare_evaluations, compare_trajectories, require
from .to_onnx import OPSET, write_onnx


def export_checkpoint(
    checkpoint: Checkpoint,
    card: ModelCard,
    path: Path,
    opset: int = OPSET,
    on_comparison: Callable[[Comparison], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> bool:
    """Write `path`, an ONNX file that has been proven equal to PyTorch.

    Args:
        checkpoint: weights.
        card: from `describe`.
        path: of the ONNX file; replaced if there, untouched when anything fails.
        opset: of the graph.
        on_comparison: called with each comparison as it is made, passed or not.
        on_step: called with the number of steps done in the compared trajectory.

    Returns:
        Whether the compared trajectory was complete; weights that were never trained can make PyTorch's own diverge.

    Raises:
        CheckpointError: the weights do not fit the network.
        ParityError: ONNX Runtime and PyTorch disagree; no file is left behind.
        OutputFileError: the file cannot be written.
    """
    with naming(checkpoint.path):
        model = build_network(card.network, card.settings, checkpoint.weights)
    with write_atomically(path) as temporary:
        write_onnx(model, card, temporary, opset)
        engine, reference = OnnxEngine.open(temporary), TorchEngine(model, card)
        comparisons: list[Comparison] = []
        for comparison in compare_evaluations(engine, reference):
            comparisons.append(comparison)
            if on_comparison is not None:
                on_comparison(comparison)
        trajectory = compare_trajectories(engine, reference, on_step=on_step)
        if on_comparison is not None:
            on_comparison(trajectory.worst)
        require([*comparisons, trajectory.worst], "the exported graph")
    return trajectory.complete
