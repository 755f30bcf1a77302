"""Packets of the streams that are copied, at times that a muxer takes, as `ffmpeg -c copy` writes them.

A muxer refuses times that do not rise, and with them the whole file. Where the source's clock starts again (files that
were put one behind the other), everything is carried on from where the picture was, as its frames are
(`video.reading`); where single times do not rise, they are raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .containers import packets_in
from .cut import Cut

_BACK = Fraction(1, 10)
"""Seconds: a clock that goes back by more has started again; FFmpeg takes the same."""
_RESTARTING = ("mpegts", "mpeg", "ogg")
"""Formats in which a clock may start again by their own rules: there, sound alone tells it, too."""
_INTERLEAVING = 10
"""Seconds by which streams may be out of step in a file."""
_NONSTRICT = ("matroska", "webm")
"""Containers in which two packets of a stream may have the same time."""
_MOST_TIME = 1 << 62
COVER = 1 << 10
"""FFmpeg's bit of a stream's disposition that makes it a cover, a still picture beside the rest."""

Timed = tuple[Fraction, int, Any]
"""(decoding time in seconds, stream, packet)."""


@dataclass
class Retimed:
    """What was changed of the copied streams' times.

    Attributes:
        packets: how many had to be raised, by the index of their stream.
        restarts: how often the source's clock started again.
    """

    packets: dict[int, int] = field(default_factory=dict)
    restarts: int = 0

    @property
    def notes(self) -> list[str]:
        """The same for a user, in sentences."""
        notes = []
        if self.restarts:
            times = "once" if self.restarts == 1 else f"{self.restarts} times"
            notes.append(f"its clock starts again {times}: what follows is carried on from there")
        for index, count in sorted(self.packets.items()):
            packets = "1 packet" if count == 1 else f"{count} packets"
            notes.append(f"stream {index}: {packets} whose time does not rise follow the one before each")
        return notes


def is_cover(stream: Any) -> bool:
    """Whether a stream is a cover, such as that of an album."""
    return bool(stream.type == "video" and stream.disposition.value & COVER)


class Copying:
    """The packets of some streams of a file, in its order.

    Args:
        given: the container that is read, at its beginning.
        streams: the output's streams by the indices of the source's, of which all but the picture are copied.
        picture: index of the stream that is restored; it tells where the clock starts again.
        kept: the part that is wanted.
        out: the container that is written; its header must have been.
    """

    def __init__(self, given: Any, streams: dict[int, Any], picture: int, kept: Cut, out: Any) -> None:
        self.retimed = Retimed()
        self._given, self._kept = given, kept
        self._streams = {index: stream for index, stream in streams.items() if index != picture}
        self._clock = _Clock(picture, given.format.name.split(",")[0] in _RESTARTING, self.retimed)
        self._rising = _Rising(out.format.name not in _NONSTRICT, self.retimed)
        self._picture = picture

    def packets(self) -> Iterator[Timed]:
        """The packets that are kept, moved so that the beginning is at 0."""
        wanted = [stream for stream in self._given.streams if stream.index in {*self._streams, self._picture}]
        wanted = [stream for stream in wanted if stream.type != "attachment"]
        if not any(stream.index in self._streams for stream in wanted):
            return
        for packet in _readable(packets_in(self._given, wanted)):
            if not packet.size and packet.pts is None and packet.dts is None:
                continue  # FFmpeg's sign of a stream's end
            if is_cover(packet.stream):
                yield self._cover(packet)
                continue
            self._clock.put_right(packet)
            time = _time_of(packet)
            if packet.stream_index == self._picture or time is None:
                continue
            if self._kept.end is not None and time >= self._kept.end + _INTERLEAVING:
                return  # nothing that is wanted comes so late, and the rest of the file may be long
            if self._kept.has_instant(time):
                yield self._moved(packet, time)

    def _cover(self, packet: Any) -> Timed:
        """A cover, which has no time: it comes first."""
        packet.pts = packet.dts = 0
        index = packet.stream_index
        packet.stream = self._streams[index]
        return (-_INTERLEAVING * Fraction(1), index, packet)

    def _moved(self, packet: Any, time: Fraction) -> Timed:
        """A packet at its time in the output."""
        unit, index = packet.time_base, packet.stream_index
        shift = self._kept.units(unit)
        decoding = time - shift * unit
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
            decoding = packet.dts * unit
        stream = self._streams[index]
        packet.stream = stream
        self._rising.put_right(packet, index, self._given.streams[index].type, stream.time_base)
        return (decoding, index, packet)


def _time_of(packet: Any) -> Fraction | None:
    """When a packet is shown or heard, in seconds; None where nothing tells it."""
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None else Fraction(stamp * packet.time_base)


def _readable(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets as far as a file can be read; that it cannot be read on is told when its frames are."""
    import av

    with suppress(av.error.FFmpegError):
        yield from packets


class _Clock:
    """A file's clock, carried on where it starts again.

    Args:
        picture: index of the picture's stream.
        by_sound: whether a sound that goes back tells that the clock has started again.
        retimed: counts.
    """

    def __init__(self, picture: int, by_sound: bool, retimed: Retimed) -> None:
        self._picture, self._by_sound, self._retimed = picture, by_sound, retimed
        self._added = self._added_before = self._added_to_picture = Fraction(0)
        self._by_sound_alone = False  # until the picture says exactly how much
        self._ends: dict[int, tuple[Fraction, Fraction]] = {}

    def put_right(self, packet: Any) -> None:
        """Move a packet by what its clock has lost; one without any time follows its predecessor."""
        index, kind, unit = packet.stream_index, packet.stream.type, packet.time_base
        raw = packet.dts
        if raw is None and kind != "video":  # where pictures are shown in another order, the two are not comparable
            raw = packet.pts
        if raw is None and packet.pts is not None:
            packet.pts += round(self._added / unit)
            return
        if raw is None:
            self._follow(packet)
            return
        added = round(self._added_for(index, kind, raw * unit) / unit)
        if added:
            packet.pts = None if packet.pts is None else packet.pts + added
            packet.dts = None if packet.dts is None else packet.dts + added
        time = (raw + added) * unit
        self._ends[index] = (time, time + (packet.duration or 0) * unit)

    def _follow(self, packet: Any) -> None:
        """Give a packet without a time that of its predecessor's end, if there is one."""
        last = self._ends.get(packet.stream_index)
        if last is None:
            return
        packet.pts = packet.dts = round(last[1] / packet.time_base)
        self._ends[packet.stream_index] = (last[1], last[1] + (packet.duration or 0) * packet.time_base)

    def _added_for(self, index: int, kind: str, time: Fraction) -> Fraction:
        """What a time of a stream is moved by."""
        if index not in self._ends:
            return self._added
        last, due = self._ends[index]
        if index == self._picture:
            if time + self._added_to_picture < last - _BACK:
                self._added_to_picture = due - time
                self._start_again(self._added_to_picture, by_sound=False)
            return self._added_to_picture
        if kind != "audio":
            return self._added
        # around the place, packets of both clocks lie side by side
        added = min(self._added, self._added_before, key=lambda seconds: abs(time + seconds - due))
        if self._by_sound and time + added < last - _BACK:
            added = due - time
            self._start_again(added, by_sound=True)
        return added

    def _start_again(self, added: Fraction, by_sound: bool) -> None:
        if by_sound or not self._by_sound_alone:
            self._retimed.restarts += 1
            self._added_before = self._added
        self._added, self._by_sound_alone = added, by_sound


class _Rising:
    """Times of packets in the unit of their output's stream, raised where they do not rise.

    Args:
        strict: whether two packets of a stream must not have the same time.
        retimed: counts.
    """

    def __init__(self, strict: bool, retimed: Retimed) -> None:
        self._strict, self._retimed = strict, retimed
        self._last: dict[int, int] = {}

    def put_right(self, packet: Any, index: int, kind: str, unit: Fraction) -> None:
        """Express a packet's times in a unit, and raise them where they must be."""
        _rescale(packet, unit)
        if packet.dts is None and kind != "video":  # where pictures are shown in another order, FFmpeg finds one
            packet.dts = packet.pts
        if packet.dts is None:
            return
        dts, pts = packet.dts, packet.pts
        least = self._least(index, kind)
        if pts is not None and dts > pts:  # FFmpeg's guess: the middle one of the three
            dts = pts = sorted((dts, pts, least))[1]
        if dts < least:
            dts, pts = least, None if pts is None else max(pts, least)
        if (dts, pts) != (packet.dts, packet.pts):
            packet.dts, packet.pts = dts, pts
            self._retimed.packets[index] = self._retimed.packets.get(index, 0) + 1
        self._last[index] = dts

    def _least(self, index: int, kind: str) -> int:
        """The least time that the next packet of a stream may have."""
        last = self._last.get(index)
        if last is None:
            return -_MOST_TIME
        return last + (self._strict and kind in ("audio", "video"))


def _rescale(packet: Any, unit: Fraction) -> None:
    """Express a packet's times in another unit, rounded as FFmpeg does."""
    factor = Fraction(packet.time_base) / Fraction(unit)
    for name in ("pts", "dts", "duration"):
        value = getattr(packet, name)
        if value:
            setattr(packet, name, _rounded(value * factor))
    packet.time_base = unit


def _rounded(value: Fraction) -> int:
    """The nearest whole number; half of one goes away from 0."""
    whole = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return whole if value > 0 else -whole
