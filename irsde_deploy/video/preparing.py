"""Whether a video can be written, and what of it an earlier run has done."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputFileError, refuse
from ..system.files import require_writable
from .job import VideoJob
from .piece_files import Piece
from .work_folder import WorkFolder, clear_finished


def complete_already(source: Path, target: Path) -> bool:
    """Whether there is nothing to resume, because the output is there and no run that was interrupted.

    What a run has left that was killed when its output was there is deleted, so that the answer is the same before and
    after. The input itself is nobody's output.
    """
    clear_finished(target)
    if not target.is_file() or os.path.realpath(target) == os.path.realpath(source):
        return False
    return not WorkFolder(target).exists


def complete_note(target: Path) -> str:
    """What to say then."""
    return f"{target}: is complete already, there is nothing to resume: `overwrite` makes it anew"


def prepare(job: VideoJob) -> tuple[WorkFolder, list[Piece]]:
    """Look whether the job can be done, and what is done of it; settles the work folder and keeps other runs away.

    Raises:
        OutputFileError: the output exists, an earlier run was interrupted, another is at work, or it cannot be written.
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
                f"{job.target}: exists already, and the run to resume has not made it: `overwrite` begins anew",
            ),
            (is_there, f"{job.target}: exists already: pass `overwrite` to replace it"),
        ],
        OutputFileError,
    )


def _done(job: VideoJob, work: WorkFolder) -> list[Piece]:
    """The pieces of an earlier run that is continued; none where the job begins anew, or all is done."""
    if work.finished is not None and not job.overwrite:
        if not job.resume:
            work.clear()  # what a run has left that was killed before it had done that
            _refuse_existing(job)
        return []
    if not work.may_replace:
        _refuse_existing(job)
    if work.exists and job.resume:
        return work.resume(job.manifest())
    if work.exists and not job.overwrite:
        raise OutputFileError(
            f"{job.target}: an earlier run was interrupted: pass `resume` to continue it or `overwrite` to begin anew"
        )
    work.begin(job.manifest())
    return []
