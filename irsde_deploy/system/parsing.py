"""Text of JSON, TOML and YAML read into plain values, and all that can go wrong on the way said in one sentence.

Plain values are objects (dict), lists, text, numbers, true, false and null, as Python has them. What comes out is
bounded, so that whoever takes it need not be afraid: sizes are looked at before bytes are parsed, nothing is nested
more than `MOST_DEPTH` deep, numbers are finite, and whole ones fit 64 bits. `decoding` makes dataclasses of them.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputFileError, InvalidValueError, reason, requires_extra
from .files import require_readable

MOST_DEPTH = 32
"""Levels of objects and lists: far more than any file of ours has, far fewer than Python's recursion takes."""
MOST_DOTS = 64
"""Dots between two of TOML's signs: beyond, a dotted key is nested too deeply, which its parser is slow to read."""
MOST_WHOLE = 2**64 - 1
"""Largest whole number, of either sign: seeds go that far, and what lies beyond fits no array and no other language."""
MOST_SHOWN = 60
"""Characters that a sentence shows of what was found."""


def read_text(path: Path, most: int, what: str) -> str:
    """The text of a file that holds `what`, which has at most so many bytes; without a byte-order mark before it.

    Raises:
        InputFileError: no such file, too large, or not UTF-8.
    """
    require_readable(path)
    size = path.stat().st_size
    if size > most:  # before anything is read: nobody waits for gigabytes to be refused
        raise InputFileError(f"{path}: is too large to be {what}: {size} bytes, where {most} are the most")
    try:
        return path.read_text(encoding="utf-8-sig")  # with the mark that editors of Windows put before a text
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: is not {what}: byte {error.start} is not UTF-8 text") from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from None


def parse_json(text: str, what: str, most: int, rest: bool = False) -> Any:
    """The plain values in a JSON text; with `rest`, whatever follows the first value is left alone.

    Python's parser and not msgspec's, which takes the last of two equal keys without a word, and refuses the lone
    surrogates by which Python writes file names that are not UTF-8.

    Raises:
        InvalidValueError: longer than `most` characters, not JSON, a key twice, or out of the module's bounds.
    """
    if len(text) > most:
        raise InvalidValueError(f"{what} has at most {most} characters, not {len(text)}")
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)
    with _parsing(what, "JSON"):
        if rest:
            values, _ = decoder.raw_decode(text)
        else:
            values = decoder.decode(text)
    require_bounded(values, what)
    return values


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """The plain values in a TOML text; raises InvalidValueError as `parse_json` does."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        with requires_extra("export", "reading TOML"):
            import tomli as tomllib

    if any(part.count(".") > MOST_DOTS for part in re.split("[=,\n]", text)):
        raise _too_deep(what)
    with _parsing(what, "TOML"):
        values: dict[str, Any] = tomllib.loads(text)
    require_bounded(values, what)
    return values


def parse_yaml(text: str, what: str, on_doubled: Callable[[str], None] | None = None) -> Any:
    """The plain values in a YAML text; raises InvalidValueError as `parse_json` does.

    Of two equal keys the last one counts, as it does for the reference, whose options files these are; `on_doubled` is
    called with each such key, shortened.
    """
    with requires_extra("export", f"reading {what}"):
        import yaml

    with _parsing(what, "YAML"):
        values = yaml.load(text, _yaml_loader(on_doubled))
    # A text has no more values than characters, unless aliases repeat them: ten lines of those can mean billions.
    require_bounded(values, what, most=len(text) + 1)
    return values


def _yaml_loader(on_doubled: Callable[[str], None] | None) -> Any:
    """PyYAML's safe loader, which stops at `MOST_DEPTH` levels, and tells keys that a mapping has twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > MOST_DEPTH + 1:  # before more is read: the scanner's time grows with the depth's square
                raise RecursionError
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for name, count in Counter(names).items():
                if count > 1 and on_doubled is not None:
                    on_doubled(shortened(name))
            return super().construct_mapping(node, deep)

    return Loader


@contextmanager
def _parsing(what: str, language: str) -> Iterator[None]:
    """Turn all that a parser raises into one sentence."""
    try:
        yield
    except RecursionError:
        raise _too_deep(what) from None
    except MemoryError:
        raise InvalidValueError(f"{what} takes more memory than there is: give a smaller one") from None
    except Exception as error:  # PyYAML lets pass what dates and numbers of no sense raise: ValueError, IndexError, ...
        said = " ".join(str(error).partition("; use sys.")[0].split())
        if not said or isinstance(error, (LookupError, TypeError, AttributeError)):  # Python's own words, of no use
            said = "a value is not of the type that its tag says"
        raise InvalidValueError(f"{what} is not valid {language} ({reason(ValueError(said))})") from None


def _too_deep(what: str) -> InvalidValueError:
    return InvalidValueError(f"{what} is nested too deeply: {MOST_DEPTH} levels are the most")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shown(name)} is there twice")
        found[name] = value
    return found


def require_bounded(values: Any, what: str, most: int | None = None) -> None:
    """Raise InvalidValueError where plain values go beyond the module's bounds, or are more than `most`."""
    for count, (where, depth, value) in enumerate(_walk(values)):
        if depth > MOST_DEPTH:
            raise _too_deep(what)
        if most is not None and count > most:
            raise InvalidValueError(f"{what} repeats itself without end, by aliases: write its values out")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValueError(f"{subject(where, what)} must be a finite number, not {value}")
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise InvalidValueError(f"{subject(where, what)} is a whole number beyond 64 bits: give a smaller one")


def _walk(value: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, int, Any]]:
    """(where it is, how deep, the value) of every value inside another, that one first."""
    yield where, depth, value
    if isinstance(value, Mapping):
        prefix = f"{where}." if where else ""
        for name, entry in value.items():
            yield from _walk(entry, f"{prefix}{name}"[: 2 * MOST_SHOWN], depth + 1)  # a long name, for every entry
    elif isinstance(value, (list, tuple)):
        for k, entry in enumerate(value):
            yield from _walk(entry, f"{where}[{k}]", depth + 1)


def subject(where: str, what: str) -> str:
    """What a sentence is about: a place such as `profiles[0].min` in something, or all of it."""
    if not where:
        return what
    return f"in {what}, {shortened(where)}"


class _Short(reprlib.Repr):
    """Python's way to write a value, of which no part is long or deep: files may hold anything."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        """As Python writes it, where Python does: of thousands of digits it does not."""
        if x.bit_length() > 200:
            return f"a whole number of {x.bit_length()} bits"
        return repr(x)


def shown(value: Any) -> str:
    """A value as Python writes it, in at most `MOST_SHOWN` characters."""
    return shortened(_Short().repr(value))


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """The beginning of a text, in at most so many characters."""
    if len(text) <= most:
        return text
    return f"{text[: most - 3]}..."
