"""PyTorch's own files, `.pt` and `.pth`, opened so that none takes more time, memory or trust than its size allows.

`torch.load(weights_only=True)` runs no code that a file holds, but it believes what a file says: how large an array is
that it has a few bytes for, and a tuple of tuples that would take centuries to hash. So what PyTorch will read is read
here first, without making anything of it.
"""

from __future__ import annotations

import io
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError, reason
from ..system.parsing import shown

MOST_IN_TUPLE = 10_000
"""Values in a tuple and in the tuples inside it: sizes and strides have a few, a random number generator's 625."""
MOST_IN_KEY = 100
"""The same for what is a key: all of it is hashed."""

_ZIP_START = b"PK\x03\x04"
_LEGACY_PICKLES = 5
"""What a file of PyTorch before 1.6 begins with: a number, a version, the system, the content, the names of arrays."""
_MORE = "it is damaged, or holds more than tensors and plain containers"


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
    """What keeps a file from being loaded, without PyTorch's advice to load it unsafely."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    text = reason(error)
    if "eights only load" in text or "weights_only" in text:
        return _MORE
    return text


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
    pickles: list[_Pickle] = []
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > size:  # before any of it is unpacked
                raise CheckpointError("a compressed archive, which PyTorch never writes: unpack it first")
            damaged = archive.testzip()
            for entry in entries:
                name = entry.filename.lower()
                stored[name] = min(entry.file_size, stored.get(name, entry.file_size))
                if name.endswith("data.pkl"):  # PyTorch does not care about capitals
                    pickles.append(_Pickle.of(io.BytesIO(archive.read(entry))))
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        damaged = reason(error)
    if damaged:
        raise CheckpointError(f"the file is damaged (its checksum fails at {shown(damaged)}): copy it again")
    for read in pickles:
        _require_stored(read, stored)


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


def _require_stored(content: _Pickle, stored: Mapping[str, int]) -> None:
    """Raise CheckpointError where arrays claim more bytes than the archive has for them: PyTorch reads on behind."""
    sizes: dict[str, int] = {}
    for name, size in stored.items():
        key = name.rpartition("/data/")[2]
        sizes[key] = min(size, sizes.get(key, size))  # of two in different folders PyTorch takes either
    for key, claimed in content.arrays.items():
        found = sizes.get(key.lower(), 0)
        if claimed > found:
            raise CheckpointError(f"the file is damaged: an array of {claimed} bytes has {found}: copy it again")


def _require_sound_legacy(file: IO[bytes], size: int) -> None:
    claimed = 0
    for _ in range(_LEGACY_PICKLES):
        claimed += sum(_Pickle.of(file).arrays.values())
    if claimed > size:
        raise CheckpointError(f"the file is damaged: arrays of {claimed} bytes are in {size}: copy it again")


# -- what a pickle would make -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tuple:
    """A tuple that a pickle would make, and how many values are in it and in the tuples inside."""

    items: tuple[Any, ...]
    nodes: int


@dataclass(frozen=True)
class _Global:
    """Something that a pickle names, such as "torch FloatStorage"."""

    name: str


_MARK, _OTHER = object(), object()

_ITEM_SIZES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "ComplexDouble": 16,
    "ComplexFloat": 8,
    "QInt32": 4,
}
"""Kind of a storage -> bytes of a number; 1 for the others."""

_CONSTANTS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINSTRING",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
}
_CONTAINERS = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TAKEN = {"APPEND": 1, "BUILD": 1, "SETITEM": 2}
"""What PyTorch reads of pickles: constants, new containers, tuples of so many, what takes so many values into one."""


@dataclass
class _Pickle:
    """A pickle, followed operation by operation as PyTorch's unpickler does, with nothing made.

    Attributes:
        arrays: key of an array -> the bytes that it claims.
    """

    arrays: dict[str, int] = field(default_factory=dict)
    _stack: list[Any] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: IO[bytes]) -> _Pickle:
        """Follow the pickle that begins here, to its end; raises CheckpointError where PyTorch must not."""
        made = cls()
        try:
            for operation, argument, _ in pickletools.genops(file):
                made._follow(operation.name, argument)
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"not a PyTorch checkpoint that can be read safely ({_MORE})") from None
        return made

    def _follow(self, operation: str, argument: Any) -> None:
        stack = self._stack
        if operation in _CONSTANTS:
            stack.append(argument)
        elif operation in _CONTAINERS:
            stack.append(_OTHER)
        elif operation == "MARK":
            stack.append(_MARK)
        elif operation == "GLOBAL":
            stack.append(_Global(argument))
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif operation in _TUPLES:
            stack.append(_tuple_of(self._popped(_TUPLES[operation])))
        elif operation == "TUPLE":
            stack.append(_tuple_of(self._popped_to_mark()))
        elif operation in _TAKEN:
            _require_short_keys(operation, self._popped(_TAKEN[operation]))
        elif operation in ("APPENDS", "SETITEMS"):
            _require_short_keys(operation, self._popped_to_mark())
        elif operation in ("REDUCE", "NEWOBJ"):
            stack.append(_called(*self._popped(2)))
        elif operation == "BINPERSID":
            self._claim(stack.pop())
            stack.append(_OTHER)
        elif operation not in ("PROTO", "STOP"):
            raise ValueError(operation)

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _popped_to_mark(self) -> list[Any]:
        taken = []
        while (value := self._stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def _claim(self, reference: Any) -> None:
        """Note the bytes of an array: ('storage', kind, key, place, how many numbers)."""
        items = reference.items
        count = items[4]
        if not isinstance(count, int) or count < 0 or not isinstance(items[1], _Global):
            raise ValueError(count)
        kind = items[1].name.rpartition(" ")[2].removesuffix("Storage")
        key = str(items[2])
        self.arrays[key] = max(self.arrays.get(key, 0), count * _ITEM_SIZES.get(kind, 1))


def _tuple_of(items: list[Any]) -> _Tuple:
    nodes = 1 + sum(item.nodes if isinstance(item, _Tuple) else 1 for item in items)
    if nodes > MOST_IN_TUPLE:  # a tuple of itself twice, again and again, is short in the file, and endless to hash
        raise CheckpointError(f"a tuple in it has more than {MOST_IN_TUPLE} values: this is no state dict")
    return _Tuple(tuple(items), nodes)


def _require_short_keys(operation: str, taken: list[Any]) -> None:
    if not operation.startswith("SETITEM"):
        return
    for key in taken[::2]:
        if isinstance(key, _Tuple) and key.nodes > MOST_IN_KEY:
            raise CheckpointError(f"a name in it is a tuple of more than {MOST_IN_KEY} values: this is no state dict")


def _called(function: Any, arguments: Any) -> Any:
    """What stands for the result of a call, which PyTorch makes only of functions that it knows."""
    name = function.name if isinstance(function, _Global) else ""
    if name == "torch Size" and isinstance(arguments, _Tuple) and len(arguments.items) == 1:
        return arguments.items[0]  # a tuple too
    if name.endswith(" bytearray") and any(isinstance(item, int) for item in arguments.items):
        raise CheckpointError("it asks for memory that nothing in it fills: this is no state dict")
    return _OTHER
