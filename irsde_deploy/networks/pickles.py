"""What a pickle in one of PyTorch's files would make: followed operation by operation, with nothing made.

`torch.load(weights_only=True)` calls classes and functions that it knows, with whatever arguments the file gives: it
would make an array of any size, a set of a billion numbers that are one number in the file, or a tuple of tuples that
takes centuries to hash. Here a pickle is refused unless all that it makes is about as large as the file says it.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import CheckpointError
from ..system.parsing import shown

MOST_IN_TUPLE = 10_000
"""Values in a tuple and in the tuples inside it: sizes and strides have a few, a random number generator's 625."""
MOST_IN_KEY = 100
"""The same for what is a key of a dict or a member of a set: all of it is hashed."""

UNSAFE = "it is damaged, or holds more than tensors and plain containers"


@dataclass(frozen=True)
class _Tuple:
    """A tuple that a pickle would make, and how many values are in it and in the tuples inside."""

    items: tuple[Any, ...]
    nodes: int


@dataclass
class _Container:
    """A list, dict or set: the lists inside a list, and how many values are in the largest tuple in it."""

    inner: list[_Container] = field(default_factory=list)
    widest: int = 1

    def append(self, values: list[Any]) -> None:
        self.inner += [value for value in values if isinstance(value, _Container)]
        self.widest = max([self.widest, *map(_nodes, values)])

    def widest_key(self) -> int:
        """Values in the largest tuple that is hashed where a set or a dict is made of this list, of keys or pairs."""
        return max(self.widest, *(pair.widest for pair in self.inner), 1)


@dataclass(frozen=True)
class _Global:
    """Something that a pickle names, such as "torch FloatStorage"."""

    name: str

    @property
    def last(self) -> str:
        """The name without its module; PyTorch knows none twice, and looks at the module itself."""
        return self.name.rpartition(" ")[2]


@dataclass(frozen=True)
class _Storage:
    """The array of a tensor: how many numbers it has."""

    count: int


_MARK, _TENSOR, _OTHER = object(), object(), object()

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
"""What PyTorch reads of pickles: constants, new containers, tuples of so many."""

_FROM_STORAGE = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
_FROM_TENSORS = {
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_sparse_tensor",
    "_rebuild_nested_tensor",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_wrapper_subclass",
    "Parameter",
}
_FROM_VALUES = {"OrderedDict", "Counter", "set", "bytearray", "encode", "complex", "device", "_get_layout"}
"""What `torch.save` lets a file call. PyTorch allows others, such as classes of tensors, which fill memory with nothing
that is in the file."""


@dataclass
class Pickle:
    """A pickle that PyTorch may read.

    Attributes:
        arrays: key of an array -> the bytes that it claims; keys are plain ASCII.
    """

    arrays: dict[str, int] = field(default_factory=dict)
    _stack: list[Any] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: IO[bytes]) -> Pickle:
        """Follow the pickle that begins here, to its end; raises CheckpointError where PyTorch must not."""
        made = cls()
        try:
            for operation, argument, _ in pickletools.genops(file):
                made._follow(operation.name, argument)
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"not a PyTorch checkpoint that can be read safely ({UNSAFE})") from None
        return made

    def _follow(self, operation: str, argument: Any) -> None:
        stack = self._stack
        if operation in _CONSTANTS:
            stack.append(argument)
        elif operation in _CONTAINERS:
            stack.append(_Container())
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
        elif operation in ("REDUCE", "NEWOBJ"):
            stack.append(_called(*self._popped(2)))
        elif operation == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif operation not in ("PROTO", "STOP"):
            self._fill(operation)

    def _fill(self, operation: str) -> None:
        """Follow an operation that takes values off the stack and puts them into the container below them."""
        if operation in ("SETITEM", "SETITEMS"):
            taken = self._popped(2) if operation == "SETITEM" else self._popped_to_mark()
            _require_short_keys(max(map(_nodes, taken[::2]), default=1))
        elif operation in ("APPEND", "APPENDS"):
            taken = self._popped(1) if operation == "APPEND" else self._popped_to_mark()
            self._stack[-1].append(taken)
        elif operation == "BUILD":
            (state,) = self._popped(1)
            _require_state(self._stack[-1], state)
        else:
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

    def _storage(self, reference: Any) -> _Storage:
        """Note the bytes of an array: ('storage', kind, key, place, how many numbers)."""
        _, kind, key, _, count, *_ = reference.items
        if not isinstance(count, int) or count < 0:
            raise ValueError(count)
        if not isinstance(key, str) or not key.isascii():  # archives name others in more than one way
            raise ValueError(key)
        size = count * _ITEM_SIZES.get(kind.last.removesuffix("Storage"), 1)
        self.arrays[key] = max(self.arrays.get(key, 0), size)
        return _Storage(count)


def _nodes(value: Any) -> int:
    return value.nodes if isinstance(value, _Tuple) else 1


def _tuple_of(items: list[Any]) -> _Tuple:
    nodes = 1 + sum(map(_nodes, items))
    if nodes > MOST_IN_TUPLE:  # a tuple of itself twice, again and again, is short in the file, and endless to hash
        raise CheckpointError(f"a tuple in it has more than {MOST_IN_TUPLE} values: this is no state dict")
    return _Tuple(tuple(items), nodes)


def _require_short_keys(nodes: int) -> None:
    if nodes > MOST_IN_KEY:
        raise CheckpointError(f"a name in it is a tuple of more than {MOST_IN_KEY} values: this is no state dict")


def _require_state(made: Any, state: Any) -> None:
    """Raise ValueError, or CheckpointError, unless this is a state that `torch.save` gives something."""
    if made is _TENSOR:  # by PyTorch before 0.4: an array and what a tensor has of it, or a tensor and its settings
        if len(state.items) == 4:
            _require_within(*state.items)
    elif not isinstance(made, _Container) or not isinstance(state, _Container):  # attributes of a state dict
        raise ValueError(state)


def _called(function: Any, arguments: Any) -> Any:
    """What stands for the result of a call: ValueError unless `torch.save` writes such calls."""
    name, items = function.last, arguments.items
    if name == "Size":
        return _tuple_of(list(items[0].items))  # a tuple too
    if name == "_rebuild_from_type_v2":  # (function, type, its arguments, attributes): a tensor with attributes
        if _called(items[0], items[2]) is not _TENSOR:
            raise ValueError(items[0])
        return _TENSOR
    if name in _FROM_STORAGE:
        _require_within(*items[:4])
        return _TENSOR
    if name in _FROM_TENSORS or (name.endswith("Tensor") and not items):  # an empty one, by PyTorch before 0.4
        return _TENSOR
    if name not in _FROM_VALUES or any(item is _TENSOR or isinstance(item, _Storage) for item in items):
        raise ValueError(name)
    return _of_values(name, items)


def _of_values(name: str, items: tuple[Any, ...]) -> Any:
    """The same of what makes something new of plain values."""
    if name == "bytearray" and any(isinstance(item, int) for item in items):
        raise CheckpointError("it asks for memory that nothing in it fills: this is no state dict")
    if name == "encode" and items[1:] != ("latin1",):  # how bytes are written; some encodings take forever
        raise ValueError(items[1:])
    if name in ("set", "Counter", "OrderedDict"):
        _require_short_keys(max((item.widest_key() for item in items if isinstance(item, _Container)), default=1))
        return _Container()
    return _OTHER


def _require_within(storage: Any, offset: int, size: Any, stride: Any) -> None:
    """Raise CheckpointError where a tensor has more than its array: PyTorch would make the array longer."""
    steps = [(count - 1) * step for count, step in zip(size.items, stride.items, strict=True)]
    empty = 0 in size.items
    needed = offset + sum(steps) + 1
    if not empty and needed > storage.count:
        raise CheckpointError(
            f"the file is damaged: a tensor needs {shown(needed)} numbers of an array that has {shown(storage.count)}: "
            "copy it again"
        )
