"""Which inputs become which outputs: files, folders and patterns on one side, a file or a folder on the other.

What is said here of outputs goes for pictures and, by `video.planning`, for videos.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ..errors import OutputFileError, refuse
from .finding import Found, find_pictures, place, real_path
from .formats.kinds import JPEG_SUFFIXES, READ_ONLY_SUFFIXES, SUFFIXES, TIFF_SUFFIXES

_SAME_FORMAT = {".jpg": JPEG_SUFFIXES, ".tiff": TIFF_SUFFIXES}


@dataclass(frozen=True)
class Job:
    """One picture or video to restore: from `source` to `target`."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Medium:
    """What is planned.

    Attributes:
        noun: for one of them.
        suffixes: that the name of an output may have.
        read_only: suffixes of inputs of formats that are not written.
        written: the suffix that outputs of those get.
    """

    noun: str
    suffixes: tuple[str, ...]
    read_only: tuple[str, ...] = ()
    written: str = ""


PICTURES = Medium("picture", SUFFIXES, READ_ONLY_SUFFIXES, ".png")


def plan_jobs(
    inputs: Sequence[str],
    output: Path,
    suffix: str | None = None,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> list[Job]:
    """Pair every input picture with its output.

    Args:
        inputs: files, folders (searched with everything below; the tree is kept) and glob patterns.
        output: a file where there is one input and the name ends as a picture's does; otherwise a folder.
        suffix: of the outputs, such as `.png`; by default that of each input, `.png` for formats that are not written.
        on_note: is told what a folder or pattern has that is left out.

    Raises:
        InputFileError: an input matches nothing.
        OutputFileError: outputs would collide with each other or replace an input.
    """
    sources: dict[Path, Found] = {}
    for text in inputs:
        for found in find_pictures(text, output, on_note):
            key = place(found.source)
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
    if as_file:
        jobs = [Job(one.source, output) for one in found]
    else:
        jobs = [
            Job(one.source, output / relative)
            for one, relative in zip(found, _names(medium, found, suffix), strict=True)
        ]
    _refuse_collisions(jobs)
    return jobs


def _names(medium: Medium, found: Sequence[Found], suffix: str | None) -> list[Path]:
    """Where each output is below the output folder.

    One that gets another suffix gives way where its name is taken: a.bmp beside a.png becomes a.bmp.png.
    """
    names = []
    for one in found:
        own = one.relative.suffix
        names.append(one.relative.with_suffix(suffix or (medium.written if own.lower() in medium.read_only else own)))
    gives_way = [name != one.relative for name, one in zip(names, found, strict=True)]
    taken = {name for name, gives in zip(names, gives_way, strict=True) if not gives}
    given: dict[Path, Path] = {}
    for number, one in enumerate(found):
        if not gives_way[number]:
            continue
        if one.relative not in given:  # else it is of one name in two folders: nothing says which would be which
            given[one.relative] = next(name for name in _choices(one.relative, names[number]) if name not in taken)
        names[number] = given[one.relative]
        taken.add(names[number])
    return names


def _choices(source: Path, name: Path) -> Iterator[Path]:
    """Names for an output, the best first: a.png, a.bmp.png, a.bmp.2.png and so on."""
    yield name
    yield source.with_name(source.name + name.suffix)
    for number in count(2):
        yield source.with_name(f"{source.name}.{number}{name.suffix}")


def _refuse_unfit_output(
    medium: Medium, number: int, inputs: Sequence[str], output: Path, as_file: bool, suffix: str | None
) -> None:
    """Raise OutputFileError for an output that cannot hold so many, or that was surely meant otherwise."""
    other_format = suffix is not None and output.suffix.lower() not in _SAME_FORMAT.get(suffix, (suffix,))
    as_new_folder = not as_file and not output.is_dir()
    from_one_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    refuse(
        [
            (
                as_file and number > 1,
                f"{output}: one file cannot hold {number} {medium.noun}s: give a folder as `output`",
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
    inputs = {real_path(job.source) for job in jobs}
    sources_of: dict[Path, list[str]] = {}
    for job in jobs:
        sources_of.setdefault(real_path(job.target), []).append(str(job.source))
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
