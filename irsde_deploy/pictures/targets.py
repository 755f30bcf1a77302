"""Quality by a target: the best preset whose evaluations fit into the seconds that a picture may take, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.presets import PRESETS, quality_within
from ..core.sampling import Sampling
from ..errors import refuse
from ..restorer import Restorer
from ..system.one_of_many import Failed, attempted
from .files import read_picture
from .planning import Job


@dataclass(frozen=True)
class QualityChoice:
    """A quality that was chosen for a target.

    Attributes:
        quality: name of the preset.
        words: why it was chosen, for people.
        note: where not even this one fits, what it takes; else None.
    """

    quality: str
    words: str
    note: str | None = None


def seconds_wanted(seconds: float | None, fps: float | None, sampling: Sampling) -> float | None:
    """Seconds that a picture may take, where one of two ways says so; None where neither does.

    Args:
        seconds: `target_seconds`, a picture's.
        fps: `target_fps`, pictures a second.
        sampling: settings of the pictures, which the target completes.

    Raises:
        InvalidValueError: both ways at once, a target that is not above 0, or a quality that is said already.
    """
    if seconds is None and fps is None:
        return None
    refuse(
        [
            (
                seconds is not None and fps is not None,
                "`target_seconds` and `target_fps` say the same in two ways: leave one out",
            ),
            (
                (sampling.quality, sampling.sampler, sampling.steps) != (None, None, None),
                "a target chooses the quality: leave out `quality`, `sampler` and `steps`",
            ),
            (
                fps is not None and not 0 < fps < float("inf"),
                f"`target_fps` must be a finite number above 0, not {fps or 0:g}",
            ),
        ]
    )
    target = 1 / fps if fps is not None else seconds or 0
    quality_within(target, 1)  # raises where it is no target
    return target


def choose_quality(target: float, restorer: Restorer, sampling: Sampling, pictures: npt.NDArray[Any]) -> QualityChoice:
    """Measure an evaluation, and choose the best preset within a target.

    Args:
        target: seconds that a picture may take.
        restorer, sampling: what restores, how.
        pictures: a batch (B, H, W, 3) such as will be restored.

    Raises:
        InvalidValueError, EngineError: as for restoring.
    """
    taken = restorer.seconds_per_evaluation(pictures, sampling)
    evaluation = taken / len(pictures)
    quality, fits = quality_within(target, evaluation)
    preset = PRESETS[quality]
    height, width = pictures.shape[1:3]
    words = f"an evaluation at {width}x{height} takes {evaluation:.3g} s: {quality} ({preset})"
    if fits:
        return QualityChoice(quality, words)
    note = f"even {quality} takes {preset.steps * evaluation:.3g} s a picture, not {target:.3g} s"
    return QualityChoice(quality, words, note)


def choose_quality_for(
    target: float, restorer: Restorer, sampling: Sampling, jobs: Sequence[Job], batch: int
) -> QualityChoice | None:
    """The same at the size of the first picture that can be restored, of some files; None where none can."""
    for job in jobs:

        def choice(source: Path = job.source) -> QualityChoice:
            picture = read_picture(source).rgb
            return choose_quality(target, restorer, sampling, np.stack([picture] * min(batch, len(jobs))))

        chosen = attempted(choice, job.source)
        if not isinstance(chosen, Failed):  # what has failed is told when its turn comes
            return chosen
    return None
