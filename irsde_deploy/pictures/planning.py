"""Which inputs become which outputs: files, folders and patterns on one side, a file or a folder on the other.

What is said here of outputs goes for pictures and, by `video.planning`, for videos.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputFileError, OutputFileError, refuse
from ..system.files import missing
from .files import is_picture_file
from .formats.kinds import SUFFIXES

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
    *(".3gp", ".mxf", ".nut", ".y4m"),
)
"""Suffixes of the files that are taken for videos."""

_SAME_FORMAT = {".jpg": (".jpg", ".jpeg"), ".tiff": (".tif", ".tiff")}


@dataclass(frozen=True)
class Job:
    """One picture or video to restore: from `source` to `target`."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Found:
    """An input, and where its output is below an output folder."""

    source: Path
    relative: Path


@dataclass(frozen=True)
class Medium:
    """What is planned.

    Attributes:
        noun: for one of them.
        suffixes: that the name of an output may have.
    """

    noun: str
    suffixes: tuple[str, ...]


PICTURES = Medium("picture", SUFFIXES)


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
    sources: dict[Path, Found] = {}
    for text in inputs:
        for found in _find(text, output):
            key = found.source.absolute()
            sources[key] = sources.pop(key, found)  # the first naming wins, at the place of the last
    return pair_outputs(PICTURES, list(sources.values()), inputs, output, suffix)


def pair_outputs(
    medium: Medium, found: Sequence[Found], inputs: Sequence[str], output: Path, suffix: str | None = None
) -> list[Job]:
    """Pair what was found with its outputs.

    Args:
        medium: what it is.
        found: at least one.
        inputs: that a user has named.
        output: a file for a single one, where the name ends as the medium's do; otherwise a folder.
        suffix: of the outputs, such as `.png`; that of each name by default.

    Raises:
        OutputFileError: an output that cannot hold them, that was surely meant otherwise, or that would collide with
            another or replace an input.
    """
    as_file = output.suffix.lower() in medium.suffixes and not output.is_dir()
    _refuse_unfit_output(medium, len(found), inputs, output, as_file, suffix)
    jobs = []
    for one in found:
        target = output
        if not as_file:
            target = output / one.relative.with_suffix(suffix or one.relative.suffix)
        jobs.append(Job(one.source, target))
    _refuse_collisions(jobs)
    return jobs


def _refuse_unfit_output(
    medium: Medium, count: int, inputs: Sequence[str], output: Path, as_file: bool, suffix: str | None
) -> None:
    """Raise OutputFileError for an output that cannot hold so many, or that was surely meant otherwise."""
    other_format = suffix is not None and output.suffix.lower() not in _SAME_FORMAT.get(suffix, (suffix,))
    as_new_folder = not as_file and not output.is_dir()
    from_one_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    refuse(
        [
            (
                as_file and count > 1,
                f"{output}: one file cannot hold {count} {medium.noun}s: give a folder as `output`",
            ),
            (
                as_file and other_format,
                f"{output}: contradicts the format {suffix and suffix[1:]}: leave one of the two out",
            ),
            (
                as_new_folder and os.path.lexists(output),
                f"{output}: is a file, and the {medium.noun}s go into a folder: give another name as `output`",
            ),
            (
                as_new_folder and bool(output.suffix) and from_one_file,
                f"{output}: neither the name of a {medium.noun} ({', '.join(medium.suffixes)}) nor a folder: "
                "make the folder first",
            ),
        ],
        OutputFileError,
    )


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """Raise OutputFileError where outputs would replace each other, or an input."""
    inputs = {_real(job.source) for job in jobs}
    sources_of: dict[Path, list[str]] = {}
    for job in jobs:
        sources_of.setdefault(_real(job.target), []).append(str(job.source))
    for target, sources in sources_of.items():
        refuse(
            [
                (
                    len(sources) > 1,
                    f"{', '.join(sources)} would all become {target}: restore them into different folders",
                ),
                (target in inputs, f"{target} is an input and would be replaced: choose another output"),
            ],
            OutputFileError,
        )


def still_to_do(planned: Sequence[Job], existing: str | None) -> list[Job]:
    """The jobs that are left when outputs are there already.

    Args:
        planned: all jobs.
        existing: what is done with an output that exists: `overwrite` or `skip`.

    Raises:
        OutputFileError: one exists, and `existing` is None.
    """
    if existing == "overwrite":
        return list(planned)
    left = without_existing(planned)
    if existing is None and len(left) < len(planned):
        first = next(job.target for job in planned if os.path.lexists(job.target))
        raise OutputFileError(f"{first}: exists already: pass `overwrite` to replace or `skip_existing` to keep it")
    return left


def without_existing(planned: Sequence[Job]) -> list[Job]:
    """The jobs whose outputs are not there yet; a link that leads nowhere is there."""
    return [job for job in planned if not os.path.lexists(job.target)]


def _find(text: str, output: Path) -> list[Found]:
    """The pictures that one argument means."""
    path = Path(text)
    if not text:
        raise InputFileError("an input is empty (an unset variable?): give a file, a folder or a pattern")
    if path.is_dir():
        found = _below(path, _pictures_below(path, output))
    elif path.exists():
        found = [Found(path, Path(path.name))]
    elif glob.has_magic(text):
        found = _below(_fixed_part(path), _matches(text))
    else:
        raise missing(path, "no such file or folder")
    if not found:
        raise InputFileError(f"{text}: no pictures there (looked for {', '.join(SUFFIXES)}){_if_videos(path)}")
    return found


def _below(folder: Path, files: Iterable[Path]) -> list[Found]:
    """Files whose tree below a folder is kept."""
    return [Found(file, file.relative_to(folder)) for file in files]


def _matches(pattern: str) -> list[Path]:
    """Pictures that a pattern matches, which may have `**` in it and be absolute."""
    path = Path(pattern)
    fixed = len(_fixed_part(path).parts)
    if ".." in path.parts[fixed:]:
        raise InputFileError(f"{pattern}: a pattern may have '..' only before its first wildcard")
    matches = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute patterns)
    return sorted(filter(is_picture_file, matches))


def _if_videos(folder: Path) -> str:
    """What to do where there are videos in place of pictures."""
    for file in sorted(folder.rglob("*")):
        if is_video_name(file.name):
            return f": videos are given by their names, such as {file}"
    return ""


def _pictures_below(folder: Path, output: Path) -> list[Path]:
    """Pictures in a folder and below, without those in an output folder that lies inside it."""
    pictures = sorted(filter(is_picture_file, folder.rglob("*")))
    inside = _real(output)
    if inside == _real(folder):
        return pictures
    return [file for file in pictures if inside not in _real(file).parents]


def _real(path: Path) -> Path:
    """Absolute, links followed; loops of links stay as they are."""
    return Path(os.path.realpath(path))


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a glob pattern that hold no wildcard."""
    fixed = Path()
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed
