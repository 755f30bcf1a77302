"""How a calibration is made, apart from the model and the pictures; and what a run leaves to be repeated by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..core.card import ModelCard
from ..core.noise import MAX_SEED
from ..core.samplers import SAMPLERS, StepTable, plan_steps
from ..core.sde import SDE
from ..errors import InputFileError, InvalidValueError, refuse
from ..system.decoding import convert
from ..system.files import is_sha256
from ..system.parsing import parse_json, read_text, shown
from ..system.tables import write_json
from .data import PictureHashes
from .ranges import METHODS

T = TypeVar("T")

FORMAT = 4
"""The format of manifests and range tables; another one is not read. It is raised with every change of how states are
drawn or ranges chosen: their keys hold it."""

MAX_JSON = 16_000_000
REST = ("fp32", "fp16")
"""What the layers that are not INT8 compute in."""

_TABLE_NAME = re.compile(r"ranges-[\w-]+\.json", re.ASCII)


@dataclass(frozen=True)
class CalibrationSettings:
    """What a calibration does, settled for one model: the timesteps themselves; nothing is left to its card.

    `options.CalibrationOptions` is what is asked for before the model is known. A manifest keeps these, so that a run
    can be repeated whatever the defaults are then.

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
        refuse(self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no settings may be, the sentence to say then)."""
        decreasing = all(later < earlier for earlier, later in itertools.pairwise((*self.timesteps, 0)))
        yield (
            not self.timesteps or not decreasing,
            f"timesteps must strictly decrease within 1..T, not {shown(list(self.timesteps))}",
        )
        yield self.sampler not in SAMPLERS, f"sampler must be one of {', '.join(SAMPLERS)}, not {shown(self.sampler)}"
        yield self.method not in METHODS, f"method must be one of {', '.join(METHODS)}, not {shown(self.method)}"
        yield self.rest not in REST, f"rest must be one of {', '.join(REST)}, not {shown(self.rest)}"
        yield not 0 <= self.seed <= MAX_SEED, f"seed must be from 0 to 2^64 - 1, not {self.seed}"
        yield not 16 <= self.crop <= 4096, f"crop must be from 16 to 4096 pixels, not {self.crop}"
        count = self.most_states if self.states is None else self.states
        yield (
            not len(self.timesteps) <= count <= 1_000_000,
            f"states must be at least the {len(self.timesteps)} timesteps, and a million at most, not {count}",
        )
        yield (
            self.psnr_budget is not None and not 0 < self.psnr_budget <= 200,
            f"a PSNR budget is above 0 and up to 200 dB, not {self.psnr_budget}",
        )

    def table(self, sde: SDE) -> StepTable:
        """The step table that visits the timesteps."""
        return plan_steps(sde, self.sampler, self.timesteps, self.debias)

    @property
    def first_states(self) -> int:
        """States of the first round: whole turns of the timesteps, 32 or a little more, or as many as are wanted."""
        if self.states is not None:
            return self.states
        turns = -(-32 // len(self.timesteps))
        return min(turns * len(self.timesteps), self.most_states)


@dataclass(frozen=True)
class TableFile:
    """A range table's file: its name, without a folder, and its SHA-256.

    Raises:
        InvalidValueError: not the name of a range table, or not a SHA-256.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        # The name comes out of a manifest, and a file of that name is read: no path, whatever the manifest says
        other = _TABLE_NAME.fullmatch(self.name) is None
        refuse([(other, f"{shown(self.name)} is not the name of a range table"), _other_than_sha256(self.sha256)])


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

    Raises:
        InvalidValueError: no pictures or one twice, not one folder or two, or not a SHA-256.
    """

    settings: CalibrationSettings
    data: tuple[str, ...]
    pictures: tuple[PictureHashes, ...]
    model_sha256: str
    graph_sha256: str
    sde: dict[str, Any]
    float_layers: tuple[str, ...]
    ranges: TableFile
    output_sha256: str
    packages: dict[str, str]

    def __post_init__(self) -> None:
        refuse(self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no manifest may be, the sentence to say then)."""
        yield len(self.data) not in (1, 2), "data must be one folder or two"
        names = {picture.name for picture in self.pictures}
        yield not 0 < len(names) == len(self.pictures), "pictures must be at least one, and none twice"
        for text in (self.model_sha256, self.graph_sha256, self.output_sha256):
            yield _other_than_sha256(text)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)}, indent=1)


def read_manifest(path: Path) -> Manifest:
    """Read what `Manifest.write` wrote.

    Raises:
        InputFileError: no such file, or not a manifest.
    """
    return read_ours(path, Manifest, "a calibration manifest", "calibrate again without it")


def read_ours(path: Path, kind: Callable[..., T], what: str, advice: str) -> T:
    """A dataclass out of a JSON file of our format, which has all of its fields.

    Raises:
        InputFileError: no such file, too large, or not of that format.
    """
    text = read_text(path, MAX_JSON, what)
    try:
        values = parse_json(text, "it", MAX_JSON)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise InvalidValueError(f"it is not of format {FORMAT}")
        return convert(values, kind, "it", complete=True)
    except InvalidValueError as error:
        raise InputFileError(f"{path}: is not {what} that this irsde-deploy can read ({error}): {advice}") from None


def _other_than_sha256(text: str) -> tuple[bool, str]:
    return not is_sha256(text), f"{shown(text)} is not a SHA-256 in hexadecimal digits"


def sde_of(card: ModelCard) -> dict[str, Any]:
    """The SDE of a card, as its JSON has it."""
    sde: dict[str, Any] = card.to_dict()["sde"]
    return sde
