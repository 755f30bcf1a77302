"""The streams beside the picture: which of them an output can hold, and how they are added to it.

Streams are copied as they are. A cover (a still picture that is marked as one) stays a cover: a stream of its own kind
in MP4, an attachment in Matroska. What FFmpeg makes anew from the metadata (the text track of MP4's chapters, MP4's
timecode track) is not copied beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import one_line
from .containers import open_input, packets_in, require_container
from .copied import COVER, is_cover
from .source import VideoSource

_COVERS = {
    "mp4": {"mjpeg": "", "png": "", "bmp": ""},
    "matroska": {
        "mjpeg": "image/jpeg",
        "png": "image/png",
        "bmp": "image/bmp",
        "gif": "image/gif",
        "webp": "image/webp",
    },
}
"""By FFmpeg's name of the muxer: the codecs of covers that it writes as such, with the type of an attachment."""
_SUFFIXES = {"mjpeg": "jpg"}
_ORDER = ("audio", "subtitle", "video", "attachment", "data")
"""Kinds of streams, those first that are missed most."""


def candidates(source: VideoSource, target: Path) -> tuple[list[int], list[int]]:
    """The other streams that are worth a trial, by index, and those that are not.

    Those come first that would be missed most. What is made anew is in neither.
    """
    muxer = require_container(target)
    wanted: list[Any] = []
    hopeless: list[Any] = []
    with open_input(source.path) as given:
        for stream in given.streams:
            if stream.index == source.index or _made_anew(given, stream):
                continue
            (hopeless if _goes_unsaid(muxer, stream) else wanted).append(stream)
        wanted.sort(key=lambda stream: _ORDER.index(stream.type) if stream.type in _ORDER else len(_ORDER))
        return [stream.index for stream in wanted], [stream.index for stream in hopeless]


def _goes_unsaid(muxer: str, stream: Any) -> bool:
    """Whether a muxer leaves a stream out, or makes something else of it, without a word."""
    if is_cover(stream):
        return _codec_of(stream) not in _COVERS.get(muxer, {})
    return bool(stream.type == "attachment" and muxer != "matroska")


def left_out(stream: Any, target: Path) -> str:
    """What to say of a stream that an output cannot hold."""
    kind = "cover" if is_cover(stream) else stream.type
    return (
        f"stream {stream.index} ({kind}, {_codec_of(stream) or 'unknown codec'}) cannot be held by {target.suffix} "
        "and is left out"
    )


def _codec_of(stream: Any) -> str:
    """FFmpeg's name of a stream's codec; empty where it knows none."""
    context = stream.codec_context
    return str(context.codec.canonical_name) if context else ""


def _made_anew(given: Any, stream: Any) -> bool:
    """Whether a stream holds what the muxer makes again from chapters or metadata."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or _repeats_chapters(given, stream)


def _repeats_chapters(given: Any, stream: Any) -> bool:
    """Whether a stream's packets begin where the chapters do: MP4 and MOV keep their titles in such a one."""
    chapters = given.chapters() if hasattr(given, "chapters") else []
    entries = getattr(stream, "index_entries", None)
    if not chapters or not entries or len(entries) != len(chapters):
        return False
    starts = [chapter["start"] * Fraction(chapter["time_base"]) for chapter in chapters]
    return [entry.timestamp * Fraction(stream.time_base) for entry in entries] == starts


def add_neighbour(out: Any, stream: Any, picture: Any, path: Path, metadata: dict[str, str]) -> Any | None:
    """Add a copy of a stream to an output; None where it needs no packets.

    Args:
        out: the output.
        stream: of the source.
        picture: the picture's stream in `out`.
        path: of the source.
        metadata: that the copy gets.

    Raises:
        av.error.FFmpegError, ValueError: the output cannot hold it.
    """
    if is_cover(stream) and out.format.name == "matroska":
        _attach(out, stream, path)
        return None
    added = _copy_of(out, stream, picture)
    added.metadata.update(metadata)
    added.disposition = COVER if is_cover(stream) else stream.disposition.value
    return added


def _copy_of(out: Any, stream: Any, picture: Any) -> Any:
    """A stream of the same parameters, of any codec, also one that is unknown here."""
    with suppress(ValueError):
        return out.add_stream_from_template(stream, opaque=True)
    # PyAV asks the format whether it likes the codec, and Matroska, for one, says no to what it holds all the same
    # (Windows Media Audio). FFmpeg's own copying asks the muxer alone; so does a stream that is overwritten.
    from av.bitstream import BitStreamFilterContext

    added = out.add_stream_from_template(picture, opaque=True)
    BitStreamFilterContext("null", in_stream=stream, out_stream=added)
    added.codec_context.codec_tag = "\0\0\0\0"  # the output's own
    added.time_base = stream.time_base
    return added


def _attach(out: Any, stream: Any, path: Path) -> None:
    """Add a cover as an attachment."""
    codec = _codec_of(stream)
    name = stream.metadata.get("filename") or f"cover.{_SUFFIXES.get(codec, codec)}"
    kind = stream.metadata.get("mimetype") or _COVERS["matroska"][codec]
    attached = out.add_attachment(one_line(name), one_line(kind), _first_packet(path, stream.index))
    attached.metadata.update(stream.metadata | {"filename": one_line(name), "mimetype": one_line(kind)})


def _first_packet(path: Path, index: int) -> bytes:
    """What a stream begins with."""
    with open_input(path) as given:
        packets: Iterable[Any] = packets_in(given, given.streams[index])
        return next((bytes(packet) for packet in packets if packet.size), b"")
