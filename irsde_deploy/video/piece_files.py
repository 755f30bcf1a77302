"""A whole piece of a video on the disk: a small video file, and a JSON file that describes it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputFileError, InvalidValueError, refuse
from ..system.decoding import convert
from ..system.files import file_sha256, not_writable, write_atomically
from ..system.parsing import parse_json, read_text
from .containers import WHEN_FULL, open_input, packets_in

_MAX_JSON = 1 << 26
"""Bytes of the largest file that describes a piece: three million packets, 14 hours of 60 frames a second."""
_MOST_TIME = 1 << 62
ANEW = "pass `overwrite` to begin anew"
"""Advice where what is left of a run cannot be used."""


@dataclass(frozen=True)
class Piece:
    """A whole piece: its file, (pts, duration) of each packet in it, and how many times were made up until its end."""

    path: Path
    times: tuple[tuple[int, int], ...]
    retimed: int = 0

    def packets(self) -> list[Any]:
        """The packets in the file, in its order.

        Raises:
            InputFileError: they are not as many as there are times.
        """
        import av

        packets: list[Any] = []
        with (
            suppress(InputFileError, av.error.FFmpegError),
            open_input(self.path, ignore_editlist="1") as container,
        ):
            packets = [packet for packet in packets_in(container, container.streams.video[0]) if packet.size]
        if len(packets) != len(self.times):
            raise InputFileError(f"{self.path}: is damaged, and cannot be resumed from: {ANEW}")
        return packets


@dataclass(frozen=True)
class _About:
    """What a piece's JSON file holds: see `Piece`, and the size and SHA-256 of its file."""

    times: tuple[tuple[int, int], ...]
    retimed: int
    file: tuple[int, str]

    def __post_init__(self) -> None:
        beyond = [time for time in self.times if max(map(abs, time)) >= _MOST_TIME]
        refuse(
            [
                (not self.times, "it has no times"),
                (bool(beyond), "its times are beyond 62 bits"),
                (any(duration < 0 for _, duration in self.times), "it has a duration below 0"),
                (self.retimed < 0, "it counts less than no times that were made up"),
            ]
        )


def describe_piece(piece: Piece) -> None:
    """Put a piece's file on the disk, and then, beside it, what describes it.

    Raises:
        OutputFileError: for want of room, for one.
    """
    with write_atomically(piece.path.with_suffix(".json")) as temporary:
        about = {"times": piece.times, "retimed": piece.retimed, "file": _size_and_hash(piece.path)}
        try:
            temporary.write_text(json.dumps(about))
            # Both before the name appears: whoever finds the description may rely on the piece.
            _flush(piece.path)
            _flush(temporary)
        except OSError as error:
            raise not_writable(piece.path, error, WHEN_FULL) from None


def read_json(path: Path) -> dict[str, Any]:
    """What a file of ours holds; one of another form holds nothing.

    Raises:
        InputFileError: it cannot be read, or is not JSON.
    """
    try:
        content = parse_json(read_text(path, _MAX_JSON, "a file of a run"), "it", _MAX_JSON)
    except (OSError, InvalidValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise InputFileError(f"{path}: cannot be resumed from ({why}): {ANEW}") from None
    return content if isinstance(content, dict) else {}


def read_piece(path: Path, about: Path) -> Piece:
    """A piece, by the file that describes it.

    Raises:
        InputFileError: one of the two is damaged, or not what was written.
    """
    try:
        content = convert(read_json(about), _About, "it", complete=True)
    except InvalidValueError as error:
        raise InputFileError(f"{about}: is damaged, and cannot be resumed from ({error}): {ANEW}") from None
    try:
        intact = content.file == _size_and_hash(path)
    except OSError:
        intact = False
    if not intact:
        raise InputFileError(f"{path}: is damaged, and cannot be resumed from: {ANEW}")
    return Piece(path, content.times, content.retimed)


def _size_and_hash(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a piece's file."""
    return path.stat().st_size, file_sha256(path)


def _flush(path: Path) -> None:
    """Put a file on the disk, so that it is whole even if the power goes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
