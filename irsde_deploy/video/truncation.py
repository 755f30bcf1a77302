"""Whether a video file holds all that its own headers announce: files that were cut short decode without an error."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputFileError
from .containers import open_input, packets_in
from .source import VideoSource

_BOX = struct.Struct(">I4sQ")
"""Length, kind, and length again where it needs 64 bits."""
_COUNTED = ("mov",)
"""Formats whose index says how many packets there are, exactly."""
_TIMED = ("matroska", "avi", "asf", "flv", "mxf")
"""Formats whose header says a duration; that of the others is FFmpeg's guess from what is there."""
_FRAMES, _SHARE, _SECONDS = 2, Fraction(5, 100), 10
"""A header may say so much more than there is: frames, or a share of the duration up to these seconds."""


def shortfall(source: VideoSource) -> str | None:
    """What of a file is missing at its end, as a sentence without its subject; None where nothing is.

    Packets are counted without being decoded, and without edit lists, which leave some out on purpose. A header's
    duration is that of the longest stream, so the last end of any stream is compared with it.
    """
    with open_input(source.path, ignore_editlist="1") as container:
        kind = container.format.name.split(",")[0]
        if kind in _COUNTED:
            return _uncounted(container, container.streams[source.index]) or _torn(source.path)
        if kind in _TIMED:
            return _early_end(container, source.rate)
    return None


def _early_end(container: Any, rate: Fraction) -> str | None:
    """Say that all streams of a container end well before the duration in its header."""
    seconds = Fraction(container.duration or 0, 1_000_000)
    if not seconds:
        return None
    end = _last_end(_packets(container, list(container.streams)), seconds)
    if seconds - end <= max(_FRAMES / rate, min(_SHARE * seconds, Fraction(_SECONDS))):
        return None
    return f"it ends at {float(end):.3g} s of the {float(seconds):.3g} s that its header names"


def _last_end(packets: Iterable[Any], otherwise: Fraction) -> Fraction:
    """Where the last of some packets ends, in seconds."""
    last = None
    for packet in packets:
        end = _end(packet)
        if end is not None and (last is None or end > last):
            last = end
    return otherwise if last is None else last


def _uncounted(container: Any, stream: Any) -> str | None:
    """Packets that an index names and that cannot be read; empty ones are none."""
    announced = stream.frames
    entries = getattr(stream, "index_entries", None)  # older versions of PyAV do not show it
    if entries:
        announced = sum(entry.size > 0 for entry in entries)
    found = sum(not packet.is_corrupt for packet in _packets(container, [stream]))
    if found >= announced:
        return None
    return f"{found} of the {announced} frames that its index names are there"


def _torn(path: Path) -> str | None:
    """Whether the media data of an MP4 or MOV file, or a fragment, end after the file; ISO/IEC 14496-12, 4.2."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position + _BOX.size <= size:
            file.seek(position)
            length, kind, long = _BOX.unpack(file.read(_BOX.size))
            if length == 1:
                length = long
            if length < 8:  # 0: to the end of the file
                return None
            position += length
            if position > size and kind in (b"moof", b"mdat"):
                return f"the last {position - size} bytes of the part that it ends with are not there"
    return None


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """The packets of some streams, as far as they can be read."""
    import av

    with suppress(InputFileError, av.error.FFmpegError):
        for packet in packets_in(container, streams):
            if packet.size:  # FFmpeg ends with empty ones
                yield packet


def _end(packet: Any) -> Fraction | None:
    """Where a packet ends, in seconds; None where it has no time."""
    stamp = packet.dts if packet.pts is None else packet.pts
    if stamp is None:
        return None
    return Fraction((stamp + (packet.duration or 0)) * packet.time_base)
