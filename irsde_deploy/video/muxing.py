"""Encoded pieces of a video become one file: their packets are copied, with all other streams of the source.

Decoding times are computed anew over all pieces: with the presentation times p_i in the order of the packets, and d the
least number with sorted(p)[i - d] <= p_i for all i, packet i has the decoding time sorted(p)[i - d].
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import IrsdeError, OutputFileError
from ..system.files import not_writable, write_atomically
from .encoding import WHEN_FULL, require_container
from .reading import VideoSource, open_input, why
from .work_folder import Piece


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
    return [ordered[i - delay] if i >= delay else ordered[0] - (delay - i) * step for i in range(len(pts))]


def holdable(source: VideoSource, target: Path) -> tuple[list[int], list[str]]:
    """Which other streams of the source the output's container can hold, and a note on each that it cannot."""
    kept, notes = [], []
    with open_input(source.path) as container:
        for stream in container.streams:
            if stream.index == source.index:
                continue
            if _holds(require_container(target), stream):
                kept.append(stream.index)
            else:
                context = stream.codec_context
                codec = context.codec.canonical_name if context else "unknown codec"
                notes.append(
                    f"stream {stream.index} ({stream.type}, {codec}) cannot be held by {target.suffix} and is left out"
                )
    return kept, notes


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
    begin = first if cut or first < 0 else None
    muxer = require_container(target)
    options = {"movflags": "+faststart"} if muxer in ("mp4", "mov") else {"avoid_negative_ts": "disabled"}
    with (
        write_atomically(target) as temporary,
        _failures_of(target),
        open_input(source.path) as given,
        open_input(pieces[0].path) as encoded,
        av.open(f"file:{temporary}", "w", format=muxer, container_options=options) as out,
    ):
        streams = _add_streams(given, encoded, out, source, others)
        out.metadata.update(_kept_metadata(given.metadata))
        _set_chapters(given, out, begin, end)
        video = _video_packets(source, pieces, streams[source.index], begin or Fraction(0), muxer)
        rest = _other_packets(given, streams, others, begin, end)
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
            added.time_base = source.time_base
            if added.codec_context.name == "hevc" and out.format.name in ("mp4", "mov"):
                added.codec_context.codec_tag = "hvc1"  # what Apple's players ask for
        elif stream.index in others:
            added = out.add_stream_from_template(stream, opaque=True)
        else:
            continue
        added.metadata.update(_kept_metadata(stream.metadata))
        added.disposition = stream.disposition.value
        streams[stream.index] = added
    return streams


_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration")


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what described the old file: its brands, its encoder, Matroska's statistics."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OF_THE_FILE and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION"))
    }


def _set_chapters(given: Any, out: Any, begin: Fraction | None, end: Fraction | None) -> None:
    """Copy the chapters, moved and cut like everything else."""
    if not hasattr(out, "set_chapters"):  # older versions of PyAV
        return
    chapters = []
    for chapter in given.chapters():
        unit = chapter["time_base"]
        start, stop = (chapter[name] * unit for name in ("start", "end"))
        if (end is not None and start >= end) or (begin is not None and stop <= begin):
            continue
        start, stop = max(start, begin or start), min(stop, end or stop)
        moved = {"start": round((start - (begin or 0)) / unit), "end": round((stop - (begin or 0)) / unit)}
        chapters.append({**chapter, **moved})
    if chapters:
        out.set_chapters(chapters)


_INTERLEAVING = 10
"""Seconds by which streams may be out of step in a file."""

Timed = tuple[Fraction, int, Any]
"""(decoding time in seconds, stream, packet)."""


def _video_packets(
    source: VideoSource, pieces: Sequence[Piece], stream: Any, begin: Fraction, muxer: str
) -> Iterator[Timed]:
    times = [entry for piece in pieces for entry in piece.times]
    decoding = decoding_times([pts for pts, _ in times])
    if muxer in ("matroska", "webm"):  # hold no decoding times, and would move everything to make them positive
        least = min(pts for pts, _ in times)
        decoding = [max(least, dts) for dts in decoding]
    shift, last = int(begin / source.time_base), max(pts for pts, _ in times)
    packets = (packet for piece in pieces for packet in piece.packets())
    for (pts, duration), dts, packet in zip(times, decoding, packets, strict=True):
        packet.stream = stream
        packet.time_base = source.time_base
        if pts == last:  # of no duration, it would lie outside of MP4's edit list
            duration = duration or source.usual_duration
        packet.pts, packet.dts, packet.duration = pts - shift, dts - shift, duration
        yield (packet.dts * source.time_base, source.index, packet)


def _other_packets(
    given: Any, streams: dict[int, Any], others: Sequence[int], begin: Fraction | None, end: Fraction | None
) -> Iterator[Timed]:
    """The packets of the streams that are copied, within [begin, end), moved so that begin is at 0."""
    copied = [stream for stream in given.streams if stream.index in others and stream.type != "attachment"]
    if not copied:
        return
    for packet in given.demux(copied):
        stamp = packet.dts if packet.pts is None else packet.pts
        if not packet.size or stamp is None:  # no container holds one without any time
            continue
        unit = packet.time_base
        time = stamp * unit
        if end is not None and time >= end + _INTERLEAVING:
            return
        if (begin is not None and time < begin) or (end is not None and time >= end):
            continue
        shift = round((begin or 0) / unit)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        index = packet.stream_index
        packet.stream = streams[index]
        decoding = time - shift * unit if packet.dts is None else packet.dts * unit
        yield (decoding, index, packet)
