"""Reading and writing weights: the reference's `.pth`, our own `.pt` and `.safetensors` (weights + model card).

Nothing is unpickled but tensors and plain containers (`weights_only=True`), so an untrusted file stays harmless.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.card import METADATA_KEY, ModelCard
from ..errors import CheckpointError, InputFileError, InvalidValueError, reason, requires_extra
