"""What a page of the documentation tells its reader to do: commands and Python, in order, with marks beside them.

Marks are HTML comments, which readers do not see. At a page's beginning:

    <!-- given: derain.onnx, photos/ -->                what a reader has by then, made by `given`

and before a block, for the next block alone:

    <!-- not run: needs a GPU -->                       the block is left out, for this reason
    <!-- not run, pip: network -->                      lines that begin so are, and the others run
    <!-- run, irsde-deploy train with: --patch 32 -->   what is added to lines that begin so, to be quick; in Python,
                                                        what these words are replaced by
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MARK = re.compile(r"<!-- (?:not run(?:, (?P<left>[^:]+))?: .+|run, (?P<start>.+?) with: (?P<more>.+)) -->")
_FENCE = re.compile(r"^\s*```(\w*)\s*$")


@dataclass
class Block:
    """One block of a page.

    Attributes:
        kind: `shell`, or what stands after the fence, such as `python`.
        line: its first line in the page, from 1.
        lines: its text.
        left_out: what lines that are not run begin with; an empty text leaves all of them out.
        added: (what lines begin with, what is added to them); in Python (what is replaced, by what).
    """

    kind: str
    line: int
    lines: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    added: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def python(self) -> str:
        """The Python to run, with what is replaced in it."""
        code = self.text
        for words, others in self.added:
            assert words in code, f"{words} is not in the block of line {self.line}"
            code = code.replace(words, others)
        return code

    @property
    def commands(self) -> list[str]:
        """The command lines to run, each with what continues it, and with what is added to it."""
        joined = re.sub(r" *\\\n\s*", " ", self.text).split("\n")
        commands = []
        for command in filter(None, map(str.strip, joined)):
            if any(command.startswith(start) for start in self.left_out):
                continue
            for start, more in self.added:
                if command.startswith(start):
                    head, comment, tail = command.partition("  #")
                    command = f"{head.rstrip()} {more}{comment}{tail}"
            commands.append(command)
        return commands


def given(page: Path) -> list[str]:
    """Names of what a page's reader has by then."""
    found = re.search(r"<!-- given: (.+?) -->", page.read_text(), re.DOTALL)
    return [name.strip() for name in found[1].split(",")] if found else []


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, fenced ones and those that are indented by four spaces, in order."""
    left_out, added = list[str](), list[tuple[str, str]]()
    block: Block | None = None
    fenced = False
    for number, line in enumerate([*page.read_text().splitlines(), ""], 1):
        fence = _FENCE.match(line)
        if block is None and (mark := _MARK.match(line)):
            if mark["more"]:
                added.append((mark["start"], mark["more"]))
            else:
                left_out.append(mark["left"] or "")
        elif block is None and (fence or line.startswith("    ")):
            fenced = fence is not None
            block = Block(fence[1] if fence else "shell", number, [] if fence else [line[4:]], left_out, added)
            left_out, added = [], []
        elif block is not None and (fence if fenced else not line.startswith("    ")):
            yield block
            block = None
        elif block is not None:
            block.lines.append(line if fenced else line[4:])
