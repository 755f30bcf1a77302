"""Many files restored in turn: a broken one never stops the rest.

Pictures that are neighbours of one size are restored as a batch, which changes at most the last rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import IrsdeError
from .files import Picture, losses, read_picture, require_target, write_picture
from .planning import Job

RestoreBatch: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""(B, H, W, 3) -> the same shape and type."""

_FOR_THIS_SIZE = "for a picture of this size"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: that was done, or tried.
        error: why nothing was written, in a sentence; None where the output is there.
        missing: what the output lacks because its input is damaged, for which the job counts as failed.
        lost: what the output's format cannot hold.
    """

    job: Job
    error: str | None = None
    missing: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the job counts as failed."""
        return self.error is not None or bool(self.missing)


@dataclass
class Tally:
    """How many jobs ended how."""

    written: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        if outcome.failed:
            self.failed += 1
        else:
            self.written += 1


def in_turn(restore: Callable[[Job], Outcome], jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Do every job, whatever becomes of those before it; only a reader that has gone ends them all."""
    for job in jobs:
        try:
            outcome = restore(job)
        except BrokenPipeError:
            raise
        except (IrsdeError, MemoryError, OSError) as error:
            outcome = Outcome(job, failure(error, job.source, "for frames of this size"))
        yield outcome


def failure(error: Exception, path: Path, memory_for: str) -> str:
    """What went wrong with one of many files, in a sentence that names the file.

    Args:
        error: one of ours, which say that themselves; of memory, which are often mute; or of the operating system.
        path: of the file.
        memory_for: what there was not enough memory for, where the error is mute.
    """
    if isinstance(error, OSError) and not isinstance(error, IrsdeError):
        name = str(error.filename or path).removeprefix("file:")  # as FFmpeg is given names
        return f"{name}: {error.strerror or error}"
    return str(error) or f"{path}: not enough memory {memory_for}"


def restore_files(restore: RestoreBatch, jobs: Sequence[Job], batch: int = 1) -> Iterator[Outcome]:
    """Read, restore and write every picture, in order, `batch` neighbours of one size at a time."""
    waiting: list[tuple[Job, Picture]] = []
    for job in jobs:
        try:
            picture = read_picture(job.source)
            require_target(job.target, picture)
        except (IrsdeError, MemoryError) as error:
            yield Outcome(job, failure(error, job.source, _FOR_THIS_SIZE))
            continue
        if waiting and (len(waiting) == batch or not _alike(waiting[0][1], picture)):
            yield from _restore_alike(restore, waiting)
            waiting = []
        waiting.append((job, picture))
    if waiting:
        yield from _restore_alike(restore, waiting)


def _restore_alike(restore: RestoreBatch, group: list[tuple[Job, Picture]]) -> Iterator[Outcome]:
    """Restore pictures of one size together; one by one, should that fail."""
    try:
        restored = restore(np.stack([picture.rgb for _, picture in group]))
    except (IrsdeError, MemoryError) as error:
        if len(group) > 1:  # what fails together, for want of memory, may work alone
            for entry in group:
                yield from _restore_alike(restore, [entry])
            return
        job = group[0][0]
        words = str(error) or f"not enough memory {_FOR_THIS_SIZE}"
        yield Outcome(job, f"{job.source}: {words}")  # engines do not know files
        return
    for (job, picture), rgb in zip(group, restored, strict=True):
        yield _written(job, picture, rgb)


def _written(job: Job, picture: Picture, rgb: npt.NDArray[Any]) -> Outcome:
    """Write a restored picture."""
    try:
        write_picture(job.target, picture.with_rgb(rgb))
    except (IrsdeError, MemoryError) as error:
        return Outcome(job, failure(error, job.target, "to encode it"))
    return Outcome(job, lost=tuple(losses(picture, job.target)))


def _alike(one: Picture, other: Picture) -> bool:
    """Whether two pictures can be restored in one batch."""
    return one.rgb.shape == other.rgb.shape and one.rgb.dtype == other.rgb.dtype
