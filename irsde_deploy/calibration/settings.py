"""How a calibration is made, apart from the model and the pictures; and what a run leaves to be repeated by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputFileError, InvalidValueError
from ..files import require_readable, write_atomically
from ..noise import MAX_SEED
from ..samplers import StepTable, plan_steps
from ..sde import SDE
from .ranges import METHODS

FORMAT = 1
"""Of manifests and range tables; another one is not read."""

MAX_JSON = 16_000_000
REST = ("fp32", "fp16")
"""What the layers that are not INT8 compute in."""


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
        if self.method not in METHODS or self.rest not in REST:
            raise InvalidValueError(
                f"method must be one of {', '.join(METHODS)} and rest one of {', '.join(REST)}, "
                f"not {self.method!r} and {self.rest!r}"
            )
        if not 0 <= self.seed <= MAX_SEED or not 16 <= self.crop <= 4096:
            raise InvalidValueError(
                f"seed must be from 0 to 2^64 - 1 and crop from 16 to 4096 pixels, not {self.seed} and {self.crop}"
            )
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
class Manifest:
    """What a run was made of: enough to make it again, byte for byte with the same packages.

    Attributes:
        settings: with the number of states that it came to.
        data: the pictures' folders as they were named. pictures: name and SHA-256 of each file.
        model_sha256: of the ONNX file. graph_sha256: of its graph alone, which decides.
        float_layers: those that stayed in floating point, of those that could be quantised.
        ranges: name of the range table's file.
        output_sha256: of the ONNX file that was written.
        packages: name -> version of what it hangs on.
    """

    settings: CalibrationSettings
    data: str
    pictures: tuple[dict[str, str | None], ...]
    model_sha256: str
    graph_sha256: str
    float_layers: tuple[str, ...]
    ranges: str
    output_sha256: str
    packages: dict[str, str]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """Read what `Manifest.write` wrote.

    Raises:
        InputFileError: no such file, or not a manifest.
    """
    values = read_json(path, "a calibration manifest")
    try:
        settings = values.pop("settings")
        _require_fields(settings, CalibrationSettings)
        _require_fields(values, Manifest, "settings")
        for name, kind in (("data", str), ("packages", dict), ("float_layers", list)):
            if not isinstance(values[name], kind):
                raise TypeError(f"{name} is {values[name]!r}")
        pictures = tuple(_picture(picture) for picture in values["pictures"])
        values |= {"pictures": pictures, "float_layers": tuple(map(str, values["float_layers"]))}
        return Manifest(settings=CalibrationSettings(**settings), **values)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputFileError(f"{path}: not a calibration manifest that this irsde-deploy can read ({error})") from None


def _picture(values: Mapping[str, Any]) -> dict[str, str | None]:
    gt = values["gt_sha256"]
    return {
        "name": str(values["name"]),
        "lq_sha256": str(values["lq_sha256"]),
        "gt_sha256": None if gt is None else str(gt),
    }


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
        raise InputFileError(f"{path}: not {what} of format {FORMAT}")
    return values


def _require_fields(values: Mapping[str, Any], of: type, *without: str) -> None:
    expected = {field.name for field in fields(of)} - set(without)
    if set(values) != expected:
        raise ValueError(f"its entries are {', '.join(sorted(values))}")
