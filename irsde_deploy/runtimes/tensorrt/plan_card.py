"""PlanCard: what a TensorRT plan is, kept inside it and read without TensorRT.

The plan's network is named `irsde-card:` + compact JSON, which stays verbatim inside the serialized plan. So the plan
is pure (trtexec, Triton and DeepStream load it), needs no second file, and is checked before TensorRT sees a byte.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import re
import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.card import ModelCard
from ...errors import EngineError, InvalidValueError, refuse
from ...system.decoding import convert, inside
from ...system.files import require_readable
from ...system.parsing import parse_json, shown
from ..device.drivers.probe import Device
from .options import BuildOptions

PREFIX = "irsde-card:"
MAX_NAME = 4095
"""Characters that TensorRT keeps of a network's name."""

MOST_COPIES = 64
"""Places of a plan that are looked at for its card: TensorRT writes a network's name once or twice."""

PLAN_SCHEMA = 1
RTX_DEFAULT = (8, 0)
"""Lowest compute capability of an RTX plan that names none."""


@dataclass(frozen=True)
class PlanCard:
    """Everything that decides whether and how a plan can be run.

    Attributes:
        model: the model's card, with the precision of the plan's graph.
        build: how it was built: backend, profiles and the rest.
        version: of the TensorRT that built it.
        gpu: name of the GPU that it was built on; empty for one built ahead of time.
        compute_capabilities: such as `8.9`; of the building GPU, or those chosen; none for an RTX plan that runs on 8.0
            and later.
        onnx: where the ONNX file was, seen from the plan's folder; onnx_sha256: of its content.
        platform: such as `Linux x86_64`; RTX plans run on others too.
        tool_version: of irsde-deploy.

    Raises:
        InvalidValueError: a text that does not print, or a source that is no .onnx file.
    """

    model: ModelCard
    build: BuildOptions
    version: str
    gpu: str
    compute_capabilities: tuple[str, ...]
    onnx: str
    onnx_sha256: str
    platform: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    tool_version: str = ""

    def __post_init__(self) -> None:
        # A plan may come from anywhere, and its texts go to terminals and into the command that rebuilds it
        texts = (self.version, self.gpu, self.onnx, self.onnx_sha256, self.platform, self.tool_version)
        hidden = [text for text in (*texts, *self.compute_capabilities) if not text.isprintable()]
        refuse(
            [
                (bool(hidden), f"{shown(hidden)} cannot be printed"),
                (Path(self.onnx).suffix.lower() != ".onnx", f"its source is no .onnx file, but {shown(self.onnx)}"),
            ]
        )

    def network_name(self) -> str:
        """What the network is named.

        Raises:
            InvalidValueError: longer than TensorRT keeps.
        """
        content = {
            "schema": PLAN_SCHEMA,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "model": self.model.to_dict(),
            "build": asdict(self.build),
        }
        name = PREFIX + json.dumps(content, separators=(",", ":"))
        if len(name) > MAX_NAME:
            raise InvalidValueError(
                f"the plan's card takes {len(name)} characters and TensorRT keeps {MAX_NAME}: "
                "build with fewer profiles or a shorter file name"
            )
        return name

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for people and scripts."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("model", "build")}
        fields["compute_capabilities"] = list(self.compute_capabilities)
        profiles = [str(profile) for profile in self.build.profiles]
        return {
            **fields,
            "runs_on": self.needs,
            "build": {
                **asdict(self.build),
                "compute_capabilities": list(self.build.compute_capabilities),
                "profiles": profiles,
            },
            "card": self.model.to_dict(),
        }

    @property
    def needs(self) -> str:
        """What it runs on, in words."""
        if self.build.backend == "tensorrt-rtx" and not self.compute_capabilities:
            return f"any GPU of compute capability {_dotted(RTX_DEFAULT)} or later"
        if self.build.hardware_compatible:
            return "any GPU of compute capability 8.0 or later"
        return f"a GPU of compute capability {' or '.join(self.compute_capabilities)}"

    def source(self, plan: Path) -> Path:
        """The ONNX file that it was built from, where it was then."""
        return Path(os.path.normpath(plan.parent / self.onnx))

    def rebuild_options(self, device: Device | None) -> BuildOptions:
        """How to build it again for a GPU: as it was built, but for that GPU if it does not run there."""
        if device is None or self.build.backend != "tensorrt-rtx" or _device_fits(self, device):
            return self.build
        return replace(self.build, compute_capabilities=(_dotted(device.compute_capability),))

    def rebuild_command(self, plan: Path, device: Device | None = None) -> str:
        """The command that builds it again for a GPU (by default, the one that it was built for)."""
        parts = ["irsde-deploy build", shlex.quote(str(self.source(plan))), "-o", shlex.quote(str(plan))]
        options = self.rebuild_options(device).arguments(self.model)
        return " ".join([*parts, f"--precision {self.model.precision}", options, "--overwrite"])


def read_plan_card(path: Path) -> PlanCard:
    """The card inside a plan file; TensorRT is not needed.

    Raises:
        InputFileError: no such file. EngineError: no card in it, or one that cannot be read.
    """
    require_readable(path)
    with (
        inside(path, EngineError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        values = _find_card(content)
        schema = values.pop("schema")
        if schema != PLAN_SCHEMA:
            raise InvalidValueError(
                f"{_WHAT} has schema version {shown(schema)}; this irsde-deploy reads {PLAN_SCHEMA}: {_ADVICE}"
            )
        return convert(values, PlanCard, _WHAT, _ADVICE, complete=True, parts={"model": ModelCard.from_dict})


_WHAT = "the plan's card"
_ADVICE = "build the plan again"


def _find_card(content: mmap.mmap) -> dict[str, Any]:
    """The first JSON object with a schema that follows the card's prefix; without one, InvalidValueError."""
    prefix = PREFIX.encode()
    wrong = InvalidValueError("there is no card of irsde-deploy inside: make the plan with 'irsde-deploy build'")
    at = content.find(prefix)
    for _ in range(MOST_COPIES):
        if at < 0:
            break
        start = at + len(prefix)
        text = content[start : start + MAX_NAME].decode("latin-1")  # any byte is a character: the plan goes on behind
        try:
            values = parse_json(text, _WHAT, MAX_NAME, rest=True)
        except InvalidValueError as error:
            if text.startswith('{"schema"'):  # it was ours, and there may still be another copy
                wrong = error
        else:
            if isinstance(values, dict) and "schema" in values:
                return values
        at = content.find(prefix, start)
    raise wrong


def differences(
    card: PlanCard,
    version: str | None,
    device: Device | None,
    system: str | None = None,
    onnx_sha256: str | None = None,
) -> list[str]:
    """Why a plan cannot run here, or should not, each in words; empty where it can.

    Args:
        card: of the plan.
        version: of the installed TensorRT of the plan's backend; None where there is none.
        device: the GPU; None where there is none.
        system: such as `Linux x86_64`; this machine's by default.
        onnx_sha256: of the ONNX file that it was built from, as it is now; None where it is not there.
    """
    system = system or f"{platform.system()} {platform.machine()}"
    rtx = card.build.backend == "tensorrt-rtx"
    found = []
    if version is None:
        found.append(f"it needs {card.build.backend} {card.version}, which is not installed")
    elif not _version_fits(card, version):
        found.append(f"it was built by {card.build.backend} {card.version}, and {version} is installed")
    if card.platform != system and not rtx:
        found.append(f"it was built on {card.platform}, and this is {system}")
    if device is None:
        found.append("it needs an NVIDIA GPU, and NVIDIA's driver sees none")
    elif not _device_fits(card, device):
        built = f" (built on {card.gpu})" if card.gpu else ""
        found.append(f"it runs on {card.needs}{built}, and this machine has {device}")
    if onnx_sha256 not in (None, card.onnx_sha256):
        found.append(f"{Path(card.onnx).name} has changed since it was built from that")
    return found


def _version_fits(card: PlanCard, version: str) -> bool:
    built, installed = _numbers(card.version), _numbers(version)
    if card.build.version_compatible:
        return built[:1] == installed[:1] and installed >= built
    return built == installed


def _device_fits(card: PlanCard, device: Device) -> bool:
    if card.build.hardware_compatible or (card.build.backend == "tensorrt-rtx" and not card.compute_capabilities):
        return device.compute_capability >= RTX_DEFAULT
    return _dotted(device.compute_capability) in card.compute_capabilities


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
