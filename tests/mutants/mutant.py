"""One small fault, and the lists of them (docs/testing.md)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOMS = Path(__file__).parent / "rooms"


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands once in `file`, becomes `new`; one of `tests` must notice."""

    room: str
    fault: str  # what a user would see, in a few words: the mutant's name
    file: str  # from the repository's root
    old: str
    new: str
    tests: tuple[str, ...]  # files or folders, from the repository's root
    equivalent: str = ""  # why no user and no test can ever see it; it is not tried then

    def apply(self, root: Path) -> str:
        """Write the fault into the file under `root`; gives the file's text as it was before."""
        path = root / self.file
        before = path.read_text()
        if (times := before.count(self.old)) != 1:
            raise ValueError(f"{self.room}: {self.fault!r}: its old text stands {times} times in {self.file}")
        path.write_text(before.replace(self.old, self.new))
        return before


def read_rooms(folder: Path = ROOMS) -> list[Mutant]:
    """Every mutant of every list of a folder, in the lists' order."""
    return [mutant for path in sorted(folder.glob("*.toml")) for mutant in read_room(path)]


def read_room(path: Path) -> list[Mutant]:
    """The mutants of one list: `tests` at its top are those of every mutant that names none."""
    room = tomllib.loads(path.read_text())
    return [_mutant(path.stem, room["tests"], entry) for entry in room.get("mutant", [])]


def _mutant(room: str, tests: list[str], entry: dict[str, Any]) -> Mutant:
    return Mutant(room=room, tests=tuple(entry.pop("tests", tests)), **entry)
