"""The values of steps.txt (`steps_file`): parsers that take what is written there, and nothing else.

Each takes a text and raises ValueError, with a sentence about it, where it is none of its kind or out of range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from ..system.files import is_sha256

_MAX_COEFFICIENT = 1e30  # still finite in float32, which runtimes compute in
_MAX_TOLERANCE = 0.5
_MAX_DIGITS, _MAX_EXPONENT = 15, 2000  # of hexadecimal floats, where a double has 14 digits and an exponent of 1023


def whole(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers in a range; int() alone would take signs, spaces and underscores too."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise ValueError(f"{text[:40]!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def flag(text: str) -> bool:
    """0 or 1."""
    return bool(whole(0, 1)(text))


def coefficient(text: str) -> float:
    """A number of the step table, of either sign."""
    value = _hexadecimal(text)
    if abs(value) > _MAX_COEFFICIENT:
        raise ValueError(f"{text[:40]!r} is out of range")
    return value


def tolerance(text: str) -> float:
    """How far a restored reference may be from the pack's."""
    value = _hexadecimal(text)
    if not 0 < value <= _MAX_TOLERANCE:
        raise ValueError(f"{text[:40]!r} is not above 0 and at most {_MAX_TOLERANCE}")
    return value


def _hexadecimal(text: str) -> float:
    """Read a float as C and Python print it in hexadecimal; float.fromhex() alone takes more, such as "nan"."""
    found = re.fullmatch(r"-?0x([0-9a-f]+)(?:\.([0-9a-f]+))?p[+-]([0-9]{1,4})", text)
    if not found or len(found[1] + (found[2] or "")) > _MAX_DIGITS or int(found[3]) > _MAX_EXPONENT:
        raise ValueError(f"{text[:40]!r} is no hexadecimal float")
    try:
        return float.fromhex(text)
    except OverflowError:  # where C says infinity
        return math.inf


def sha256(text: str) -> str:
    """A SHA-256, hexadecimal."""
    if not is_sha256(text):
        raise ValueError(f"{text[:40]!r} is not 64 hexadecimal digits")
    return text


def one_of(*known: str) -> Callable[[str], str]:
    """Make a parser of texts that takes these alone."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text[:40]!r} is not one of {', '.join(known)}")
        return text

    return parse


def words(text: str) -> str:
    """Any text of one line, or none."""
    if len(text.encode()) > 800 or any(ord(character) < 32 for character in text):
        raise ValueError("it is no plain text of one line")
    return text
