"""TensorRT's Python modules, both families: `tensorrt` (10.13 to 11) and `tensorrt_rtx`, under one import."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

