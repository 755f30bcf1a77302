"""The work folder of a video that is being written: encoded pieces, each whole, and what they were made from.

`.NAME.irsde/` beside the output (a long name is shortened) holds `manifest.json` (input, engine, settings), and for
each whole piece a small video file and a JSON file with the exact times of its packets, its size and SHA-256, written
last; `partial.json` says which file beside the output an interrupted run has written, `replaces.json` which output the
user has given leave to replace, `finished.json` how the output looks that is about to get its name; `lock` is held by
the run that is at work. An interrupted run is continued after the last whole piece. Files of other names are never
deleted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputFileError, OutputFileError, one_line
from ..system.files import require_writable, write_atomically
from ..system.locks import LockFile
from ..system.parsing import shortened
from .containers import require_container
from .folder_notes import End, Leave, PartialNote, fitting, partial_of, read_note, state_of, write_note
from .piece_files import ANEW, Piece, describe_piece, read_json, read_piece

Settings = dict[str, Any]

_PARTIALS = 100
"""Names that are tried for what an interrupted run leaves."""
_VERSION = "version of irsde-deploy"
"""Setting that every manifest has."""
_EARLY = re.compile(r"(?:manifest|partial|replaces|finished)\.json|lock|\..*\.part")
"""Names of files that are there before the first piece."""


class WorkFolder:
    """What is kept of a run beside its output.

    Args:
        target: the video that is to be written.
    """

    def __init__(self, target: Path) -> None:
        require_container(target)
        self.target = target
        self.folder = target.with_name(fitting(".", target.name, ".irsde"))
        self._lock = LockFile(self.folder / "lock")
        self._manifest = self.folder / "manifest.json"
        self._note = self.folder / "partial.json"
        self._replaces = self.folder / "replaces.json"
        self._finished = self.folder / "finished.json"

    def claim(self) -> None:
        """Keep other runs away, until `release` or `remove`, or this process ends.

        Raises:
            OutputFileError: another run is at work, or something that is not ours has the folder's name.
        """
        if os.path.lexists(self.folder) and not self._ours():
            raise OutputFileError(f"{self.folder}: is not irsde-deploy's, and its name is needed: move it away")
        self._lock.claim(f"{self.target}: another run is writing this file: wait for its end, or stop it")

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
        """Files in the folder that are ours, the word of the end and the manifest last."""
        if not self.folder.is_dir():
            return []
        ours = re.compile(rf"{_EARLY.pattern}|\d{{6,}}\.json|\d{{6,}}{re.escape(self.target.suffix.lower())}")
        found = [path for path in self.folder.iterdir() if ours.fullmatch(path.name) and not path.is_dir()]
        # A deletion that is cut off leaves the manifest, by which the folder is known as ours, and how it ended.
        last = (self._finished, self._manifest)
        return sorted(found, key=lambda path: last.index(path) + 1 if path in last else 0)

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
        write_note(self._note, {"name": path.name, "state": state_of(path)})

    def remove_partial(self) -> None:
        """Delete what an interrupted run has left, unless somebody has changed it since."""
        if (path := self._own_partial()) is not None:
            path.unlink(missing_ok=True)

    def _partials(self) -> Iterator[Path]:
        first = partial_of(self.target)
        yield first
        for k in range(2, _PARTIALS + 1):
            yield first.with_name(fitting("", first.stem, f"-{k}{first.suffix}"))

    def _own_partial(self) -> Path | None:
        note = read_note(self._note, PartialNote)
        if note is None:
            return None
        for path in self._partials():
            if path.name == note.name and state_of(path) == note.state:
                return path
        return None

    @property
    def exists(self) -> bool:
        """Whether an earlier run was interrupted."""
        return self._manifest.exists()

    @property
    def discardable(self) -> bool:
        """Whether a folder without a whole piece holds nothing worth keeping: no word of a partial file either."""
        return self._own_partial() is None

    @property
    def may_replace(self) -> bool:
        """Whether the output that is there is the one that the user has given leave to replace."""
        leave = read_note(self._replaces, Leave)
        return leave is not None and leave.state == state_of(self.target)

    def note_finished(self, path: Path, frames: int) -> None:
        """Remember that this file is the whole output, which is about to get its name."""
        write_note(self._finished, {"state": state_of(path), "frames": frames})

    @property
    def finished(self) -> int | None:
        """The frames of the output that is there, where it is what the run of this folder has made; else None."""
        end = read_note(self._finished, End)
        if end is None or end.state != state_of(self.target):
            return None
        return end.frames

    def clear(self) -> None:
        """Delete what a run leaves that has ended well: what an interrupt had left, and the folder."""
        self.remove_partial()
        self.remove()

    def begin(self, settings: Settings) -> None:
        """Start anew: an empty folder with a manifest, and what is known of a partial file.

        An output that is there is noted as one to be replaced.
        """
        own = self._own_partial()
        self._empty()
        require_writable(self._manifest)
        if own is not None:
            self.note_partial(own)
        if (replaced := state_of(self.target)) is not None:
            write_note(self._replaces, {"state": replaced})
        with write_atomically(self._manifest) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))

    def require_same(self, settings: Settings) -> None:
        """Raise InputFileError where an earlier run was of other settings, or its manifest is damaged."""
        earlier, settings = self.settings, json.loads(json.dumps(settings))  # tuples are lists in a file
        different = sorted(key for key in {*settings, *earlier} if settings.get(key) != earlier.get(key))
        if different:
            words = shortened(one_line(", ".join(different)))
            raise InputFileError(
                f"{self.target}: cannot resume: not as in the run that was interrupted: {words}: "
                f"give the same, or leave `resume` out and {ANEW}"
            )

    def resume(self, settings: Settings) -> list[Piece]:
        """The whole pieces of an earlier run of the same settings.

        Raises:
            InputFileError: the settings differ, or the folder is damaged.
        """
        self.require_same(settings)
        pieces: list[Piece] = []
        while (path := self._times(len(pieces))).exists():
            piece = read_piece(self.path(len(pieces)), path)
            piece.packets()  # raises now, rather than when all is restored, where they are not all there
            pieces.append(piece)
        return pieces

    @property
    def settings(self) -> Settings:
        """What the run that was interrupted was made with.

        Raises:
            InputFileError: the manifest is damaged.
        """
        return read_json(self._manifest)

    @property
    def trial(self) -> Path:
        """Where a frame is encoded to be tried; a killed run leaves it, and it goes with whatever else is deleted."""
        return self.folder / ".trial.part"

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


def clear_finished(target: Path) -> None:
    """Delete what a run leaves that was killed after its output was there; nothing where another is at work."""
    work = WorkFolder(target)
    if work.finished is None:
        return
    with suppress(OutputFileError):
        work.claim()
        try:
            if work.finished is not None:
                work.clear()
        finally:
            work.release()
