"""How a calibration is made, apart from the model and the pictures; and what a run leaves to be repeated by."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..core.card import ModelCard
from ..core.noise import MAX_SEED
from ..core.samplers import SAMPLERS, StepTable, plan_steps
from ..core.sde import SDE
from ..errors import InputFileError, InvalidValueError
from ..system.files import require_readable
from ..system.tables import write_json
from .ranges import METHODS

FORMAT = 4
"""Of manifests and range tables; another one is not read. To be raised with every change of how states are drawn or
ranges chosen: their keys hold it."""

MAX_JSON = 16_000_000
REST = ("fp32", "fp16")
"""What the layers that are not INT8 compute in."""

UNREADABLE = (TypeError, KeyError, AttributeError, ValueError, OverflowError)
"""What reading JSON of the wrong form raises."""

_MANIFEST_TYPES: dict[str, type] = {
    "settings": dict,
    "data": list,
    "pictures": list,
    "model_sha256": str,
    "graph_sha256": str,
    "sde": dict,
    "float_layers": list,
    "ranges": dict,
    "output_sha256": str,
    "packages": dict,
}
_SETTINGS_TYPES: dict[str, type | tuple[type, ...]] = {
    "sampler": str,
    "timesteps": list,
    "debias": bool,
    "clip": bool,
    "seed": int,
    "crop": int,
    "method": str,
    "states": int,
    "most_states": int,
    "residuals": bool,
    "rest": str,
    "psnr_budget": (int, float),
}
_PICTURE = ("name", "lq_sha256", "gt_sha256")
_SHA256 = re.compile("[0-9a-f]{64}")
_TABLE_NAME = re.compile(r"ranges-[\w-]+\.json", re.ASCII)


@dataclass(frozen=True)
class CalibrationSettings:
    """The settings of a calibration.

    Attributes:
        sampler, timesteps, debias, clip: the trajectory whose states the network is calibrated for.
        seed: of crops and noise. crop: largest side of a state, pixels.
        method: one of `METHODS`, which ranges are taken.
        states: how many; None: doubled until the ranges have converged, up to `most_states`.
        residuals: whether residual sums are quantised too.
        rest: one of `REST`.
        psnr_budget: dB that restored pictures must have against FP32's; None: every layer becomes INT8.

    Raises:
        InvalidValueError: a value is out of range.
    """

    sampler: str
    timesteps: tuple[int, ...]
    debias: bool = False
    clip: bool = False
    seed: int = 0
    crop: int = 128
    method: str = "mse"
    states: int | None = None
    most_states: int = 2048
    residuals: bool = False
    rest: str = "fp32"
    psnr_budget: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "timesteps", tuple(int(t) for t in self.timesteps))
        decreasing = all(later < earlier for earlier, later in itertools.pairwise(self.timesteps))
        if not self.timesteps or not decreasing or self.timesteps[-1] < 1:
            raise InvalidValueError(f"timesteps must strictly decrease within 1..T, not {list(self.timesteps)!r}")
        if self.sampler not in SAMPLERS:
            raise InvalidValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.method not in METHODS or self.rest not in REST:
            raise InvalidValueError(
                f"method must be one of {', '.join(METHODS)} and rest one of {', '.join(REST)}, "
                f"not {self.method!r} and {self.rest!r}"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidValueError(f"seed must be from 0 to 2^64 - 1, not {self.seed}")
        if not 16 <= self.crop <= 4096:
            raise InvalidValueError(f"crop must be from 16 to 4096 pixels, not {self.crop}")
        count = self.most_states if self.states is None else self.states
        if not len(self.timesteps) <= count <= 1_000_000:
            raise InvalidValueError(
                f"states must be at least the {len(self.timesteps)} timesteps, and a million at most, not {count}"
            )
        if self.psnr_budget is not None and not 0 < self.psnr_budget <= 200:
            raise InvalidValueError(f"a PSNR budget is above 0 and up to 200 dB, not {self.psnr_budget:g}")

    def table(self, sde: SDE) -> StepTable:
        """The step table that visits the timesteps."""
        return plan_steps(sde, self.sampler, self.timesteps, self.debias)

    @property
    def first_states(self) -> int:
        """States of the first round: whole turns of the timesteps, 32 or a little more, or as many as are wanted."""
        turns = -(-32 // len(self.timesteps))
        return min(turns * len(self.timesteps), self.most_states) if self.states is None else self.states


@dataclass(frozen=True)
class TableFile:
    """A range table's file: its name, without a folder, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a run was made of: enough to make it again, byte for byte with the same packages on the same kind of
    processor.

    Attributes:
        settings: with the number of states that it came to.
        data: the pictures' folder, or those of the degraded and of the clean ones, seen from the manifest.
        pictures: name and SHA-256 of each file.
        model_sha256: of the ONNX file. graph_sha256: of its graph alone, which decides.
        sde: the network's, as the card has it; decides, too.
        float_layers: those that stayed in floating point, of those that could be quantised.
        ranges: the range table's file.
        output_sha256: of the ONNX file that was written.
        packages: name -> version of what it hangs on.
    """

    settings: CalibrationSettings
    data: tuple[str, ...]
    pictures: tuple[dict[str, str | None], ...]
    model_sha256: str
    graph_sha256: str
    sde: dict[str, Any]
    float_layers: tuple[str, ...]
    ranges: TableFile
    output_sha256: str
    packages: dict[str, str]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)}, indent=1)


def read_manifest(path: Path) -> Manifest:
    """Read what `Manifest.write` wrote.

    Raises:
        InputFileError: no such file, or not a manifest.
    """
    values = read_json(path, "a calibration manifest")
    try:
        require_fields(values, Manifest)
        require_types(values, _MANIFEST_TYPES)
        texts(values["packages"].values())
        for name in ("model_sha256", "graph_sha256", "output_sha256"):
            _require_sha256(values[name])
        read = {
            "settings": _settings(values["settings"]),
            "data": _folders(values["data"]),
            "pictures": _pictures(values["pictures"]),
            "float_layers": tuple(texts(values["float_layers"])),
            "ranges": _table_file(values["ranges"]),
        }
        return Manifest(**{**values, **read})
    except (*UNREADABLE, InvalidValueError) as error:
        raise InputFileError(
            f"{path}: not a calibration manifest that this irsde-deploy can read ({error}): calibrate again without it"
        ) from None


def _settings(values: dict[str, Any]) -> CalibrationSettings:
    require_fields(values, CalibrationSettings)
    optional = {name for name in ("states", "psnr_budget") if values[name] is None}
    require_types(values, {name: kind for name, kind in _SETTINGS_TYPES.items() if name not in optional})
    if values["psnr_budget"] is not None:
        finite(values["psnr_budget"])
    for t in values["timesteps"]:
        require_types({"a timestep": t}, {"a timestep": int})
    return CalibrationSettings(**values)


def _folders(values: list[Any]) -> tuple[str, ...]:
    if not 1 <= len(values) <= 2:
        raise ValueError("data must be one folder or two")
    return tuple(texts(values))


def _table_file(values: dict[str, Any]) -> TableFile:
    require_fields(values, TableFile)
    require_types(values, {"name": str, "sha256": str})
    if not _TABLE_NAME.fullmatch(values["name"]):
        raise ValueError(f"{values['name']!r} is not the name of a range table")
    _require_sha256(values["sha256"])
    return TableFile(**values)


def _require_sha256(value: str) -> None:
    if not _SHA256.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is not a SHA-256 in hexadecimal digits")


def _pictures(values: list[Any]) -> tuple[dict[str, str | None], ...]:
    found = tuple(map(_picture, values))
    if not found or len({picture["name"] for picture in found}) < len(found):
        raise ValueError("pictures must be at least one, and none twice")
    return found


def _picture(values: dict[str, Any]) -> dict[str, str | None]:
    if set(values) != set(_PICTURE):
        raise ValueError(f"a picture's entries must be {', '.join(_PICTURE)}")
    optional = "gt_sha256" if values["gt_sha256"] is None else ""
    require_types(values, {name: str for name in _PICTURE if name != optional})
    return {name: values[name] for name in _PICTURE}


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file of our format, without its entry `format`.

    Raises:
        InputFileError: no such file, too large, or not of that format.
    """
    require_readable(path)
    if path.stat().st_size > MAX_JSON:
        raise InputFileError(f"{path}: too large to be {what}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: not {what} ({error})") from None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputFileError(f"{path}: not {what} of format {FORMAT}: make it again with this irsde-deploy")
    return values


def require_fields(values: Mapping[str, Any], of: Any) -> None:
    """Raise ValueError unless the entries are just the fields of a dataclass."""
    expected = {field.name for field in fields(of)}
    if missing := expected - set(values):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if surplus := set(values) - expected:
        raise ValueError(f"it has {min(surplus)!r}, which is unknown")


def require_types(values: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise TypeError unless entries have these types; a bool is no number."""
    for name, kind in types.items():
        value = values[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} has the wrong type: {json.dumps(value)[:80]}")


def texts(values: Iterable[Any]) -> list[str]:
    """The values, if each is a text."""
    found = list(values)
    for value in found:
        require_types({"an entry": value}, {"an entry": str})
    return found


def finite(value: Any) -> float:
    """A JSON number as a float, if it is a finite one."""
    require_types({"a number": value}, {"a number": (int, float)})
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return float(value)


def sde_of(card: ModelCard) -> dict[str, Any]:
    """The SDE of a card, as its JSON has it."""
    sde: dict[str, Any] = card.to_dict()["sde"]
    return sde
