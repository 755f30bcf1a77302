"""Synthetic degradations by name, their parameters and limits.

`DEGRADATIONS` maps names to the functions of `pictures.spoiling`; their keyword parameters are what a recipe's section
[degradation] and `irsde-deploy degrade --set` take.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InvalidValueError
from ..system.parsing import shown
from . import spoiling
from .spoiling import Pixels

__all__ = ["DEGRADATIONS", "Degradation", "Pixels", "Seed", "degradation", "degrade_picture", "parameters_of"]

Seed: TypeAlias = "int | Sequence[int]"
"""What NumPy's `default_rng` takes: whole numbers, 0 or more."""

DEGRADATIONS: dict[str, Callable[..., Pixels]] = {
    "rain": spoiling.rain,
    "haze": spoiling.haze,
    "shadow": spoiling.shadow,
    "motion-blur": spoiling.motion_blur,
    "defocus-blur": spoiling.defocus_blur,
    "gaussian-noise": spoiling.gaussian_noise,
    "jpeg": spoiling.jpeg,
    "low-resolution": spoiling.low_resolution,
    "mask": spoiling.mask,
}
"""Name of a degradation -> its function."""

_LIMITS: dict[str, tuple[float, float]] = {
    "layers": (1, 20),
    "count": (1, 20),
    "coverage": (0, 0.95),
    "length": (1, 500),
    "width": (0.5, 200),
    "angle": (-360, 360),
    "strength": (0, 1),
    "textured": (0, 1),
    "density": (0, 20),
    "airlight": (0, 1),
    "unevenness": (0, 1),
    "size": (0.01, 2),
    "attenuation": (0, 1),
    "softness": (0, 200),
    "noise": (0, 255),
    "radius": (0.5, 100),
    "sigma": (0, 255),
    "quality": (1, 100),
    "scale": (1, 16),
    "fill": (0, 1),
}
"""Parameter -> the least and the most that it may be, whichever degradation it belongs to."""


@dataclass(frozen=True)
class Degradation:
    """A degradation with its parameters settled: a function (clean picture, seed) -> degraded picture.

    Attributes:
        kind: one of `DEGRADATIONS`.
        parameters: those that are not the function's defaults, checked.
    """

    kind: str
    parameters: Mapping[str, Any]

    def __call__(self, clean: Pixels, seed: Seed) -> Pixels:
        """Degrade a picture; both are (H, W, 3), float32 in [0, 1]."""
        return DEGRADATIONS[self.kind](clean, np.random.default_rng(seed), **self.parameters)


def degradation(kind: str, parameters: Mapping[str, Any] | None = None) -> Degradation:
    """Settle a degradation's parameters.

    Args:
        kind: one of `DEGRADATIONS`.
        parameters: keyword parameters; numbers, or pairs (low, high) where the function takes a range.

    Raises:
        InvalidValueError: an unknown kind or parameter, or a value outside its limits.
    """
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise InvalidValueError(f"degradation must be one of {', '.join(DEGRADATIONS)}, not {shown(kind)}")
    known = parameters_of(kind)
    settled = {}
    for name, value in (parameters or {}).items():
        if name not in known:
            raise InvalidValueError(f"{kind} has no parameter {shown(name)}: it takes {', '.join(known)}")
        settled[name] = _settled(kind, name, value, known[name])
    return Degradation(kind, settled)


def parameters_of(kind: str) -> dict[str, Any]:
    """The parameters of a degradation: name -> default."""
    signature = inspect.signature(DEGRADATIONS[kind])
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    # The picture and the generator have none.
    return {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}


def degrade_picture(pixels: npt.NDArray[Any], degrade: Degradation, seed: int) -> npt.NDArray[Any]:
    """Degrade pixels (H, W, 3) of uint8 or uint16, and round back to the same type."""
    white = np.iinfo(pixels.dtype).max
    degraded = degrade((pixels / np.float32(white)).astype(np.float32), seed)
    rounded: npt.NDArray[Any] = np.rint(np.clip(degraded, 0, 1) * white).astype(pixels.dtype)
    return rounded


def _settled(kind: str, name: str, value: Any, default: Any) -> Any:
    """A parameter's value as the function takes it, once it is known to be allowed; the default tells the type."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InvalidValueError(f"{name} of {kind} must be true or false, not {shown(value)}")
        return value
    most, shape = 1, "a number"
    if isinstance(default, tuple) or name == "sigma":  # whose default is a number, since 25 is what papers take
        most, shape = 2, "a number or a pair low, high"
    ends = list(value) if isinstance(value, (list, tuple)) else [value]  # TOML and JSON have lists for pairs
    low, high = _LIMITS[name]
    if not _are_within(ends, low, high) or len(ends) > most or ends != sorted(ends):
        raise InvalidValueError(f"{name} of {kind} must be {shape} from {low:g} to {high:g}, not {shown(value)}")
    return tuple(ends) if len(ends) == 2 else ends[0]


def _are_within(values: list[Any], low: float, high: float) -> bool:
    """Whether there are values, and all of them are numbers from low to high; a NaN is not."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not low <= value <= high:
            return False
    return bool(values)
