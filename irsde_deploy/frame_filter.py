"""What the plug-ins for video frameworks share: a frame's number and picture in, the restored picture out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidValueError
from .noise import seeded_noise
from .noise_level import blind_sde, estimate_start
from .restorer import load
from .runtimes.pictures import require_rgb_pictures
from .runtimes.tile_choice import Tile, choices

NOISES = ("fixed", "per-frame")


@dataclass(frozen=True)
class FrameSettings:
    """How every frame is restored; the arguments of a `Restorer`'s call, and which noise a frame gets.

    Attributes:
        quality, sampler, steps, seed, noise_level, clip: see `Restorer.__call__`. Without a noise level, a model of a
            Denoising-SDE gets an estimate of each frame's.
        tile, overlap: the same; as on the command line, `auto` by default.
        noise: `fixed`, the same field for all frames, or `per-frame`, a field for each frame's number.
    """

    quality: str | None = None
    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    noise: str = "fixed"
    noise_level: float | None = None
    clip: bool = False
    tile: Tile = "auto"
    overlap: int | None = None

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise InvalidValueError(f"noise must be one of {', '.join(NOISES)}, not {self.noise!r}")
        seeded_noise(self.seed, (1, 3, 1, 1))  # raises for a seed out of range


class FrameFilter:
    """Frames through one engine, one at a time: engines keep buffers, and frameworks ask from several threads.

    Args:
        engine: file of an engine for RGB pictures; `device`, `provider` and `fallback` as for `irsde_deploy.load`.
        settings: for all frames.

    Raises:
        IrsdeError: an engine that cannot be opened, or settings that do not fit it; before the first frame.
    """

    def __init__(
        self,
        engine: str | Path,
        settings: FrameSettings,
        device: str | None = None,
        provider: str | None = None,
        fallback: str | Path | None = None,
    ) -> None:
        self.settings = settings
        self.restorer = load(engine, device, fallback=fallback, provider=provider)
        require_rgb_pictures(self.restorer.card, engine)
        self.restorer.plan(settings.sampler, settings.steps, noise_level=settings.noise_level, quality=settings.quality)
        choices(self.restorer.engine, (1, 4096, 4096, 3), settings.tile, settings.overlap)  # raises for wrong ones
        self._lock = threading.Lock()

    def __call__(self, number: int, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Restore frame `number` (0..2^32-1), a picture (H, W, 3) RGB of a type that a `Restorer` takes."""
        given = self.settings
        level = given.noise_level
        blind = blind_sde(self.restorer.sde, level, None)
        if blind is not None:
            level = estimate_start(np.asarray(picture), blind)
        with self._lock:
            return self.restorer(
                picture,
                given.sampler,
                given.steps,
                given.seed,
                clip=given.clip,
                noise_level=level,
                quality=given.quality,
                tile=given.tile,
                overlap=given.overlap,
                frames=[number if given.noise == "per-frame" else 0],
            )
