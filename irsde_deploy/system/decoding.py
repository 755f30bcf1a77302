"""Plain values turned into our frozen dataclasses by msgspec, and what is wrong with them said in one sentence.

    values = parse_json(text, "the model card", most=65_536)
    card = convert(values, ModelCard, "the model card")

msgspec checks names and types, strictly: no text for a number, no `true` for 1, no field that the dataclass does not
have. Bounds are the dataclass's own, in its `__post_init__`, since they hold for whoever makes one. A sentence says
which field it is about, what was found there, what was expected, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputFileError, InvalidValueError, IrsdeError
from .parsing import require_bounded, shortened, shown, subject

T = TypeVar("T")


def convert(
    values: Any,
    kind: Callable[..., T],
    what: str,
    advice: str = "",
    complete: bool = False,
    parts: Mapping[str, Callable[[Any], Any]] | None = None,
) -> T:
    """A dataclass out of plain values, with the dataclasses inside it.

    Args:
        values: as `parsing` reads them; anything but an object is refused.
        kind: the dataclass. Where it says float, a whole number stays one: what is written again is what was read.
        what: what sentences call the values, such as "the model card".
        advice: what sentences tell the user to do; without, they list the fields that there are where one is unknown.
        complete: whether every field must be there, as in files that we write in full, or just those without a default.
        parts: field -> the function that makes it out of its plain value, where its type alone does not tell how.

    Raises:
        InvalidValueError: a field is missing, unknown or of another type, or the dataclass refuses the values.
    """
    import msgspec

    parts = parts or {}
    struct = _struct(kind, frozenset(parts), complete)
    require_bounded(values, what)
    try:
        read = msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        raise InvalidValueError(_advised(_sentence(str(error), values, struct, what, advice), advice)) from None
    except UnicodeEncodeError as error:  # msgspec compares names in UTF-8; of values it asks no such thing
        raise InvalidValueError(
            _advised(f"{what} has the name {shown(error.object)}, which is no text", advice)
        ) from None
    made = {}
    for name, make in parts.items():
        if name in values:
            made[name] = make(getattr(read, name))
    try:
        return kind(**{**_given(read), **made})
    except InvalidValueError as error:
        raise InvalidValueError(_advised(f"in {what}: {error}", advice)) from None


def numbers_from_text(values: Any, kind: type[Any]) -> Any:
    """The values, with numbers where a dataclass has numbers and people wrote text, or 1e5 for a whole one.

    YAML reads 5e-3 as text, and a command line knows nothing but text. What is no number stays as it is, and so do
    values that are no object: `convert` refuses them.
    """
    import msgspec

    if not isinstance(values, Mapping):
        return values
    hints = get_type_hints(kind)
    found = dict(values)
    for name, value in values.items():
        hint = hints.get(name)
        if {int, float} & {hint, *get_args(hint)}:
            with suppress(msgspec.ValidationError, UnicodeEncodeError):  # the latter of a lone surrogate
                found[name] = msgspec.convert(_number(value), hint, strict=False)
    return found


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(entry) for entry in value]
    if isinstance(value, str):
        for read in (int, float):  # int first: a seed of 19 digits is more than a float can hold
            with suppress(ValueError):
                return read(value)
    return value


@contextmanager
def inside(path: Path, error: type[IrsdeError] = InputFileError, advice: str = "") -> Iterator[None]:
    """Turn an InvalidValueError of the block into another error, which begins with the file and ends with advice."""
    try:
        yield
    except InvalidValueError as wrong:
        raise error(_advised(f"{path}: {wrong}", advice)) from None


# -- dataclasses as msgspec's Structs -----------------------------------------------------------------------------


@cache
def _struct(kind: Any, parts: frozenset[str] = frozenset(), complete: bool = False) -> Any:
    """A Struct with the fields of a dataclass: msgspec refuses what a Struct does not have, and drops it elsewhere."""
    import msgspec

    hints = get_type_hints(kind)
    columns: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in fields(kind):
        hint = Any
        if field.name not in parts:
            hint = _as_written(hints[field.name], complete)
        optional = field.default is not MISSING or field.default_factory is not MISSING
        if optional and not complete:
            columns.append((field.name, Union[hint, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007
        else:
            columns.append((field.name, hint))
    of: dict[str, Any] = {"made": staticmethod(kind)}
    return msgspec.defstruct(kind.__name__, columns, namespace=of, forbid_unknown_fields=True, kw_only=True)


def _as_written(hint: Any, complete: bool) -> Any:
    """The type of a field as a file may have it: Structs for dataclasses, and 10 or 10.0 for a float."""
    if is_dataclass(hint):
        return _struct(hint, complete=complete)  # type: ignore[arg-type]
    if hint is float:
        return int | float
    arguments = tuple(_as_written(argument, complete) for argument in get_args(hint))
    if not arguments:
        return hint
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return Union[arguments]  # noqa: UP007
    return origin[arguments]


def _given(read: Any) -> dict[str, Any]:
    """Those fields of a Struct that were there, with dataclasses for the Structs in them."""
    import msgspec

    given = {}
    for name in read.__struct_fields__:
        value = getattr(read, name)
        if value is not msgspec.UNSET:
            given[name] = _made(value)
    return given


def _made(value: Any) -> Any:
    import msgspec

    if isinstance(value, msgspec.Struct):
        return type(value).made(**_given(value))  # type: ignore[attr-defined]
    if isinstance(value, (list, tuple)):
        return type(value)(map(_made, value))
    return value


# -- what msgspec says, in our words ------------------------------------------------------------------------------

_PLACE = re.compile(r"(?P<said>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"Object (?P<verb>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<kinds>[^`]*)`(?: of length (?P<length>\d+))?(?:, got `(?P<got>\w+)`)?.*")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object (names with values)",
    "null": "null",
}


def _sentence(said: str, values: Any, struct: Any, what: str, advice: str) -> str:
    """The sentence for an error of msgspec's; its own where that is new to us."""
    place = _PLACE.fullmatch(said)
    assert place is not None  # the pattern takes any text
    said, where = place["said"], place["where"] or ""
    whole = f"{shortened(where)} in {what}" if where else what
    if place["key"]:
        return f"names in {whole} must be text"
    if field := _FIELD.fullmatch(said):
        if field["verb"] == "missing required":
            return f"{whole} lacks {field['name']}"
        unknown = f"{whole} has the unknown field {shown(field['name'])}"
        if where or advice:
            return unknown
        return f"{unknown}: it has {', '.join(struct.__struct_fields__)}"
    if expected := _TYPE.fullmatch(said):
        return f"{subject(where, what)} must be {_in_words(expected)}, not {_found(values, where, expected['got'])}"
    return f"{subject(where, what)}: {said}"


def _advised(sentence: str, advice: str) -> str:
    if not advice:
        return sentence
    return f"{sentence}: {advice}"


def _in_words(expected: re.Match[str]) -> str:
    """The types that msgspec expected: `int | float` is a number, `array | null` a list or null."""
    kinds = expected["kinds"].split(" | ")
    if "float" in kinds and "int" in kinds:
        kinds.remove("int")
    words = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
    if expected["length"]:
        return f"{words} of {expected['length']} entries"
    return words


def _found(values: Any, where: str, got: str | None) -> str:
    """The value at a place such as `profiles[0].min`."""
    if "[...]" in where:  # in one of an object's entries, and msgspec does not say in which
        return _KINDS.get(str(got), str(got))
    for name, index in _STEP.findall(where):
        values = values[name] if name else values[int(index)]
    return shown(values)
