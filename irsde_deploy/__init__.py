"""irsde-deploy: image restoration with mean-reverting SDEs, deployed without PyTorch.

Importing this package needs NumPy alone; engines import their libraries when they are opened.
"""

from __future__ import annotations

from ._version import __version__ as __version__
from .core.card import ModelCard
from .core.samplers import StepTable, plan_steps
from .core.sde import DenoisingSDE, MeanRevertingSDE
from .restorer import Restorer, load

__all__ = [
    "DenoisingSDE",
    "MeanRevertingSDE",
    "ModelCard",
    "Restorer",
    "StepTable",
    "load",
    "plan_steps",
]
