"""The content of a file, as the readers of formats take it."""

from __future__ import annotations

from mmap import mmap
from typing import TypeAlias

Data: TypeAlias = "bytes | mmap"
"""Slices of it are bytes."""
