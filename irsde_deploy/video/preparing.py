"""Whether a video can be written, and what of it an earlier run has done."""

from __future__ import annotations

import os
from contextlib import suppress

from ..errors import InputFileError, OutputFileError, refuse
from ..system.files import require_writable
from .job import VideoJob
from .piece_files import Piece
from .work_folder import WorkFolder


def prepare(job: VideoJob) -> tuple[WorkFolder, list[Piece]]:
    """Look whether the job can be done, and what is done of it; settles the work folder and keeps other runs away.

    Raises:
        OutputFileError: the output exists, an earlier run was cut off, another is at work, or it cannot be written.
        InputFileError: the earlier run was of something else.
    """
    work = WorkFolder(job.target)
    require_writable(job.target)
    is_source = os.path.realpath(job.target) == os.path.realpath(job.source.path)
    if is_source:
        raise OutputFileError(f"{job.target} is the input and would be replaced: choose another output")
    if not work.exists:
        _refuse_existing(job)
    work.claim()
    try:
        return work, _done(job, work)
    except BaseException:
        work.release()
        raise


def _refuse_existing(job: VideoJob) -> None:
    """Raise OutputFileError where the output is there, and not to be replaced."""
    is_there = job.target.exists() and not job.overwrite
    refuse(
        [
            (
                is_there and job.resume,
                f"{job.target}: is done already, there is nothing to resume: `overwrite` makes it anew",
            ),
            (is_there, f"{job.target}: exists already: pass `overwrite` to replace it"),
        ],
        OutputFileError,
    )


def _done(job: VideoJob, work: WorkFolder) -> list[Piece]:
    """The pieces of an earlier run that is continued; none where the job begins anew, or all is done."""
    if work.finished is not None and not job.overwrite:
        _require_resumed(job, work)
        return []
    if not work.may_replace:
        _refuse_existing(job)
    if work.exists and job.resume:
        return work.resume(job.manifest())
    if work.exists and not job.overwrite:
        raise OutputFileError(
            f"{job.target}: an earlier run was cut off: pass `resume` to continue it or `overwrite` to begin anew"
        )
    work.begin(job.manifest())
    return []


def _require_resumed(job: VideoJob, work: WorkFolder) -> None:
    """Clear up after a run that has ended, and was killed before it had, unless this is to do it by resuming that."""
    if job.resume:
        with suppress(InputFileError):
            work.require_same(job.manifest())
            return
    work.clear()
    _refuse_existing(job)
