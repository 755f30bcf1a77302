"""Reading and writing weights: the reference's `.pth`, our own `.pt` and `.safetensors` (weights + model card).

Nothing is unpickled but tensors and plain containers (`weights_only=True`), so an untrusted file stays harmless.
"""

from __future__ import annotations

import warnings
import zipfile
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
from ..system.parsing import shown

SUFFIXES = (".pt", ".pth", ".safetensors")
OWN_FORMAT = "irsde-deploy checkpoint 1"

EMA_ENTRIES = ("params_ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "ema")
PLAIN_ENTRIES = ("params", "state_dict", "model_state_dict", "model", "weights", "net", "network")
"""Names under which training code puts a state dict inside a checkpoint. Averaged weights, which restore better, are
looked for first."""

EMA_PREFIX = "ema_model."
WRAPPER_PREFIXES = ("module.", "_orig_mod.", EMA_PREFIX, "model.", "netG.")
"""What wrappers put before every key: DataParallel, torch.compile, averaging, and code that trains several networks."""


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
    weights = _strip_prefixes(_select_state_dict(content, path, notes), notes)
    card: ModelCard | None = None
    if card_text is not None:
        card = _parse_card(card_text, path)
    return Checkpoint(path, _to_float32(weights, path), card, file_sha256(path), tuple(notes))


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


def load_safely(path: Path) -> Any:
    """The content of a `.pt` or `.pth` file: tensors and plain containers, and nothing else is unpickled.

    Raises:
        CheckpointError: the file is damaged, or not of this kind.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated tensor types, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from EOFError to KeyError
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint that can be read safely ({_why(error)}): "
            "give a file that holds tensors only, such as a saved state dict"
        ) from None


def _why(error: Exception) -> str:
    """What keeps a file from being loaded, without PyTorch's advice to load it unsafely."""
    text = reason(error)
    if "eights only load" in text:  # "Weights only load failed", in either spelling
        return "it is damaged, or holds more than tensors and plain containers"
    return text


def _read_torch(path: Path) -> tuple[Any, str | None]:
    """(content, text of the model card inside or None)."""
    content = load_safely(path)
    if isinstance(content, Mapping) and content.get("format") == OWN_FORMAT:
        return content.get("weights"), str(content.get(METADATA_KEY))
    return content, None


def _check_archive(path: Path) -> None:
    """PyTorch stores tensors uncompressed, with checksums; refuse an archive that unpacks to more, or is damaged."""
    if not zipfile.is_zipfile(path):  # of PyTorch before 1.6
        return
    damaged: str | None = None
    unpacked = 0
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked <= size:  # else a small file could take any time and memory
                damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        damaged = reason(error)
    if unpacked > size:
        raise CheckpointError(f"{path}: a compressed archive, which PyTorch never writes: unpack it first")
    if damaged:
        raise CheckpointError(f"{path}: the file is damaged (its checksum fails at {damaged}): copy it again")


def _read_safetensors(path: Path) -> tuple[Any, str | None]:
    """(weights, text of the model card inside or None)."""
    with requires_extra("export", "reading a safetensors file"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            weights = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
            return weights, metadata.get(METADATA_KEY)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({reason(error)})") from None


def _select_state_dict(content: Any, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The mapping of names to tensors inside whatever a training script saved; notes gets what was chosen."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: a checkpoint holds a state dict, this file a {type(content).__name__}")
    for entry in (*EMA_ENTRIES, *PLAIN_ENTRIES):
        if isinstance(content.get(entry), Mapping):
            kind = "averaged (EMA) weights" if entry in EMA_ENTRIES else "weights"
            notes.append(f"took the {kind} in {entry!r}")
            return _select_state_dict(content[entry], path, notes)  # a wrapper's entry may hold another's
    tensors = _tensors_in(content, path)
    averaged = {key: value for key, value in tensors.items() if key.startswith(EMA_PREFIX)}
    # Where all keys have the prefix there is nothing to choose, and it is taken off later, like any.
    if averaged and len(averaged) < len(tensors):
        notes.append("took the averaged (EMA) weights under 'ema_model.'")
        return averaged
    return tensors


def _tensors_in(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors that have a name; CheckpointError where there are none."""
    tensors = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            tensors[key] = value
    if not tensors:
        found = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path}: there is no state dict inside, only {found}")
    return tensors


def _strip_prefixes(weights: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Take off what wrappers put before every key, one wrapper after another; notes gets what was taken off."""
    for prefix in WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            notes.append(f"took the prefix {prefix!r} off the keys")
            stripped = {key.removeprefix(prefix): value for key, value in weights.items()}
            return _strip_prefixes(stripped, notes)
    return weights


def _to_float32(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights in float32; CheckpointError where one is no weight, or is not finite."""
    converted = {}
    for key, value in weights.items():
        _require_plain(key, value, path)
        converted[key] = value.float()
        if not torch.isfinite(converted[key]).all():
            raise CheckpointError(
                f"{path}: the weights {shown(key)} are not finite in float32 (NaN or infinity): training has diverged"
            )
    return converted


def _require_plain(key: str, value: Tensor, path: Path) -> None:
    """Refuse tensors that are no weights, or that claim more than the file holds."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    # A view with strides of 0 can claim any size: made float32, it would take that much memory.
    if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path}: {shown(key)} is a {str(value.dtype).removeprefix('torch.')} tensor of shape "
            f"{tuple(value.shape)} that cannot be a weight: expected dense floating-point tensors"
        )


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        return ModelCard.from_json(text)
    except InvalidValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
