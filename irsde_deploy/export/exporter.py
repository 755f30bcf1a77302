"""Checkpoint -> proven ONNX file: build the network, write the graph, compare with PyTorch, and only then keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.card import ModelCard
from ..core.comparison import DIVERGENCE, Comparison, format_comparison, format_heading
from ..graphs.onnx_file import read_model, write_model
from ..networks.checkpoints import Checkpoint, naming, read_checkpoint
from ..networks.detection import build_network
from ..precision.lowering import check_budget, lower_aloud
from ..precision.measured_pictures import read_pictures
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.engines.torch_engine import TorchEngine
from ..runtimes.tensorrt.builder import build_plan
from ..system.files import require_output, write_atomically
from ..system.listener import SILENT, Listener
from .description import Description, describe
from .export_settings import ExportSettings, PlanOrder, Rewriter
from .parity import compare_evaluations, compare_trajectories, require
from .sources import SettingsSource
from .to_onnx import OPSET, write_onnx


def export_files(
    checkpoint: str | Path,
    output: str | Path,
    sources: Sequence[SettingsSource] = (),
    settings: ExportSettings | None = None,
    plan: PlanOrder | None = None,
    rewriter_for: Callable[[ModelCard], Rewriter] | None = None,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> ModelCard:
    """Export a checkpoint: the proven graph in the precision asked for, and a TensorRT plan of it where one is wanted.

    Args:
        checkpoint: `.pt`, `.pth` or `.safetensors`.
        output: ONNX file; untouched when anything fails.
        sources: of what the weights do not say, most binding first: `flags`, an options file, a recipe.
        settings: opset and precision; by default opset 18 and FP32.
        plan: a TensorRT plan to build from the file.
        rewriter_for: the model's card -> what makes something else of the graph, such as the whole sampling loop, and
            writes that to the file; called before any long work, so that it can refuse.
        overwrite: whether an output that exists is replaced.
        listener: is told where each setting came from, the comparisons, and what was written.

    Returns:
        The model's card, as it was before the precision was lowered.

    Raises:
        InputFileError, CheckpointError: the checkpoint cannot be read, or does not fit any network.
        InvalidValueError: a setting is missing or out of range.
        ParityError: ONNX Runtime and PyTorch disagree; no file is left behind.
        OutputFileError: a file cannot be written. EngineError: the plan cannot be built.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    require_output(output, ".onnx", overwrite)
    settings = settings or ExportSettings()
    check_budget(settings.precision, settings.psnr_budget)
    loaded, description = _described(checkpoint, sources, listener)
    card = description.card
    rewrite = None if rewriter_for is None else rewriter_for(card)
    pictures = read_pictures(card, settings.pictures, listener.note)
    options = None if plan is None else plan.checked_options(card)
    listener.line(f"opset = {settings.opset}")
    with write_atomically(output) as temporary:
        complete = _export_aloud(loaded, card, temporary, settings.opset, listener)
        if settings.precision != "fp32":
            model, own = read_model(temporary)
            lowered = lower_aloud(model, own, settings.precision, pictures, settings.psnr_budget, listener)
            write_model(lowered.model, lowered.card, temporary)
        if rewrite is not None:
            rewrite(*read_model(temporary), temporary)
    if not complete:
        listener.note(DIVERGENCE)
    listener.line(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
    if plan is not None and options is not None:
        (plan.build or build_plan)(*read_model(output), output, plan.path, options)
    return card


def _described(path: Path, sources: Sequence[SettingsSource], listener: Listener) -> tuple[Checkpoint, Description]:
    """A checkpoint with its settings settled; tells what was taken from where."""
    loaded = read_checkpoint(path)
    description = describe(loaded, sources)
    for line in (*loaded.notes, *description.origins):
        listener.line(line)
    for source in sources:
        if source.note:
            listener.line(f"note: {source.note}")
    return loaded, description


def _export_aloud(checkpoint: Checkpoint, card: ModelCard, path: Path, opset: int, listener: Listener) -> bool:
    """`export_checkpoint`, telling the comparisons: those that were passed before one failed, too."""
    comparisons: list[Comparison] = []
    listener.line("comparing with PyTorch ...")
    try:
        with listener.progress(card.sde.T, "comparing with PyTorch") as advance:
            return export_checkpoint(checkpoint, card, path, opset, comparisons.append, advance)
    finally:
        if comparisons:
            listener.line("\n".join([format_heading(), *map(format_comparison, comparisons)]))


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
