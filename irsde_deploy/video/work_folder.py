"""The work folder of a video that is being written: encoded pieces, each whole, and what they were made from.

`.NAME.irsde/` beside the output holds `manifest.json` (input, engine, settings), and for each whole piece a small video
file and a JSON file with the exact times of its packets, its size and SHA-256, written last; `partial.json` says which
file beside the output an interrupted run has written; `lock` is held by the run that is at work. A run that was cut off
is continued after the last whole piece. Files of other names are never deleted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputFileError, InvalidValueError, OutputFileError
from ..system.decoding import convert
from ..system.files import not_writable, require_writable, write_atomically
from ..system.locks import LockFile
from .containers import require_container
from .piece_files import ANEW, Piece, describe_piece, read_json, read_piece

Settings = dict[str, Any]

_PARTIALS = 100
"""Names that are tried for what an interrupted run leaves."""
_VERSION = "version of irsde-deploy"
"""Setting that every manifest has."""
_EARLY = re.compile(r"manifest\.json|partial\.json|lock|\..*\.part")
"""Names of files that are there before the first piece."""


class WorkFolder:
    """What is kept of a run beside its output.

    Args:
        target: the video that is to be written.
    """

    def __init__(self, target: Path) -> None:
        require_container(target)
        self.target = target
        self.folder = target.with_name(f".{target.name}.irsde")
        self._lock = LockFile(self.folder / "lock")
        self._manifest = self.folder / "manifest.json"
        self._note = self.folder / "partial.json"

    def claim(self) -> None:
        """Keep other runs away, until `release` or `remove`, or this process ends.

        Raises:
            OutputFileError: another run is at work, or something that is not ours has the folder's name.
        """
        if os.path.lexists(self.folder) and not self._ours():
            raise OutputFileError(f"{self.folder}: is not irsde-deploy's, and its name is needed: move it away")
        try:
            acquired = self._lock.acquire()
        except OSError as error:
            raise not_writable(self.folder, error) from None
        if not acquired:
            raise OutputFileError(f"{self.target}: another run is writing this file: wait for its end, or stop it")

    def release(self) -> None:
        """Let other runs continue; a folder without anything in it goes."""
        if self._lock.held and self._files() == [self._lock.path]:
            self.remove()
        self._lock.release()

    def _ours(self) -> bool:
        """Whether the folder is one that we have made: it has our manifest, or no more than we write before that."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return False
        if not self.exists:
            return all(_EARLY.fullmatch(path.name) for path in self.folder.iterdir())
        try:
            return _VERSION in self.settings
        except InputFileError:
            return True  # damaged; files with other names than ours stay anyway

    def _files(self) -> list[Path]:
        """Files in the folder that are ours, the manifest last."""
        if not self.folder.is_dir():
            return []
        ours = re.compile(rf"{_EARLY.pattern}|\d{{6,}}\.json|\d{{6,}}{re.escape(self.target.suffix.lower())}")
        found = [path for path in self.folder.iterdir() if ours.fullmatch(path.name) and not path.is_dir()]
        # A deletion that is cut off leaves the manifest, by which the folder is known as ours.
        return sorted(found, key=lambda path: path == self._manifest)

    @property
    def partial(self) -> Path:
        """Where an interrupted run leaves what it has: the file of ours that is there already, or a free name."""
        if (own := self._own_partial()) is not None:
            return own
        free = next((path for path in self._partials() if not os.path.lexists(path)), None)
        if free is None:
            raise OutputFileError(f"{self.target}: {_PARTIALS} partial files are there already: move them away")
        return free

    def note_partial(self, path: Path) -> None:
        """Remember that this file, as it is now, is ours to replace and to delete."""
        with write_atomically(self._note) as temporary:
            temporary.write_text(json.dumps({"name": path.name, "state": _state(path)}))

    def remove_partial(self) -> None:
        """Delete what an interrupted run has left, unless somebody has changed it since."""
        if (path := self._own_partial()) is not None:
            path.unlink(missing_ok=True)

    def _partials(self) -> Iterator[Path]:
        first = partial_of(self.target)
        yield from (first, *(first.with_stem(f"{first.stem}-{k}") for k in range(2, _PARTIALS + 1)))

    def _own_partial(self) -> Path | None:
        try:
            note = convert(read_json(self._note), _Note, "it", complete=True)
        except (InputFileError, InvalidValueError):
            return None
        for path in self._partials():
            if path.name == note.name and _state(path) == note.state:
                return path
        return None

    @property
    def exists(self) -> bool:
        """Whether an earlier run was cut off."""
        return self._manifest.exists()

    @property
    def discardable(self) -> bool:
        """Whether a folder without a whole piece holds nothing worth keeping: no word of a partial file either."""
        return self._own_partial() is None

    def begin(self, settings: Settings) -> None:
        """Start anew: an empty folder with a manifest, and what is known of a partial file."""
        own = self._own_partial()
        self._empty()
        require_writable(self._manifest)
        if own is not None:
            self.note_partial(own)
        with write_atomically(self._manifest) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))

    def resume(self, settings: Settings) -> list[Piece]:
        """The whole pieces of an earlier run of the same settings.

        Raises:
            InputFileError: the settings differ, or the folder is damaged.
        """
        earlier, settings = self.settings, json.loads(json.dumps(settings))  # tuples are lists in a file
        different = sorted(key for key in {*settings, *earlier} if settings.get(key) != earlier.get(key))
        if different:
            raise InputFileError(
                f"{self.target}: cannot resume: not as in the run that was cut off: {', '.join(different)}: "
                f"give the same, or leave `resume` out and {ANEW}"
            )
        pieces: list[Piece] = []
        while (path := self._times(len(pieces))).exists():
            piece = read_piece(self.path(len(pieces)), path)
            piece.packets()  # raises now, rather than when all is restored, where they are not all there
            pieces.append(piece)
        return pieces

    @property
    def settings(self) -> Settings:
        """What the run that was cut off was made with.

        Raises:
            InputFileError: the manifest is damaged.
        """
        return read_json(self._manifest)

    def path(self, k: int) -> Path:
        """Where piece k is, or will be."""
        return self.folder / f"{k:06d}{self.target.suffix.lower()}"

    def keep(self, piece: Piece) -> Piece:
        """Record that a piece is whole: its file is put on the disk, and described beside it.

        Raises:
            OutputFileError: for want of room, for one.
        """
        describe_piece(piece)
        return piece

    def remove(self) -> None:
        """Delete the folder, unless somebody else has put something there."""
        self._empty()
        self._lock.release(remove=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _empty(self) -> None:
        for path in self._files():
            if path != self._lock.path:
                path.unlink(missing_ok=True)

    def _times(self, k: int) -> Path:
        return self.folder / f"{k:06d}.json"


@dataclass(frozen=True)
class _Note:
    """What `partial.json` holds: a file's name beside the output, and its state when it was ours."""

    name: str
    state: tuple[int, int] | None


def partial_of(target: Path) -> Path:
    """The name that what is done of an interrupted run has, where that is free."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when somebody writes to a file: its size and time; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
