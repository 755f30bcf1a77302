"""From an engine file to an engine: `open_engine` picks the opener by the file's suffix from a plain dict.

Each opener imports the library that it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.card import ModelCard
from ..errors import EngineError, InputFileError, InvalidValueError, MissingPackageError
