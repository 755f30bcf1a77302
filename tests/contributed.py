"""The code blocks of CONTRIBUTING.md, written into a copy of the repository as its reader would.

A section `### (a) A sampler` is an example. A paragraph that begins with a number and the name of a file, such as
**1. `irsde_deploy/core/samplers.py`**, says where the blocks after it go: a `diff` block is a change, whose lines
without a plus stand exactly once in the file; any other one is a new file, or the end of one that is there. What is
indented is no code.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import documented
from places import ROOT

PAGE = ROOT / "CONTRIBUTING.md"

_EXAMPLE = re.compile(r"^### \((\w)\) ")
_FILE = re.compile(r"^\*\*\d+\. `([^`]+)`\*\*")


@dataclass(frozen=True)
class Change:
    """What an example does to one file: `old` becomes `new`; without `old`, `new` is the file or its end."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Write the change into the file under `root`."""
        path = root / self.file
        before = path.read_text() if path.exists() else ""
        if not self.old:
            between = "\n\n" if path.suffix == ".py" else "\n"
            path.write_text(before + (between if before else "") + self.new)
            return
        times = before.count(self.old)
        assert times == 1, f"in {self.file} this stands {times} times:\n{self.old}"
        path.write_text(before.replace(self.old, self.new))


@dataclass(frozen=True)
class Example:
    """One worked example: its letter, the changes, and the commands that show that it works."""

    letter: str
    changes: tuple[Change, ...]
    commands: tuple[str, ...]


def examples() -> Iterator[Example]:
    """The worked examples of CONTRIBUTING.md, in order."""
    lines = PAGE.read_text().splitlines()
    starts = [number for number, line in enumerate(lines, 1) if line.startswith("#")] + [len(lines) + 1]
    for start, end in itertools.pairwise(starts):
        if found := _EXAMPLE.match(lines[start - 1]):
            yield _example(found[1], lines, start, end)


def _example(letter: str, lines: list[str], start: int, end: int) -> Example:
    changes, commands = [], []
    for block in documented.blocks(PAGE):
        if not start < block.line < end or block.kind == "shell":
            continue
        if block.kind == "bash":
            commands += block.commands if "" not in block.left_out else []
        else:
            named = [_FILE.match(line) for line in lines[start : block.line]]
            file = next(found[1] for found in reversed(named) if found)
            changes.append(_change(file, block))
    return Example(letter, tuple(changes), tuple(commands))


def _change(file: str, block: documented.Block) -> Change:
    if block.kind != "diff":
        return Change(file, "", block.text + "\n")
    old = [line[1:] for line in block.lines if not line.startswith("+")]
    new = [line[1:] for line in block.lines if not line.startswith("-")]
    return Change(file, "\n".join(old) + "\n", "\n".join(new) + "\n")


def new_files() -> list[str]:
    """Files that the reader of CONTRIBUTING.md writes, and that are not in the repository."""
    changes = [change for example in examples() for change in example.changes]
    return [change.file for change in changes if not (ROOT / change.file).exists()]
