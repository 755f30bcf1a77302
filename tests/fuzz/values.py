"""JSON, YAML and TOML with other values, other names and other shapes; and lines of text in disorder."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from . import damage

STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    10**18,
    10**400,
    0.0,
    -0.0,
    0.5,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    " ",
    "0",
    "nan",
    "1e999",
    "true",
    "x" * 10_000,
    "\x1b[2J\x1b]0;x\x07",
    "\ud800",
    "\u202e\u2028",
    "a\nb",
    "../../../etc/passwd",
    "/etc/passwd",
    "%s%n",
    [],
    {},
    [[]],
    [0],
    [None] * 50,
    {"": 0},
    {"a": {"b": {"c": 1}}},
    [1, "2", None, 4.5],
)
"""What stands where something else should."""


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(the list or object, the index or name) of every value inside."""
    entries: Any = ()
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    for name, entry in entries:
        yield value, name
        yield from _places(entry)


def spoil_values(rng: Random, good: Any) -> Any:
    """Plain values with one to three others among them, more or fewer, or under another name."""
    values = copy.deepcopy(good)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(values))
        if not places or rng.random() < 0.02:
            return rng.choice(STRANGE)
        parent, name = rng.choice(places)
        _change(rng, parent, name, places)
    return values


def _change(rng: Random, parent: Any, name: Any, places: list[tuple[Any, Any]]) -> None:
    kind = rng.randrange(10)
    if kind == 0:
        del parent[name]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("surprise", "", "\x1b[2J", "\ud800", "x" * 500, f"{name} ", str(name).upper()))] = parent[
            name
        ]
    elif kind == 2 and isinstance(parent, dict):
        parent["renamed"] = parent.pop(name)
    elif kind == 3:
        other, at = rng.choice(places)
        if at in other if isinstance(other, dict) else isinstance(at, int) and at < len(other):
            parent[name] = copy.deepcopy(other[at])
    elif kind == 4:
        parent[name] = _deep(rng, parent[name])
    elif kind == 5:
        parent[name] = str(parent[name])
    elif kind == 6 and isinstance(parent[name], (int, float)) and abs(parent[name]) < 1e18:
        value = parent[name]
        parent[name] = rng.choice((-value, value + 1, value * 10, value / 3, value * 1e6))
    elif kind == 7 and isinstance(parent[name], list):
        parent[name] = parent[name] * rng.choice((0, 2, 100))
    else:
        parent[name] = copy.deepcopy(rng.choice(STRANGE))


def _deep(rng: Random, value: Any) -> Any:
    for _ in range(rng.choice((1, 5, 30, 60))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def dump_json(value: Any) -> bytes:
    """JSON as Python writes it, with NaN and lone surrogates where they are."""
    return json.dumps(value, separators=(",", ":")).encode()


_JSON_BITS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b'"\\ud800"',
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 4400,
    b"[" * 2000,
    b'{"a":' * 2000,
    b'"x":1,"x":2',
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
    b"null",
    b"01",
    b"0x10",
    b"//",
    b"'",
    b"\\u0000",
    b"\\",
)


def spoil_json(rng: Random, text: bytes) -> bytes:
    """A JSON text with other values, or that is none any more."""
    if rng.random() < 0.65:
        try:
            return dump_json(spoil_values(rng, json.loads(text)))
        except ValueError:
            pass
    if rng.random() < 0.5:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice(_JSON_BITS) + text[at + rng.choice((0, 1, 5)) :]
    return damage.spoil(rng, text)


_YAML_BITS = (
    "&a [*a, *a]",
    "&b {<<: *b}",
    "*nowhere",
    "<<: {a: 1}",
    "!!python/object/apply:os.system ['true']",
    "!!python/name:os.system",
    "!!binary 'AAAA='",
    "!!binary '@@'",
    "!!timestamp 2001-99-99",
    "2001-01-01",
    "2001-13-41",
    "0001-01-01T25:61:61",
    "!!int ''",
    "!!int x",
    "!!float .",
    "!!bool x",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!null x",
    "!!str",
    "0o17",
    "0x",
    "0b",
    "0b2",
    "1:30:30",
    "190:20:30.15",
    ".inf",
    ".nan",
    "1_000",
    "_",
    "+",
    "-",
    "=",
    "~",
    "9" * 5000,
    "? [a, b]",
    "? {a: b}\n: c",
    "[" * 900,
    "{a: " * 900,
    "- " * 900,
    "'unclosed",
    '"\\ud800"',
    '"\\xZZ"',
    "|\n  text",
    "%YAML 9.9",
    "--- a\n--- b",
    "...",
    "\t",
    "\x07",
    "\ufeff",
    "# only a comment",
    "a: &x " + "y" * 30 + "\nb: [*x,*x,*x,*x]",
)
_TOML_BITS = (
    "9" * 5000,
    "0x" + "f" * 4000,
    "[" * 900,
    "{a = " * 900,
    "2001-99-99",
    "1979-05-27T07:32:00Z",
    "25:61:61",
    "nan",
    "inf",
    "-inf",
    "1e999",
    '"""unclosed',
    "'''x'''",
    '"\\ud800"',
    '"\\U0010ffff"',
    "[sde]",
    "[[sde]]",
    "[sde.T]",
    "a.b.c.d = 1",
    "true",
    "TRUE",
    "_1",
    "1__0",
    "\x07",
    "\ufeff",
    "[a" + ".a" * 900 + "]",
    "= 1",
    "x = ",
)


def spoil_lines(rng: Random, text: bytes, bits: tuple[str, ...]) -> bytes:
    """A text of lines `name: value` or `name = value`, with some lines lost, doubled, moved, or with other values."""
    lines = text.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        k = rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind == 0 and len(lines) > 1:
            del lines[k]
        elif kind == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[k])
        elif kind == 2:
            lines.insert(k, rng.choice(bits))
        elif kind == 3:
            lines[k] = rng.choice((" ", "    ", "\t", "")) + lines[k].lstrip()
        elif kind == 4:
            lines[k] = lines[k] + rng.choice(("\r", " x", ":", ",", "'", '"', "#", " &a", " *a"))
        else:
            lines[k] = _other_value(rng, lines[k], bits)
    made = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damage.spoil(rng, made) if rng.random() < 0.15 else made


def _other_value(rng: Random, line: str, bits: tuple[str, ...]) -> str:
    for mark in (":", "=", " "):
        name, found, value = line.partition(mark)
        if found and value:
            break
    strange = rng.choice(STRANGE)
    shown = json.dumps(strange) if rng.random() < 0.5 else str(strange)
    return f"{name}{found} {rng.choice((rng.choice(bits), shown))}"


def spoil_yaml(rng: Random, text: bytes) -> bytes:
    """An options file that is not what it should be."""
    return spoil_lines(rng, text, _YAML_BITS)


def spoil_toml(rng: Random, text: bytes) -> bytes:
    """A recipe that is not what it should be."""
    return spoil_lines(rng, text, _TOML_BITS)
