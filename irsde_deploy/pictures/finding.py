"""Which picture files an argument means (a file, a folder with everything below, a pattern); which names are videos'.

Links to folders are followed by patterns alone, and no folder is entered twice, so that links in a circle end.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputFileError, one_line
from ..system.files import missing
from .files import is_picture_file
from .formats.kinds import READ_WORDS

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
    *(".3gp", ".3gpp", ".3g2", ".3gp2", ".f4v", ".qt", ".mp4v", ".mj2", ".ismv", ".mk3d", ".asf", ".divx", ".xvid"),
    *(".vob", ".mpe", ".m1v", ".m2v", ".mpv", ".m2p", ".m2t", ".tp", ".trp", ".tod", ".mod", ".vro", ".evo"),
    *(".ogm", ".ogx", ".mxf", ".gxf", ".nut", ".y4m", ".dv", ".dif", ".rm", ".rmvb", ".wtv", ".nsv", ".nuv", ".dav"),
    *(".amv", ".ivf", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".obu", ".vc1"),
)
"""Suffixes of the files that are taken for videos."""


@dataclass(frozen=True)
class Found:
    """An input, and where its output is below an output folder."""

    source: Path
    relative: Path


def is_video_name(name: str) -> bool:
    """Whether a name ends like a video's."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def find_pictures(text: str, output: Path, on_note: Callable[[str], None]) -> list[Found]:
    """The pictures that one argument means, in the order of their names.

    Args:
        text: a file, a folder or a pattern.
        output: where results go; what lies in it is no input.
        on_note: is told how many files of what kind a folder or pattern has that are no pictures that are read.

    Raises:
        InputFileError: the argument means nothing.
    """
    path = Path(text)
    if not text:
        raise InputFileError("an input is empty (an unset variable?): give a file, a folder or a pattern")
    if path.is_dir():
        base, files = path, _outside(output, path, sorted(_files_below(path)))
    elif path.exists():
        return [Found(path, Path(path.name))]
    elif glob.has_magic(text):
        base, files = _fixed_part(path), sorted(_matches(path))
    else:
        raise missing(path, "no such file or folder")
    pictures = [file for file in files if is_picture_file(file)]
    if not pictures:
        raise InputFileError(f"{text}: no pictures there (looked for {READ_WORDS}){_instead(files)}")
    words = _left_out(files)
    if words:
        on_note(f"{text}: left out {words}")
    return [Found(file, file.relative_to(base)) for file in pictures]


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and below; links to folders are not followed."""
    for where, _, names in os.walk(folder):
        for name in names:
            yield Path(where) / name


def _outside(output: Path, folder: Path, files: Sequence[Path]) -> list[Path]:
    """Files without those in an output folder that lies inside the folder."""
    inside = real_path(output)
    if inside == real_path(folder):
        return list(files)
    return [file for file in files if inside not in real_path(file).parents]


def _left_out(files: Iterable[Path]) -> str:
    """How many files of what kind are no pictures that are read; hidden ones do not count."""
    others = [file for file in files if not file.name.startswith(".") and not is_picture_file(file)]
    kinds = Counter(_kind(file) for file in others)
    shown = [f"{count} {kind}" for kind, count in kinds.most_common(8)]
    if len(kinds) > 8:
        shown.append("and others")
    if not others:
        return ""
    what = "1 file that is no picture" if len(others) == 1 else f"{len(others)} files that are no pictures"
    return f"{what} that can be read: {', '.join(shown)}"


def _kind(file: Path) -> str:
    """What a file is that is no picture: its suffix says it, where it is a file."""
    if file.is_file():
        return one_line(file.suffix.lower())[:12] or "without suffix"
    return "pipe or device" if file.exists() else "link that leads nowhere"


def _instead(files: Sequence[Path]) -> str:
    """What is there in place of pictures; folders are not searched for videos."""
    for file in files:
        if is_video_name(file.name):
            return f": videos are given by their names, such as {file}"
    words = _left_out(files)
    return f" ({words})" if words else ""


# -- patterns ----------------------------------------------------------------------------------------------------------


def _matches(pattern: Path) -> list[Path]:
    """The files that a pattern matches, which may have `**` in it and be absolute; each once, whatever leads to it."""
    fixed = _fixed_part(pattern)
    parts = pattern.parts[len(fixed.parts) :]
    if ".." in parts:
        raise InputFileError(f"{pattern}: a pattern may have '..' only before its first wildcard")
    found: dict[Path, Path] = {}
    for file in _expanded(fixed, parts):
        if not file.is_dir():
            found.setdefault(place(file), file)
    return list(found.values())


def _expanded(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What matches the parts of a pattern below a folder."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        for below in _folders_below(folder):
            yield from _expanded(below, rest or ("*",))
        return
    for name in _names(folder):
        if not fnmatch.fnmatch(name, first) or (name.startswith(".") and not first.startswith(".")):
            continue
        if not rest:
            yield folder / name
        elif (folder / name).is_dir():
            yield from _expanded(folder / name, rest)


def _folders_below(folder: Path) -> Iterator[Path]:
    """A folder and all below it that are not hidden, each once: real ones before links to them."""
    entered: set[Path] = set()
    waiting = [folder]
    while waiting:
        one = waiting.pop(0)
        if real_path(one) in entered:
            continue
        entered.add(real_path(one))
        yield one
        below = [one / name for name in _names(one) if not name.startswith(".")]
        folders = [path for path in below if path.is_dir()]
        waiting = [path for path in folders if not path.is_symlink()] + waiting
        waiting += [path for path in folders if path.is_symlink()]


def _names(folder: Path) -> list[str]:
    """What is in a folder; nothing where it is none, or cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def place(file: Path) -> Path:
    """A file by where it really is, under its own name: links to folders followed, one to a file not."""
    return real_path(file.parent) / file.name


def real_path(path: Path) -> Path:
    """Absolute, links followed; loops of links stay as they are."""
    return Path(os.path.realpath(path))


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a pattern that hold no wildcard."""
    fixed = Path()
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed
