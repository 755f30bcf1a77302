"""Many files restored in turn: a broken one never stops the rest.

Pictures that are neighbours of one size are restored as a batch, which changes at most the last rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..system.one_of_many import Failed, attempted
from .files import Picture, read_picture, require_target, write_picture
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
        notes: what of the input was left out, in sentences without its name.
    """

    job: Job
    error: str | None = None
    missing: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
    """Do every job, whatever becomes of those before it; what ends them all, `attempted` lets pass."""
    for job in jobs:
        outcome = attempted(partial(restore, job), job.source, "for frames of this size")
        yield Outcome(job, outcome.sentence) if isinstance(outcome, Failed) else outcome


def restore_files(restore: RestoreBatch, jobs: Sequence[Job], batch: int = 1) -> Iterator[Outcome]:
    """Read, restore and write every picture, in order, `batch` neighbours of one size at a time."""
    waiting: list[tuple[Job, Picture]] = []
    for job in jobs:
        picture = attempted(partial(_read, job), job.source, _FOR_THIS_SIZE)
        if isinstance(picture, Failed):
            yield Outcome(job, picture.sentence)
            continue
        if waiting and (len(waiting) == batch or not _alike(waiting[0][1], picture)):
            yield from _restore_alike(restore, waiting)
            waiting = []
        waiting.append((job, picture))
    if waiting:
        yield from _restore_alike(restore, waiting)


def _read(job: Job) -> Picture:
    picture = read_picture(job.source)
    require_target(job.target, picture)
    return picture


def _restore_alike(restore: RestoreBatch, group: list[tuple[Job, Picture]]) -> Iterator[Outcome]:
    """Restore pictures of one size together; one by one, should that fail."""

    def restored_together() -> npt.NDArray[Any]:
        return restore(np.stack([picture.rgb for _, picture in group]))

    first = group[0][0]
    restored = attempted(restored_together, first.source, _FOR_THIS_SIZE)
    if isinstance(restored, Failed):
        if len(group) > 1:  # what fails together, for want of memory, may work alone
            for entry in group:
                yield from _restore_alike(restore, [entry])
            return
        yield Outcome(first, restored.sentence)
        return
    for (job, picture), rgb in zip(group, restored, strict=True):
        yield _written(job, picture, rgb)


def _written(job: Job, picture: Picture, rgb: npt.NDArray[Any]) -> Outcome:
    """Write a restored picture."""
    lost = attempted(partial(write_picture, job.target, picture.with_rgb(rgb)), job.target, "to encode it")
    if isinstance(lost, Failed):
        return Outcome(job, lost.sentence)
    return Outcome(job, lost=tuple(lost), notes=picture.notes)


def _alike(one: Picture, other: Picture) -> bool:
    """Whether two pictures can be restored in one batch."""
    return one.rgb.shape == other.rgb.shape and one.rgb.dtype == other.rgb.dtype
