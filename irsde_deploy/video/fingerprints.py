"""What tells one run from another: its input, its engine, and what that runs on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..system.files import file_sha256

if TYPE_CHECKING:
    from ..restorer import Restorer

_ENDS = 1 << 20
"""Bytes of an input's beginning and end that are hashed."""


def file_identity(path: Path) -> list[int | str]:
    """Size of a file, and SHA-256 of its beginning and end: enough to tell it from another."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return [size, digest.hexdigest()]


def engine_identity(restorer: Restorer) -> list[str]:
    """SHA-256 of the files that a restorer and its fallback were opened from; of the card where there is no file."""
    if restorer.files:
        return [file_sha256(path) for path in restorer.files]
    return [hashlib.sha256(restorer.card.to_json().encode()).hexdigest()]
