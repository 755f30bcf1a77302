"""Which videos become which outputs: the rules of pictures, and what is different for videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputFileError, InvalidValueError, OutputFileError
from ..pictures.finding import Found, is_video_name
from ..pictures.planning import Job, Medium, pair_outputs
from ..system.files import missing
from .containers import CONTAINERS
from .folder_notes import fitting, partial_of

VIDEOS = Medium("video", tuple(CONTAINERS))
_SUFFIX = ".mkv"
"""Suffix of an output whose input is in a container that is not written."""


def plan_videos(inputs: Sequence[str], output: Path) -> list[Job]:
    """Pair every input video with its output.

    Args:
        inputs: names of local files.
        output: a file where there is one input and the name ends as a video's does; otherwise a folder.

    Raises:
        InputFileError: an input is not there.
        InvalidValueError: an input is not a video.
        OutputFileError: an output does not fit, or outputs would collide with each other, with an input, or with what
            an interrupted run of another would leave.
    """
    jobs = pair_outputs(VIDEOS, [_found(text) for text in inputs], inputs, output)
    _refuse_partials(jobs)
    return jobs


def _found(text: str) -> Found:
    """One input, and the name of its output in a folder."""
    path = Path(text)
    if not path.exists() and "://" not in text:
        raise missing(path)
    if not path.is_file():
        raise InputFileError(f"{text}: no such file: videos are given by the names of local files")
    if not is_video_name(text):
        raise InvalidValueError(f"{text} is not a video: restore pictures and videos in calls of their own")
    if path.suffix.lower() in CONTAINERS:
        return Found(path, Path(path.name))
    return Found(path, Path(fitting("", path.stem, _SUFFIX)))


def _refuse_partials(jobs: Sequence[Job]) -> None:
    """Raise OutputFileError where an output has the name of what an interrupted run of another leaves."""
    leaves = {partial_of(job.target): job.target for job in jobs}
    for job in jobs:
        if job.target in leaves:
            raise OutputFileError(
                f"{job.target}: is what an interrupted run of {leaves[job.target]} would leave: restore them one by one"
            )
