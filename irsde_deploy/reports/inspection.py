"""What a model file holds, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputFileError, one_line, requires_extra
from ..runtimes.opening import ENGINES
from ..system.files import require_readable


def inspect_file(path: Path) -> dict[str, Any]:
    """Describe a model file: its card, graph inputs and outputs or network, and sizes; plain JSON types.

    Raises:
        InputFileError: no such file, empty, or not a model file.
        EngineError, CheckpointError: the file is not what its name promises.
    """
    require_readable(path)
    suffix = path.suffix.lower()
    if suffix not in ENGINES:
        raise InputFileError(
            f"{path}: inspect reads {', '.join(ENGINES)}, not {path.suffix or 'files without a suffix'}"
        )
    inspect = {".onnx": _inspect_onnx, ".plan": _inspect_plan}.get(suffix, _inspect_checkpoint)
    described = inspect(path)
    return {"file": str(path), "bytes": path.stat().st_size, **described}


def format_inspection(description: dict[str, Any], indent: str = "") -> str:
    """Nested `name: value` lines."""
    lines = []
    for name, value in description.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", format_inspection(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}  " + ", ".join(f"{key} {item}" for key, item in entry.items()) for entry in value]
        else:
            lines.append(one_line(f"{indent}{name}: {'none' if value is None or value == '' else value}"))
    return "\n".join(lines)


def _inspect_plan(path: Path) -> dict[str, Any]:
    """The card inside a plan; neither TensorRT nor a GPU is needed."""
    from ..runtimes.device.drivers.probe import first_device
    from ..runtimes.tensorrt.engine import unfit
    from ..runtimes.tensorrt.plan_card import read_plan_card

    card = read_plan_card(path)
    reasons = unfit(card, path)
    return {
        "kind": "TensorRT plan",
        **card.to_dict(),
        "runs_here": "yes" if not reasons else f"no: {'; '.join(reasons)}",
        "rebuild": card.rebuild_command(path, first_device()),
    }


def _inspect_onnx(path: Path) -> dict[str, Any]:
    from ..graphs.metadata import INT8_KEY, LOOP_KEY
    from ..runtimes.engines.onnx_session import open_session, read_card, read_description

    session = open_session(path)
    card = read_card(session, path)
    loop, int8 = (read_description(session, path, key) for key in (LOOP_KEY, INT8_KEY))
    return {
        "kind": "ONNX graph" if loop is None else "whole loop as an ONNX graph",
        **({} if loop is None else {"loop": loop}),
        **({} if int8 is None else {"int8": int8}),
        "card": card.to_dict() if card else None,
        "inputs": [_tensor(node) for node in session.get_inputs()],
        "outputs": [_tensor(node) for node in session.get_outputs()],
    }


def _tensor(node: Any) -> dict[str, Any]:
    return {"name": node.name, "type": node.type, "shape": list(node.shape)}


def _inspect_checkpoint(path: Path) -> dict[str, Any]:
    with requires_extra("export", "inspecting a PyTorch checkpoint"):
        from ..networks.checkpoints import read_checkpoint
        from ..networks.detection import detect_network
    checkpoint = read_checkpoint(path)
    network, settings = detect_network(checkpoint.weights)
    return {
        "kind": "PyTorch checkpoint",
        "card": checkpoint.card.to_dict() if checkpoint.card else None,
        "network": network,
        "settings": settings,
        "parameters": sum(value.numel() for value in checkpoint.weights.values()),
        "sha256": checkpoint.sha256,
        "notes": list(checkpoint.notes),
    }
