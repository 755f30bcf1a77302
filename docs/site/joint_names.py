"""Docstrings say `height, width: in pixels` once; the reference shows each name with its own type."""

from __future__ import annotations

import re
from typing import Any

import griffe

JOINT = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.+(?:\n(?P=indent) +.+)*)", re.MULTILINE)


class JointNames(griffe.Extension):
    """Repeats what is said of several names for each of them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take one object as it was read from its source."""
        if obj.docstring is not None and re.search(r"^ *(Args|Attributes):$", obj.docstring.value, re.MULTILINE):
            obj.docstring.value = JOINT.sub(_each, obj.docstring.value)


def _each(line: re.Match[str]) -> str:
    return "\n".join(f"{line['indent']}{name}: {line['text']}" for name in line["names"].split(", "))
