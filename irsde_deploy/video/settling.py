"""What the first frame settles for all: quality by a target, the noise level, tiles. Files and pipes share it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.arrays import Float32
from ..core.calibrated import uncalibrated_words
from ..core.sampling import Sampling
from ..pictures.restoring import Restoring, settled_by
from ..pictures.targets import QualityChoice, choose_quality
from ..restorer import Restorer

USUAL = Sampling(tile="auto")
"""How videos are restored where nobody says."""

Tell = Callable[[str], object]
"""Takes a note, a sentence for people."""


def ignore(_: object) -> None:
    """A callback that does nothing."""


def ignore_frame(number: int, seconds: float) -> None:
    """A callback on a frame that does nothing."""


def name_of(restorer: Restorer) -> str:
    """What people know a restorer's engine by: its file, or where it has none what it runs on."""
    if restorer.files:
        return str(restorer.files[0])
    return restorer.engine.name


def with_quality(
    target_seconds: float,
    restorer: Restorer,
    sampling: Sampling,
    picture: Float32,
    batch: int,
    on_quality: Callable[[QualityChoice], object],
    tell: Tell,
) -> Sampling:
    """The sampling with the best quality within a target, measured on batches of a frame (H, W, 3)."""
    choice = choose_quality(target_seconds, restorer, sampling, np.stack([picture] * batch))
    on_quality(choice)
    if choice.note is not None:
        tell(choice.note)
    return Sampling.of(sampling, quality=choice.quality)


def restoring_for(restorer: Restorer, sampling: Sampling, picture: Float32, tell: Tell) -> Restoring:
    """What restores a video, whose first frame (H, W, 3) settles the noise level of all.

    Raises:
        InvalidValueError: settings that do not fit each other or the model.
    """
    # One level for all frames: estimates of each would flicker, and so would what is restored with them.
    settled = settled_by(sampling, restorer, picture)
    if settled != sampling:
        level = f"{settled.noise_level:.1f}"
        tell(f"noise level {level}, estimated on the first frame, is used for all: `noise_level` sets it")
    restoring = Restoring(restorer, settled)
    words = uncalibrated_words(restorer.card, restoring.uncalibrated)
    if words is not None:
        tell(f"{name_of(restorer)}: {words}")
    return restoring
