"""irsde-deploy: image restoration with mean-reverting SDEs, deployed without PyTorch.

Importing this package needs NumPy alone; engines import their libraries when they are opened.
"""

from __future__ import annotations

from .card import ModelCard
from .restorer import Restorer, load
from .samplers import StepTable, plan_steps
from .sde import DenoisingSDE, MeanRevertingSDE

__version__ = "0.1.0"

__all__ = ["DenoisingSDE", "MeanRevertingSDE", "ModelCard", "Restorer", "StepTable", "load", "plan_steps"]
