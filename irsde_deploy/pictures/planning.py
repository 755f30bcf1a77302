"""Which inputs become which outputs: files, folders and patterns on one side, a file or a folder on the other."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputFileError, OutputFileError
from .files import SUFFIXES, is_picture_file

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
    *(".3gp", ".mxf", ".nut", ".y4m"),
)
"""Of files that are taken for videos."""

_SAME_FORMAT = {".jpg": (".jpg", ".jpeg"), ".tiff": (".tif", ".tiff")}


@dataclass(frozen=True)
class Job:
    """One picture to restore: from `source` to `target`."""

    source: Path
    target: Path


def is_video_name(name: str) -> bool:
    """Whether a name ends like a video's."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def plan_jobs(inputs: Sequence[str], output: Path, suffix: str | None = None) -> list[Job]:
    """Pair every input picture with its output.

    Args:
        inputs: files, folders (searched with everything below; the tree is kept) and glob patterns.
        output: a file where there is one input and the name ends as a picture's does; otherwise a folder.
        suffix: of the outputs, such as `.png`; that of each input by default.

    Raises:
        InputFileError: an input matches nothing.
        OutputFileError: outputs would collide with each other or replace an input.
    """
    found = [pair for text in inputs for pair in _find(text, output)]
    sources = {source.absolute(): (source, relative) for source, relative in reversed(found)}  # the first naming wins
    as_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
    _require_fitting_output(inputs, output, as_file, len(sources), suffix)
    jobs = []
    for source, relative in reversed(sources.values()):
        target = output / relative.with_suffix(suffix or relative.suffix)
        jobs.append(Job(source, output if as_file else target))
    _refuse_collisions(jobs)
    return jobs


def _require_fitting_output(
    inputs: Sequence[str], output: Path, as_file: bool, pictures: int, suffix: str | None
) -> None:
    """Refuse an output that cannot hold the pictures, or that was surely meant otherwise."""
    if as_file and pictures > 1:
        raise OutputFileError(f"{output}: one file cannot hold {pictures} pictures: give a folder with -o")
    if as_file and suffix and output.suffix.lower() not in _SAME_FORMAT.get(suffix, (suffix,)):
        raise OutputFileError(f"{output}: contradicts the format {suffix[1:]}: leave one of the two out")
    if as_file or output.is_dir():
        return
    if os.path.lexists(output):
        raise OutputFileError(f"{output}: is a file, and the pictures go into a folder: give another name with -o")
    if output.suffix and len(inputs) == 1 and Path(inputs[0]).is_file():
        raise OutputFileError(
            f"{output}: neither the name of a picture ({', '.join(SUFFIXES)}) nor a folder: make the folder first"
        )


def _find(text: str, output: Path) -> list[tuple[Path, Path]]:
    """(source, path below the output folder) of every picture that one argument means."""
    path = Path(text)
    if not text:
        raise InputFileError("an input is empty (an unset variable?): give a file, a folder or a pattern")
    if path.is_dir():
        pairs = [(file, file.relative_to(path)) for file in _pictures_below(path, output)]
    elif path.exists():
        pairs = [(path, Path(path.name))]
    elif glob.has_magic(text):
        root = _fixed_part(path)
        if ".." in path.parts[len(root.parts) :]:
            raise InputFileError(f"{text}: a pattern may have '..' only before its first wildcard")
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207 (takes ** and absolute patterns)
        pairs = [(file, file.relative_to(root)) for file in matches if is_picture_file(file)]
    else:
        raise InputFileError(f"{text}: no such file or folder")
    if not pairs:
        raise InputFileError(f"{text}: no pictures there (looked for {', '.join(SUFFIXES)}){_of_videos(path)}")
    return pairs


def _of_videos(folder: Path) -> str:
    """What to do with a folder of videos instead."""
    video = next((file for file in sorted(folder.rglob("*")) if is_video_name(file.name)), None)
    return "" if video is None else f": videos are given by their names, such as {video}"


def _pictures_below(folder: Path, output: Path) -> list[Path]:
    """Pictures in a folder and below, without those in an output folder that lies inside it."""
    inside = _real(output)
    own = inside if inside != _real(folder) else None
    return sorted(
        file for file in folder.rglob("*") if is_picture_file(file) and (own is None or own not in _real(file).parents)
    )


def _real(path: Path) -> Path:
    """Absolute, links followed; loops of links stay as they are."""
    return Path(os.path.realpath(path))


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a glob pattern that hold no wildcard."""
    parts = pattern.parts
    magic = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:magic]) if magic else Path()


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources = {_real(job.source) for job in jobs}
    for target, count in Counter(_real(job.target) for job in jobs).items():
        if count > 1:
            names = ", ".join(str(job.source) for job in jobs if _real(job.target) == target)
            raise OutputFileError(f"{names} would all become {target}: restore them into different folders")
        if target in sources:
            raise OutputFileError(f"{target} is an input and would be replaced: choose another output")
