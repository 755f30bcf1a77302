"""Encoded pieces of a video become one file: their packets are copied, with all other streams of the source.

Decoding times are computed anew over all pieces: with the presentation times p_i in the order of the packets, and d the
least number with sorted(p)[i - d] <= p_i for all i, packet i has the decoding time sorted(p)[i - d].
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import IrsdeError, OutputFileError
from ..system.files import not_writable, write_atomically
from .containers import WHEN_FULL, open_input, require_container, why
from .piece_files import Piece
from .source import VideoSource

_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration")
_OF_THE_STREAM = ("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION")
"""Beginnings of the names of Matroska's statistics."""

_WITHOUT_DECODING_TIMES = ("matroska", "webm")
"""Containers that hold none, and would move everything to make them positive."""

_INTERLEAVING = 10
"""Seconds by which streams may be out of step in a file."""

Timed = tuple[Fraction, int, Any]
"""(decoding time in seconds, stream, packet)."""


@dataclass(frozen=True)
class Cut:
    """What of a file is kept, in seconds of the source's clock.

    Attributes:
        begin: what is before is left out, and what is here comes to 0; None: nothing is left out there, nor moved.
        end: what is from here on is left out; None: nothing is.
    """

    begin: Fraction | None = None
    end: Fraction | None = None

    def has(self, start: Fraction, stop: Fraction) -> bool:
        """Whether something from `start` to `stop` lies in it, at least in part."""
        return (self.end is None or start < self.end) and (self.begin is None or stop > self.begin)

    def has_instant(self, time: Fraction) -> bool:
        """Whether a time lies in it."""
        return (self.end is None or time < self.end) and (self.begin is None or time >= self.begin)

    def clipped(self, start: Fraction, stop: Fraction) -> tuple[Fraction, Fraction]:
        """The part of `start` to `stop` that lies in it, moved."""
        if self.begin is not None:
            start = max(start, self.begin)
        if self.end is not None:
            stop = min(stop, self.end)
        return start - self.shift, stop - self.shift

    @property
    def shift(self) -> Fraction:
        """By how much everything is moved towards 0."""
        return self.begin or Fraction(0)

    def units(self, unit: Fraction) -> int:
        """The same in units of a time base."""
        return round(self.shift / unit)


def begin_of(source: VideoSource, pieces: Sequence[Piece]) -> Fraction:
    """Where the first frame of some pieces begins, in seconds of the source's clock."""
    return min(pts for piece in pieces for pts, _ in piece.times) * source.time_base


def end_of(source: VideoSource, pieces: Sequence[Piece]) -> Fraction:
    """Where the last frame of some pieces ends, in seconds of the source's clock."""
    last, duration = max(entry for piece in pieces for entry in piece.times)
    return last * source.time_base + (duration * source.time_base or 1 / source.rate)


def decoding_times(pts: Sequence[int]) -> list[int]:
    """Presentation times in the order of decoding -> decoding times; see the module's text."""
    ordered = sorted(pts)
    rank = {value: i for i, value in enumerate(ordered)}
    delay = max((i - rank[value] for i, value in enumerate(pts)), default=0)
    step = ordered[1] - ordered[0] if len(ordered) > 1 else 1
    before = [ordered[0] - k * step for k in range(delay, 0, -1)]
    return [*before, *ordered][: len(pts)]


def holdable(source: VideoSource, target: Path) -> tuple[list[int], list[str]]:
    """Which other streams of the source the output's container can hold, and a note on each that it cannot."""
    muxer = require_container(target)
    kept, notes = [], []
    with open_input(source.path) as container:
        for stream in container.streams:
            if stream.index == source.index:
                continue
            if _holds(muxer, stream):
                kept.append(stream.index)
                continue
            kind = f"{stream.type}, {_codec_of(stream)}"
            notes.append(f"stream {stream.index} ({kind}) cannot be held by {target.suffix} and is left out")
    return kept, notes


def _codec_of(stream: Any) -> str:
    """The name of a stream's codec, for people."""
    context = stream.codec_context
    return str(context.codec.canonical_name) if context else "unknown codec"


def _holds(muxer: str, stream: Any) -> bool:
    """Whether a container can be written with this stream: tried."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, TypeError, NotImplementedError):
        return False
    return True


def join(
    source: VideoSource, pieces: Sequence[Piece], target: Path, others: Sequence[int], cut: bool, end: Fraction | None
) -> None:
    """Write the pieces as one file, with the source's other streams; it appears complete or not at all.

    Args:
        source: that the pieces were restored from.
        pieces: at least one.
        target: to write.
        others: indices of the source's streams to copy.
        cut: whether the first frame is to be at 0, and what comes before it in other streams to be left out; so is a
            first frame before 0, which players would not show.
        end: in seconds of the source's clock, where other streams are to end; None: with the source.
    """
    import av

    first = begin_of(source, pieces)
    kept = Cut(first if cut or first < 0 else None, end)
    muxer = require_container(target)
    options = {"avoid_negative_ts": "disabled"}  # else FFmpeg moves all times where a decoding time is below 0
    if muxer in ("mp4", "mov"):
        options = {"movflags": "+faststart"}  # players can begin before they have the whole file
    with (
        write_atomically(target) as temporary,
        _failures_of(target),
        open_input(source.path) as given,
        open_input(pieces[0].path) as encoded,
        av.open(f"file:{temporary}", "w", format=muxer, container_options=options) as out,
    ):
        streams = _add_streams(given, encoded, out, source, others)
        out.metadata.update(_kept_metadata(given.metadata))
        _set_chapters(given, out, kept)
        video = _video_packets(source, pieces, streams[source.index], kept, muxer)
        rest = _other_packets(given, streams, others, kept)
        # Packets lie in a file in the order in which they are decoded, whatever their stream.
        for _, _, packet in heapq.merge(video, rest, key=lambda entry: entry[:2]):
            out.mux_one(packet)


@contextmanager
def _failures_of(target: Path) -> Iterator[None]:
    """FFmpeg's errors as ours."""
    import av

    try:
        yield
    except IrsdeError:
        raise
    except OSError as error:
        raise not_writable(target, error, WHEN_FULL) from None
    except av.error.FFmpegError as error:
        raise OutputFileError(f"{target}: cannot be written ({why(error)})") from None


def _add_streams(given: Any, encoded: Any, out: Any, source: VideoSource, others: Sequence[int]) -> dict[int, Any]:
    """The output's streams by the source's indices, in the source's order."""
    streams = {}
    for stream in given.streams:
        if stream.index == source.index:
            added = out.add_stream_from_template(encoded.streams.video[0], opaque=True)
            added.time_base = source.time_base  # in which the frames' times are whole numbers
            if added.codec_context.name == "hevc" and out.format.name in ("mp4", "mov"):
                added.codec_context.codec_tag = "hvc1"  # what Apple's players ask for
        elif stream.index in others:
            added = out.add_stream_from_template(stream, opaque=True)  # of any codec, also one that is unknown here
        else:
            continue
        added.metadata.update(_kept_metadata(stream.metadata))
        added.disposition = stream.disposition.value
        streams[stream.index] = added
    return streams


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what described the old file: its brands, its encoder, Matroska's statistics."""
    kept = {}
    for key, value in metadata.items():
        if key.lower() not in _OF_THE_FILE and not key.startswith(_OF_THE_STREAM):
            kept[key] = value
    return kept


def _set_chapters(given: Any, out: Any, kept: Cut) -> None:
    """Copy the chapters, moved and cut like everything else."""
    if not hasattr(out, "set_chapters"):  # older versions of PyAV
        return
    chapters = []
    for chapter in given.chapters():
        unit = chapter["time_base"]
        start, stop = chapter["start"] * unit, chapter["end"] * unit
        if kept.has(start, stop):
            start, stop = kept.clipped(start, stop)
            chapters.append({**chapter, "start": round(start / unit), "end": round(stop / unit)})
    if chapters:
        out.set_chapters(chapters)


def _video_packets(source: VideoSource, pieces: Sequence[Piece], stream: Any, kept: Cut, muxer: str) -> Iterator[Timed]:
    """The packets of the pieces with their frames' own times, moved as everything else."""
    times = [entry for piece in pieces for entry in piece.times]
    shift = kept.units(source.time_base)
    last = max(pts for pts, _ in times)
    for (pts, duration), dts, packet in zip(times, _decoding_times(times, muxer), _packets(pieces), strict=True):
        packet.stream = stream
        packet.time_base = source.time_base
        if pts == last:  # of no duration, it would lie outside of MP4's edit list
            duration = duration or source.usual_duration
        packet.pts, packet.dts, packet.duration = pts - shift, dts - shift, duration
        yield (packet.dts * source.time_base, source.index, packet)


def _decoding_times(times: Sequence[tuple[int, int]], muxer: str) -> list[int]:
    """Decoding times of packets of these times and durations, as a container takes them."""
    pts = [time for time, _ in times]
    decoding = decoding_times(pts)
    if muxer in _WITHOUT_DECODING_TIMES:
        least = min(pts)
        return [max(least, dts) for dts in decoding]
    return decoding


def _packets(pieces: Sequence[Piece]) -> Iterator[Any]:
    """The packets of all pieces, each file read when its turn comes."""
    for piece in pieces:
        yield from piece.packets()


def _other_packets(given: Any, streams: dict[int, Any], others: Sequence[int], kept: Cut) -> Iterator[Timed]:
    """The packets of the streams that are copied, as far as they are kept, moved so that the beginning is at 0."""
    copied = [stream for stream in given.streams if stream.index in others and stream.type != "attachment"]
    if not copied:
        return
    for packet in given.demux(copied):
        time = _time_of(packet)
        if time is None:
            continue
        if kept.end is not None and time >= kept.end + _INTERLEAVING:
            return  # nothing that is wanted comes so late, and the rest of the file may be long
        if kept.has_instant(time):
            yield _moved(packet, time, streams, kept)


def _time_of(packet: Any) -> Fraction | None:
    """When a packet is shown or heard, in seconds; None for an empty one, and where no time is known at all."""
    stamp = packet.dts if packet.pts is None else packet.pts
    if not packet.size or stamp is None:  # no container holds one without any time
        return None
    return Fraction(stamp * packet.time_base)


def _moved(packet: Any, time: Fraction, streams: dict[int, Any], kept: Cut) -> Timed:
    """A packet of a copied stream, at its time in the output."""
    unit, index = packet.time_base, packet.stream_index
    shift = kept.units(unit)
    decoding = time - shift * unit
    if packet.pts is not None:
        packet.pts -= shift
    if packet.dts is not None:
        packet.dts -= shift
        decoding = packet.dts * unit
    packet.stream = streams[index]
    return (decoding, index, packet)
