"""JSON that does not mean well: ways to spoil a good file, each with words that the sentence about it must have."""

from __future__ import annotations

import copy
import json
from typing import Any


def changed(good: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """The same with another value at a place such as `settings.seed`."""
    spoilt = copy.deepcopy(good)
    *parents, name = where.split(".")
    entry = spoilt
    for parent in parents:
        entry = entry[parent]
    entry[name] = value
    return spoilt


def hostile_json(good: dict[str, Any], whole: str) -> list[tuple[bytes, str]]:
    """(a file's content, what the sentence must say) of every way to spoil it.

    Args:
        good: what a file of ours holds.
        whole: where in it a whole number is that may not be null, such as `settings.seed`.
    """
    name = whole.rpartition(".")[2]
    text = json.dumps(good)
    first = json.dumps(next(iter(good)))
    duplicate = f"{{{first}: 1, {text[1:]}"
    values = [
        ("3", f"{name} must be a whole number, not '3'"),
        (True, f"{name} must be a whole number, not True"),
        (3.5, f"{name} must be a whole number, not 3.5"),
        (None, f"{name} must be a whole number, not None"),
        ([3], rf"{name} must be a whole number, not \[3\]"),
        ("x" * 1000, rf"{name} must be a whole number, not 'x{{20,30}}\.\.\.x{{20,30}}'"),
        (float("nan"), f"{whole} must be a finite number, not nan"),
        (float("-inf"), f"{whole} must be a finite number, not -inf"),
        (2**70, f"{whole} is a whole number beyond 64 bits"),
    ]
    spoilt = [(json.dumps(changed(good, whole, value)).encode(), words) for value, words in values]
    digits = json.dumps(changed(good, whole, 987654321)).replace("987654321", "9" * 4321)
    return [
        *spoilt,
        (digits.encode(), "is not valid JSON .*4321 digits|beyond 64 bits"),
        (
            json.dumps(changed(good, whole, 987654321)).replace("987654321", "1e999").encode(),
            "a finite number, not inf",
        ),
        (json.dumps({**good, "surprise": 1}).encode(), "the unknown field 'surprise'"),
        (json.dumps({key: value for key, value in good.items() if key != whole.partition(".")[0]}).encode(), "lacks"),
        (duplicate.encode(), "is there twice"),
        (b'{"a":' * 100_000, "nested too deeply|has at most|too large"),
        (b"[" * 20_000, "nested too deeply"),
        (
            json.dumps(changed(good, whole, {})).replace("{}", '{"a":' * 40 + "1" + "}" * 40).encode(),
            "nested too deeply",
        ),
        (text.encode()[:-1], "is not valid JSON"),
        (b"", "is empty|is not valid JSON"),
    ]


def not_utf8(good: dict[str, Any]) -> bytes:
    """A file that is no text."""
    return json.dumps(good).encode().replace(b'"', b'"\xff', 1)
