"""Encoded pieces of a video become one file: their packets are copied, with all other streams of the source.

Decoding times are computed anew over all pieces: with the presentation times p_i in the order of the packets, and d the
least number with sorted(p)[i - d] <= p_i for all i, packet i has the decoding time sorted(p)[i - d].
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import IrsdeError, OutputFileError
from ..system.files import not_writable, write_atomically
from .containers import WHEN_FULL, open_input, require_container, why
from .copied import Copying, Retimed, Timed, is_cover
from .cut import Cut
from .describing import kept_metadata, needs_keys, set_chapters
from .neighbours import add_neighbour
from .piece_files import Piece
from .source import VideoSource

_WITHOUT_DECODING_TIMES = ("matroska", "webm")
"""Containers that hold none, and would move everything to make them positive."""


@dataclass(frozen=True)
class Beside:
    """What is written beside the picture.

    Attributes:
        streams: indices of the source's streams that are copied, those first that would be missed most.
        chapters: whether its chapters are.
        metadata: whether what it, and each stream, says of itself is.
    """

    streams: tuple[int, ...] = ()
    chapters: bool = True
    metadata: bool = True

    def of(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """What is kept of some metadata."""
        if not self.metadata:
            return {}
        return kept_metadata(metadata)


@dataclass(frozen=True)
class Whole:
    """A file that is to be made of pieces.

    Attributes:
        source: that the pieces were restored from.
        pieces: at least one.
        target: the file's name, whose end says the container.
        cut: whether the first frame is to be at 0, and what comes before it in other streams to be left out; so is a
            first frame before 0, which players would not show.
        end: in seconds of the source's clock, where other streams are to end; None: with the source.
    """

    source: VideoSource
    pieces: Sequence[Piece]
    target: Path
    cut: bool = False
    end: Fraction | None = None

    @property
    def kept(self) -> Cut:
        """What of the source is in it."""
        first = begin_of(self.source, self.pieces)
        return Cut(first if self.cut or first < 0 else None, self.end)


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


def join(whole: Whole, beside: Beside, on_complete: Callable[[Path], None] = lambda path: None) -> None:
    """Write the pieces as one file, with what is beside them; it appears complete or not at all.

    Args:
        whole: what is written.
        beside: what goes with it, which `rehearsal.settle` has tried.
        on_complete: called with the temporary file before it gets its name.

    Raises:
        OutputFileError: the file cannot be written. MuxerError: the muxer refuses something.
    """
    with write_atomically(whole.target) as temporary, _failures_of(whole.target):
        mux(whole, beside, f"file:{temporary}", faststart=True)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # before the pieces go
        on_complete(temporary)


class MuxerError(OutputFileError):
    """The muxer refuses something of what it is given."""


@contextmanager
def _failures_of(target: Path) -> Iterator[None]:
    """All that a muxer can raise as our errors."""
    try:
        yield
    except IrsdeError:
        raise
    except OSError as error:
        raise not_writable(target, error, WHEN_FULL) from None
    except Exception as error:  # whatever a muxer, or PyAV, thinks of a stranger's stream
        raise MuxerError(f"{target}: cannot be written ({why(error)})") from None


def mux(whole: Whole, beside: Beside, output: Any, faststart: bool = False) -> Retimed:
    """Write all packets and the trailer; what was changed of the copied streams' times.

    Args:
        whole, beside: what is written.
        output: FFmpeg's name of a file, or an object that is written to.
        faststart: whether MP4 and MOV get their index in front: players can begin before they have the whole file.
    """
    import av

    source, kept, muxer = whole.source, whole.kept, require_container(whole.target)
    with open_input(source.path) as given, open_input(whole.pieces[0].path) as encoded:
        options = _options(given, muxer, beside, faststart)
        with av.open(output, "w", format=muxer, container_options=options) as out:
            streams = _add_streams(given, encoded, out, source, beside)
            out.metadata.update(beside.of(given.metadata))
            if beside.chapters:
                set_chapters(given, out, kept)
            out.start_encoding()  # after which the streams' units are known
            copying = Copying(given, streams, source.index, kept, out)
            video = _video_packets(source, whole.pieces, streams[source.index], kept, muxer)
            # Packets lie in a file in the order in which they are decoded, whatever their stream.
            for _, _, packet in heapq.merge(video, copying.packets(), key=lambda entry: entry[:2]):
                out.mux_one(packet)
    return copying.retimed


def _options(given: Any, muxer: str, beside: Beside, faststart: bool) -> dict[str, str]:
    """The muxer's options."""
    if muxer not in ("mp4", "mov"):
        return {"avoid_negative_ts": "disabled"}  # else FFmpeg moves all times where a decoding time is below 0
    flags = []
    if faststart:
        flags.append("+faststart")
    if writes_keys(given, muxer, beside):
        flags.append("+use_metadata_tags")
    return {"movflags": "".join(flags)} if flags else {}


def writes_keys(given: Any, muxer: str, beside: Beside) -> bool:
    """Whether metadata goes into a list of keys, beside which FFmpeg writes no cover."""
    covers = any(is_cover(stream) for stream in given.streams if stream.index in beside.streams)
    return beside.metadata and not covers and needs_keys(given.metadata, muxer)


def _add_streams(given: Any, encoded: Any, out: Any, source: VideoSource, beside: Beside) -> dict[int, Any]:
    """The output's streams that get packets, by the source's indices, in the source's order."""
    streams = {}
    picture = encoded.streams.video[0]
    for stream in given.streams:
        if stream.index == source.index:
            added = out.add_stream_from_template(picture, opaque=True)
            added.time_base = source.time_base  # in which the frames' times are whole numbers
            if added.codec_context.name == "hevc" and out.format.name in ("mp4", "mov"):
                added.codec_context.codec_tag = "hvc1"  # what Apple's players ask for
            added.metadata.update(beside.of(stream.metadata))
            added.disposition = stream.disposition.value
        elif stream.index in beside.streams:
            added = add_neighbour(out, stream, picture, source.path, beside.of(stream.metadata))
        else:
            continue
        if added is not None:
            streams[stream.index] = added
    return streams


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
