"""The small files of a work folder that say how files beside it looked, and the names of what lies beside an output."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputFileError, InvalidValueError, refuse
from ..system.decoding import convert
from ..system.files import write_atomically
from .piece_files import read_json

_T = TypeVar("_T")

_LONGEST = 255
"""Bytes of a file's name, on most file systems."""

State = tuple[int, int]
"""Of a file: its size, and when it was written to, in nanoseconds."""


@dataclass(frozen=True)
class PartialNote:
    """What `partial.json` holds: a file's name beside the output, and its state when it was ours."""

    name: str
    state: State | None


@dataclass(frozen=True)
class Leave:
    """What `replaces.json` holds: the state of the output that may be replaced."""

    state: State


@dataclass(frozen=True)
class End:
    """What `finished.json` holds: the state of the whole output, and how many frames it has."""

    state: State
    frames: int

    def __post_init__(self) -> None:
        refuse([(self.frames < 1, "it has no frames")])


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Write one of the small files."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content))


def read_note(path: Path, kind: Callable[..., _T]) -> _T | None:
    """What one of the small files holds; None where it is not there, or damaged."""
    try:
        return convert(read_json(path), kind, "it", complete=True)
    except (InputFileError, InvalidValueError):
        return None


def state_of(path: Path) -> State | None:
    """What changes when somebody writes to a file; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def partial_of(target: Path) -> Path:
    """The name that what is done of an interrupted run has, where that is free."""
    return target.with_name(fitting("", target.stem, f".partial{target.suffix}"))


def fitting(before: str, name: str, after: str) -> str:
    """`before`, `name` and `after` as one name; a name too long for a file is shortened, and stays one of a kind."""
    room = _LONGEST - len(os.fsencode(before + after))
    if len(os.fsencode(name)) <= room:
        return f"{before}{name}{after}"
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    kept = os.fsencode(name)[: room - len(mark)].decode("utf-8", errors="ignore")
    return f"{before}{kept}{mark}{after}"
