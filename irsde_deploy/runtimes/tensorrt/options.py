"""How a TensorRT plan is built: what the command `build` takes, and what a plan's card repeats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...core.card import ModelCard
from ...errors import refuse
from ...system.parsing import shown
from .profiles import Profile

BACKENDS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Backend -> the Python module that builds and runs its plans."""

MAX_OPTIMIZATION_LEVEL = 5


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        backend: `tensorrt` or `tensorrt-rtx`.
        profiles: shapes that the plan must take.
        workspace: MiB of scratch memory that kernels may use; TensorRT's own choice by default.
        optimization_level: 0 (fast build) to 5 (fast plan); TensorRT's own, 3, by default.
        compute_capabilities: such as `8.6`, for RTX plans; 8.0 and later by default. `current` is the GPU at hand.
        hardware_compatible: run on other GPU generations too, Ampere and later; costs speed. TensorRT only.
        version_compatible: run with later versions of the same major one too. TensorRT only.
        tf32: let FP32 convolutions round their inputs to 10 bits on tensor cores. Off: FP32 means FP32.
        timing_cache: whether to keep kernel timings beside the plan, for the next build. TensorRT only.

    Raises:
        InvalidValueError: out of range, or not for this backend.
    """

    backend: str
    profiles: tuple[Profile, ...]
    workspace: int | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatible: bool = False
    version_compatible: bool = False
    tf32: bool = False
    timing_cache: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "compute_capabilities", tuple(dict.fromkeys(self.compute_capabilities)))
        refuse(self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no options may be, the sentence to say then)."""
        yield self.backend not in BACKENDS, f"a backend must be one of {', '.join(BACKENDS)}, not {shown(self.backend)}"
        yield not self.profiles, "a plan needs at least one profile"
        rtx = self.backend == "tensorrt-rtx"
        yield (
            rtx and (self.hardware_compatible or self.version_compatible),
            "`hardware_compatible` and `version_compatible` are TensorRT's; a TensorRT-RTX plan runs on several "
            "generations anyway, and `compute_capabilities` chooses which",
        )
        yield (
            bool(self.compute_capabilities) and not rtx,
            "`compute_capabilities` is for TensorRT-RTX: TensorRT builds for the GPU at hand "
            "(`hardware_compatible` makes a plan for later generations too)",
        )
        for text in self.compute_capabilities:
            written = text == "current" or re.fullmatch(r"\d{1,2}\.\d", text)
            yield not written, f"a compute capability is written 8.9, or 'current', not {shown(text)}"
        yield (
            self.workspace is not None and not 1 <= self.workspace <= 2**24,
            f"`workspace` is in MiB, from 1 to {2**24}, not {self.workspace}",
        )
        level = self.optimization_level
        yield (
            level is not None and not 0 <= level <= MAX_OPTIMIZATION_LEVEL,
            f"`optimization_level` is from 0 to {MAX_OPTIMIZATION_LEVEL}, not {level}",
        )

    def arguments(self, card: ModelCard) -> str:
        """As the command line takes them for a model; what is the default is left out."""
        parts = [f"--backend {self.backend}"]
        for profile in self.profiles:
            # Sizes are of pictures where there is a margin, and not every profile is that of one.
            parts.append(profile.as_shapes(card.channels) if card.margin else profile.arguments)
        for text in self.compute_capabilities:
            parts.append(f"--compute-capability {text}")
        for name in ("hardware_compatible", "version_compatible", "tf32"):
            if getattr(self, name):
                parts.append(f"--{name.replace('_', '-')}")
        if self.workspace is not None:
            parts.append(f"--workspace {self.workspace}")
        if self.optimization_level is not None:
            parts.append(f"--opt-level {self.optimization_level}")
        if not self.timing_cache:
            parts.append("--no-timing-cache")
        return " ".join(parts)
