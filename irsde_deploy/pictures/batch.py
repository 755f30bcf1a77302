"""Many picture files restored in turn.

One broken file never stops the rest. Neighbours of one size are restored as a batch, which changes at most the
last rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import IrsdeError
from .files import Picture, losses, read_picture, require_target, write_picture
from .planning import Job

RestoreBatch = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""(B, H, W, 3) -> the same shape and type."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: written, or failed with a sentence. `lost` is what the output format cannot hold."""

    job: Job
    error: str | None = None
    lost: tuple[str, ...] = ()


def restore_files(restore: RestoreBatch, jobs: Sequence[Job], batch: int = 1) -> Iterator[Outcome]:
    """Read, restore and write every job, in order, `batch` neighbours of one size at a time."""
    waiting: list[tuple[Job, Picture]] = []
    for job in jobs:
        try:
            picture = read_picture(job.source)
            require_target(job.target, picture)
        except (IrsdeError, MemoryError) as error:
            yield Outcome(job, str(error) or f"{job.source}: not enough memory for a picture of this size")
            continue
        if waiting and (len(waiting) == batch or not _alike(waiting[0][1], picture)):
            yield from _restore_alike(restore, waiting)
            waiting = []
        waiting.append((job, picture))
    if waiting:
        yield from _restore_alike(restore, waiting)


def _restore_alike(restore: RestoreBatch, group: list[tuple[Job, Picture]]) -> Iterator[Outcome]:
    try:
        restored = restore(np.stack([picture.rgb for _, picture in group]))
    except (IrsdeError, MemoryError) as error:
        if len(group) > 1:  # what fails together, for want of memory, may work alone
            for entry in group:
                yield from _restore_alike(restore, [entry])
            return
        reason = str(error) or "not enough memory for a picture of this size"
        yield Outcome(group[0][0], f"{group[0][0].source}: {reason}")
        return
    for (job, picture), rgb in zip(group, restored, strict=True):
        try:
            write_picture(job.target, picture.with_rgb(rgb))
        except (IrsdeError, MemoryError) as error:
            yield Outcome(job, str(error) or f"{job.target}: not enough memory to encode it")
        else:
            yield Outcome(job, lost=tuple(losses(picture, job.target)))


def _alike(one: Picture, other: Picture) -> bool:
    return one.rgb.shape == other.rgb.shape and one.rgb.dtype == other.rgb.dtype
