"""Text, JSON and tables as files: whole or not at all, in UTF-8, with the same bytes on every system."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .files import write_atomically


def write_text(path: Path, text: str) -> None:
    """Write a text, whose lines end as they do in it.

    Raises:
        OutputFileError: it cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Write plain data as JSON, `indent` spaces a level, with a line end after it.

    Raises:
        OutputFileError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=indent) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file: a line with the names of the columns and a line a row, ended by CR LF as RFC 4180 has them.

    Cells are written as `str` has them, None as an empty cell.

    Raises:
        OutputFileError: it cannot be written.
    """
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a line end after it; the cells may hold no `|` of their own."""
    lines = [_markdown_row(columns), "|" + "---|" * len(columns)]
    lines += map(_markdown_row, rows)
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
