"""Engines, which evaluate the score network, and the loops around them.

`open_engine` picks the engine by the file's suffix from a plain dict; each entry imports what it needs when called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..card import ModelCard
from ..errors import InputFileError
from ..files import require_readable
from .protocol import Engine

__all__ = ["ENGINES", "Engine", "open_engine"]


def _onnx(path: Path, device: str, card: ModelCard | None) -> Engine:
    from .onnx_engine import OnnxEngine

    return OnnxEngine.open(path, device, card)


def _torch(path: Path, device: str, card: ModelCard | None) -> Engine:
    from .torch_engine import TorchEngine

    return TorchEngine.open(path, device, card)


ENGINES: dict[str, Callable[[Path, str, ModelCard | None], Engine]] = {
    ".onnx": _onnx,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _torch,
}
"""File suffix -> how to open it."""


def open_engine(path: str | Path, device: str = "cpu", card: ModelCard | None = None) -> Engine:
    """Open an engine file on a device, `cpu` or `cuda`.

    Args:
        path: `.onnx` for ONNX Runtime; `.pt`, `.pth` or `.safetensors` for the PyTorch reference.
        device: where it runs. A device that is not there is an error, never a silent change.
        card: for checkpoints without a model card of their own.

    Raises:
        InputFileError: no such file, an empty one, or a suffix that no engine reads.
        EngineError, CheckpointError: the file is not what its name promises.
        MissingPackageError: the package that reads it, or the device, is not there.
    """
    path = Path(path)
    if path.suffix.lower() not in ENGINES:
        raise InputFileError(
            f"{path}: no engine of this version reads {path.suffix or 'files without a suffix'}: "
            f"give one of {', '.join(ENGINES)} ('irsde-deploy export' makes .onnx)"
        )
    require_readable(path)
    return ENGINES[path.suffix.lower()](path, device, card)
