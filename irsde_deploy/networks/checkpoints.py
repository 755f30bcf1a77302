"""Reading and writing weights: the reference's `.pth`, our own `.pt` and `.safetensors` (weights + model card).

Nothing is unpickled but tensors and plain containers (`weights_only=True`), so an untrusted file stays harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.card import METADATA_KEY, ModelCard
from ..errors import CheckpointError, InputFileError, InvalidValueError, reason, requires_extra
from ..system.files import file_sha256, require_readable, require_there, write_atomically
from ..system.parsing import shortened, shown
from .state_dicts import select_weights
from .torch_files import load_safely

SUFFIXES = (".pt", ".pth", ".safetensors")
OWN_FORMAT = "irsde-deploy checkpoint 1"

MAX_HEADER = 2**24
"""Bytes of a safetensors file's header, which names each tensor; those of the largest networks have a megabyte."""
_MOST_SHARED = 4
"""How often a file's bytes may stand for weights: some networks use a tensor in two places."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights as read from a file.

    Attributes:
        path: of the file.
        weights: the state dict; every value is finite, in float32.
        card: the model card inside, if the checkpoint is one of ours.
        sha256: of the file, hexadecimal.
        notes: what was chosen on the way (averaged weights, prefixes taken off), in one sentence for each choice.
    """

    path: Path
    weights: dict[str, Tensor]
    card: ModelCard | None
    sha256: str
    notes: tuple[str, ...] = ()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before a CheckpointError raised inside the block."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of the reference or of ours.

    Raises:
        InputFileError: no such file, empty, or an unknown suffix.
        CheckpointError: not a checkpoint, no weights inside, or weights that are not finite.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require_there(path)
    if suffix not in SUFFIXES:
        raise InputFileError(f"{path}: a checkpoint ends in {', '.join(SUFFIXES)}, not {path.suffix or 'no suffix'!r}")
    require_readable(path)
    if suffix == ".safetensors":
        content, card_text = _read_safetensors(path)
    else:
        content, card_text = _read_torch(path)
    notes: list[str] = []
    with naming(path):
        weights = _to_float32(select_weights(content, notes), path.stat().st_size)
    card: ModelCard | None = None
    if card_text is not None:
        card = _parse_card(card_text, path)
    return Checkpoint(path, weights, card, file_sha256(path), tuple(notes))


def save_checkpoint(path: str | Path, weights: Mapping[str, Tensor], card: ModelCard, half: bool = False) -> None:
    """Write weights and card as one file.

    Args:
        path: where it goes; the suffix, `.pt` or `.safetensors`, chooses the format.
        weights: the state dict.
        card: the model card.
        half: whether values are stored as float16, in half the size.

    Raises:
        InvalidValueError: another suffix.
        OutputFileError: the file cannot be written.
    """
    path = Path(path)
    dtype = torch.float32
    if half:
        dtype = torch.float16
    tensors = {}
    for key, value in weights.items():
        tensors[key] = value.detach().to("cpu", dtype).contiguous()  # safetensors stores no strides
    with write_atomically(path) as temporary:
        if path.suffix == ".safetensors":
            with requires_extra("export", "writing a safetensors file"):
                from safetensors.torch import save
            temporary.write_bytes(save(tensors, metadata={METADATA_KEY: card.to_json()}))
        elif path.suffix == ".pt":
            torch.save({"format": OWN_FORMAT, METADATA_KEY: card.to_json(), "weights": tensors}, temporary)
        else:
            raise InvalidValueError(f"{path}: our checkpoints end in .pt or .safetensors")


def _read_torch(path: Path) -> tuple[Any, str | None]:
    """(content, text of the model card inside or None)."""
    content = load_safely(path)
    if isinstance(content, Mapping) and content.get("format") == OWN_FORMAT:
        card = content.get(METADATA_KEY)
        return content.get("weights"), card if isinstance(card, str) else ""
    return content, None


def _read_safetensors(path: Path) -> tuple[Any, str | None]:
    """(weights, text of the model card inside or None)."""
    with requires_extra("export", "reading a safetensors file"):
        from safetensors import safe_open
    try:
        with path.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if header > MAX_HEADER:  # before any of it is read
            raise ValueError(f"its header would have {header} bytes, where {MAX_HEADER} are the most")
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            weights = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
            return weights, metadata.get(METADATA_KEY)
    except Exception as error:  # its own, and those of PyTorch for types that it does not have
        raise CheckpointError(f"{path}: not a safetensors file ({shortened(reason(error), 160)})") from None


def _to_float32(weights: dict[str, Tensor], file_size: int) -> dict[str, Tensor]:
    """The weights in float32; CheckpointError where one is no weight, or all claim more than the file's bytes."""
    converted = {}
    claimed = 0
    for key, value in weights.items():
        _require_plain(key, value)
        claimed += value.numel() * value.element_size()
        if claimed > _MOST_SHARED * file_size:  # thousands of names for one array, of which each would be copied
            raise CheckpointError(f"its tensors claim more than {_MOST_SHARED} times the bytes that the file has")
        converted[key] = value.float()
        if not torch.isfinite(converted[key]).all():
            raise CheckpointError(
                f"the weights {shown(key)} are not finite in float32 (NaN or infinity): training has diverged"
            )
    return converted


def _require_plain(key: str, value: Tensor) -> None:
    """Refuse tensors that are no weights, or that claim more than the file holds."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    plain = plain and not value.is_nested
    # A view with strides of 0 can claim any size: made float32, it would take that much memory.
    if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{shown(key)} is a {str(value.dtype).removeprefix('torch.')} tensor of shape "
            f"{tuple(value.shape)} that cannot be a weight: expected dense floating-point tensors"
        )


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        return ModelCard.from_json(text)
    except InvalidValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
