"""What a model file holds, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.card import ModelCard
from ..errors import InputFileError, one_line, requires_extra
from ..runtimes.opening import ENGINES
from ..system.files import require_readable


def inspect_file(path: Path) -> dict[str, Any]:
    """Describe a model file: its card, the inputs and outputs of a graph or the network of a checkpoint, and sizes.

    Returns:
        The description, in plain JSON types.

    Raises:
        InputFileError: no such file, an empty one, or one that is no model.
        EngineError, CheckpointError: the file is not what its name promises.
    """
    require_readable(path)
    suffix = path.suffix.lower()
    if suffix not in ENGINES:
        raise InputFileError(
            f"{path}: inspect reads {', '.join(ENGINES)}, not {path.suffix or 'files without a suffix'}"
        )
    described = _INSPECT.get(suffix, _inspect_checkpoint)(path)
    return {"file": str(path), "bytes": path.stat().st_size, **described}


def format_inspection(description: dict[str, Any], indent: str = "") -> str:
    """A description as lines `name: value` for people, those of what is inside another indented."""
    lines = []
    for name, value in description.items():
        begin = one_line(f"{indent}{name}:")  # names and values come out of files
        if isinstance(value, dict):
            lines += [begin, format_inspection(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            lines.append(begin)
            for entry in value:  # such as a graph's inputs: a line each
                pairs = [f"{key} {item}" for key, item in entry.items()]
                lines.append(one_line(f"{indent}  {', '.join(pairs)}"))
        else:
            if value is None or value == "":
                value = "none"
            lines.append(one_line(f"{begin} {value}"))
    return "\n".join(lines)


def _inspect_plan(path: Path) -> dict[str, Any]:
    """The card inside a plan; neither TensorRT nor a GPU is needed."""
    from ..runtimes.device.drivers.probe import first_device
    from ..runtimes.tensorrt.engine import unfit
    from ..runtimes.tensorrt.plan_card import read_plan_card

    card = read_plan_card(path)
    runs_here = "yes"
    reasons = unfit(card, path)
    if reasons:
        runs_here = f"no: {'; '.join(reasons)}"
    return {
        "kind": "TensorRT plan",
        **card.to_dict(),
        "card": _card_as_json(card.model),
        "runs_here": runs_here,
        "rebuild": card.rebuild_command(path, first_device()),
    }


def _inspect_onnx(path: Path) -> dict[str, Any]:
    from ..graphs.metadata import INT8_KEY, LOOP_KEY
    from ..runtimes.engines.onnx_session import open_session, read_card, read_description

    session = open_session(path)
    card = read_card(session, path)
    described: dict[str, Any] = {"kind": "ONNX graph"}
    loop = read_description(session, path, LOOP_KEY)
    if loop is not None:
        described.update(kind="whole loop as an ONNX graph", loop=loop)
    int8 = read_description(session, path, INT8_KEY)
    if int8 is not None:
        described["int8"] = int8
    return {
        **described,
        "card": _card_as_json(card),
        "inputs": [_tensor(node) for node in session.get_inputs()],
        "outputs": [_tensor(node) for node in session.get_outputs()],
    }


def _card_as_json(card: ModelCard | None) -> dict[str, Any] | None:
    """A card in full: with a margin that is 0, too, which cards themselves leave out."""
    return None if card is None else {**card.to_dict(), "margin": card.margin}


def _tensor(node: Any) -> dict[str, Any]:
    """An input or output of ONNX Runtime's."""
    return {"name": node.name, "type": node.type, "shape": list(node.shape)}


def _inspect_checkpoint(path: Path) -> dict[str, Any]:
    with requires_extra("export", "inspecting a PyTorch checkpoint"):
        from ..networks.checkpoints import naming, read_checkpoint
        from ..networks.detection import detect_network
    checkpoint = read_checkpoint(path)
    with naming(path):
        network, settings = detect_network(checkpoint.weights)
    return {
        "kind": "PyTorch checkpoint",
        "card": _card_as_json(checkpoint.card),
        "network": network,
        "settings": settings,
        "parameters": sum(value.numel() for value in checkpoint.weights.values()),
        "sha256": checkpoint.sha256,
        "notes": list(checkpoint.notes),
    }


_INSPECT = {".onnx": _inspect_onnx, ".plan": _inspect_plan}
"""Suffix -> what describes such a file; the others are checkpoints."""
