"""irsde-deploy: image restoration with mean-reverting SDEs, deployed without PyTorch.

Importing this package needs NumPy alone; engines import their libraries when they are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
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

_HOMES = {
    "DenoisingSDE": "core.sde",
    "MeanRevertingSDE": "core.sde",
    "ModelCard": "core.card",
    "Restorer": "restorer",
    "StepTable": "core.samplers",
    "load": "restorer",
    "plan_steps": "core.samplers",
}
"""Public name -> the module that has it, imported when the name is first used: the command line needs few of them."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
