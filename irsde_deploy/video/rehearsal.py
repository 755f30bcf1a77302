"""Whether an output can be written, found out before there is anything to write: all is muxed, but to nowhere.

What is tried is what will be written: the container's header, one encoded frame, every packet of every stream that is
copied, at the times that it will have, the chapters, the metadata, and the trailer. What the muxer refuses is left out
and named; after that nothing but the disk can fail.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from ..errors import OutputFileError, reason
from .containers import open_input, require_container
from .copied import Retimed
from .describing import unholdable
from .muxing import Beside, Whole, mux, writes_keys
from .neighbours import candidates, left_out


class _Nowhere(io.RawIOBase):
    """A file that is as long as what was written to it, and keeps nothing."""

    def __init__(self) -> None:
        self._position = self._length = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._position += len(data)
        self._length = max(self._length, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def settle(whole: Whole) -> tuple[Beside, list[str]]:
    """What can be written beside the picture, and notes on what cannot, and on what is changed of it.

    Args:
        whole: what is to be written, with at least one encoded piece.

    Raises:
        OutputFileError: the picture itself cannot be written.
    """
    streams, hopeless = candidates(whole.source, whole.target)
    beside, retimed = _settled(whole, Beside(tuple(streams)))
    lost = sorted({*streams, *hopeless} - set(beside.streams))
    with open_input(whole.source.path) as given:
        notes = [left_out(given.streams[index], whole.target) for index in lost]
        return beside, [*notes, *_lost_words(given, whole, beside), *retimed.notes]


def _lost_words(given: Any, whole: Whole, beside: Beside) -> list[str]:
    """Notes on chapters and metadata that are not written."""
    notes = []
    if not beside.chapters and given.chapters():
        notes.append(f"its chapters cannot be held by {whole.target.suffix} and are left out")
    if beside.metadata:
        muxer = require_container(whole.target)
        notes += unholdable(given.metadata, muxer, writes_keys(given, muxer, beside))
    elif given.metadata:
        notes.append(f"its metadata cannot be held by {whole.target.suffix} and is left out")
    return notes


def _settled(whole: Whole, wanted: Beside) -> tuple[Beside, Retimed]:
    """What of all that is wanted can be written together."""
    if isinstance(tried := _tried(whole, wanted), Retimed):
        return wanted, tried
    nothing = Beside((), chapters=False, metadata=False)
    if isinstance(alone := _tried(whole, nothing), Exception):
        raise OutputFileError(f"{whole.target}: cannot be written ({reason(alone)})")
    beside = Beside(
        tuple(index for index in wanted.streams if _works(whole, replace(nothing, streams=(index,)))),
        chapters=_works(whole, replace(nothing, chapters=True)),
        metadata=_works(whole, replace(nothing, metadata=True)),
    )
    # what goes alone may not go together: ever less of it, to nothing at all
    for count in range(len(beside.streams), -1, -1):
        fewer = replace(beside, streams=beside.streams[:count])
        if isinstance(tried := _tried(whole, fewer), Retimed):
            return fewer, tried
    return nothing, alone


def _works(whole: Whole, beside: Beside) -> bool:
    """Whether a file can be written with what is beside the picture."""
    return isinstance(_tried(whole, beside), Retimed)


def _tried(whole: Whole, beside: Beside) -> Retimed | Exception:
    """What writing a file comes to: what was changed of times, or why it fails."""
    try:
        return mux(whole, beside, _Nowhere())
    except Exception as error:  # whatever a muxer, or PyAV, thinks of a stranger's stream
        return error
