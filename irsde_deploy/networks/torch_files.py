"""PyTorch's own files, `.pt` and `.pth`, opened so that none takes more time, memory or trust than its size allows.

`torch.load(weights_only=True)` runs no code that a file holds, but it believes what a file says: how large an array is
that it has a few bytes for, and calls that would never end. So what PyTorch will read is read here first, without
making anything of it: the archive here, and the pickle in it in `networks/pickles.py`.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError, is_out_of_memory, reason, refuse
from ..system.parsing import shown
from .pickles import UNSAFE, Pickle

_ZIP_START = b"PK\x03\x04"
_LEGACY_PICKLES = 5
"""What a file of PyTorch before 1.6 begins with: a number, a version, the system, the content, the names of arrays."""


def load_safely(path: Path) -> Any:
    """The content of a `.pt` or `.pth` file: tensors and plain containers, and nothing else is unpickled.

    Raises:
        CheckpointError: the file is damaged, or not of this kind.
    """
    try:
        _require_sound(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated tensor types, which are refused later
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file raises anything from EOFError to KeyError, RecursionError, MemoryError
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint that can be read safely ({_why(error)}): "
            "give a file that holds tensors only, such as a saved state dict"
        ) from None


def _why(error: Exception) -> str:
    """What keeps a file from being loaded, without PyTorch's own words: they are for its authors, or bad advice."""
    if is_out_of_memory(error):
        return "there is not enough memory for it"
    if isinstance(error, OSError):
        return reason(error)
    return UNSAFE


def _require_sound(path: Path) -> None:
    """Raise CheckpointError where what PyTorch would read is damaged, or claims more than the file has."""
    with path.open("rb") as file:
        start = file.read(len(_ZIP_START))
        file.seek(0)
        if start == _ZIP_START:  # as PyTorch decides; Python's zipfile looks at the end, and does not find all ends
            _require_sound_archive(file, path.stat().st_size)
        else:
            _require_sound_legacy(file, path.stat().st_size)


# -- archives --------------------------------------------------------------------------------------------------------


def _require_sound_archive(file: IO[bytes], size: int) -> None:
    """PyTorch stores tensors uncompressed, with checksums; refuse an archive that unpacks to more, or is damaged."""
    if not _ends_in_directory(file, size):
        raise CheckpointError("the file is damaged: it begins as an archive of PyTorch, and does not end as one")
    damaged: str | None = None
    stored: dict[str, int] = {}
    pickles: list[Pickle] = []
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _require_unpacked(entries, size)
            damaged = archive.testzip()
            for entry in entries:
                name = entry.orig_filename.lower()  # its bytes: `filename` is what other fields make of them
                stored[name] = min(entry.file_size, stored.get(name, entry.file_size))
                if name.endswith("data.pkl"):  # PyTorch does not care about capitals
                    pickles.append(Pickle.of(io.BytesIO(archive.read(entry))))
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        damaged = reason(error)
    if damaged:
        raise CheckpointError(f"the file is damaged (its checksum fails at {shown(damaged)}): copy it again")
    if not pickles:
        raise CheckpointError("an archive, but none of PyTorch's: there is no 'data.pkl' in it")
    for content in pickles:
        _require_stored(content, stored)


def _require_unpacked(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Raise CheckpointError where an archive's entries say that they are more than the file, before any is unpacked."""
    claimed = sum(entry.file_size for entry in entries)
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    refuse(
        [
            (
                claimed > size and compressed,
                "a compressed archive, which PyTorch never writes: unpack it first",
            ),
            (
                claimed > size,
                f"the file is damaged: what is in it claims {claimed} bytes, and the file has {size}: copy it again",
            ),
        ],
        CheckpointError,
    )


def _ends_in_directory(file: IO[bytes], size: int) -> bool:
    """Whether a file ends in the directory of an archive that every reader finds in the same place.

    Readers look for the directory in ways of their own, so that an archive could show one to zipfile and another to
    PyTorch. PyTorch writes it at the end, with nothing behind or between.
    """
    end, locator, record = 22, 20, 56  # bytes of the three records that a directory is followed by
    file.seek(max(0, size - end - locator - record))
    tail = file.read().rjust(end + locator + record, b"\0")
    if not tail[-end:].startswith(b"PK\x05\x06") or tail[-2:] != b"\0\0":
        return False
    length, offset = struct.unpack("<LL", tail[-10:-2])
    stop = size - end
    if tail[-end - locator :].startswith(b"PK\x06\x07"):  # of more than 4 GB, and of whatever PyTorch writes
        stop -= locator + record
        (at,) = struct.unpack("<Q", tail[-end - locator + 8 : -end - 4])
        if at != stop or not tail.startswith(b"PK\x06\x06"):
            return False
        length, offset = struct.unpack("<QQ", tail[40:56])
    return bool(offset + length == stop)


def _require_stored(content: Pickle, stored: Mapping[str, int]) -> None:
    """Raise CheckpointError where arrays claim more bytes than the archive has for them: PyTorch reads on behind."""
    sizes: dict[str, int] = {}
    for name, size in stored.items():
        key = name.rpartition("/data/")[2]
        sizes[key] = min(size, sizes.get(key, size))  # of two in different folders PyTorch takes either
    for key, claimed in content.arrays.items():
        found = sizes.get(key.lower(), 0)
        if claimed > found:
            raise CheckpointError(f"the file is damaged: an array of {shown(claimed)} bytes has {found}: copy it again")


def _require_sound_legacy(file: IO[bytes], size: int) -> None:
    """The same of a file of PyTorch before 1.6: pickles, and behind them the arrays' bytes."""
    claimed = 0
    for _ in range(_LEGACY_PICKLES):
        claimed += sum(Pickle.of(file).arrays.values())
    if claimed > size:
        raise CheckpointError(f"the file is damaged: arrays of {shown(claimed)} bytes are in {size}: copy it again")
