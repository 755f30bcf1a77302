"""What a kind of file is to the attack."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from irsde_deploy.errors import IrsdeError


class Wrong(Exception):
    """What a reader gave is not what it should have given: a fault, in words."""


@dataclass(frozen=True)
class Kind:
    """One kind of file, its damage and its reader.

    Attributes:
        name: of the kind, for the command line.
        make: writes good files into an empty folder.
        damage: (random numbers, the folder of good files, a folder to write to) -> the damaged file or folder in it.
        read: (the damaged file, a folder for outputs) reads it as a user's file would be; returns, raises an IrsdeError
            where it is refused, raises `Wrong` where a result is wrong. Anything else is a fault.
        most_seconds, most_mib: what a file may take.
        weight: its share of the attack's time.
        tools: whether what it needs is there.
    """

    name: str
    make: Callable[[Path], None]
    damage: Callable[[Random, Path, Path], Path]
    read: Callable[[Path, Path], None]
    most_seconds: float = 10
    most_mib: float = 512
    weight: float = 1
    tools: Callable[[], bool] = lambda: True


@functools.cache
def good_files(folder: Path) -> tuple[Path, ...]:
    """The files in a folder, in the order of their names."""
    return tuple(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))


def require(condition: bool, what: str) -> None:
    """Raise Wrong unless a condition holds."""
    if not condition:
        raise Wrong(what)


def refused(call: Callable[[], object]) -> IrsdeError | None:
    """The error by which a call refuses its file; None where it does not."""
    try:
        call()
    except IrsdeError as error:
        return error
    return None
