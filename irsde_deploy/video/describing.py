"""What a file says of itself, carried over to another: metadata and chapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import one_line
from ..system.parsing import shortened
from .cut import Cut

_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration", "alpha_mode")
_OF_THE_STREAM = ("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION")
"""Beginnings of the names of Matroska's statistics."""

_COMMON = "title artist album date comment genre copyright location creation_time timecode"
_FIELDS = {
    "mp4": f"{_COMMON} album_artist composer grouping lyrics description synopsis show episode_id network keywords "
    "media_type hd_video gapless_playback compilation episode_sort season_number track disc",
    "mov": f"{_COMMON} make model",
}
"""By FFmpeg's name of the muxer: the metadata of a file that it has fields for. Others hold any."""
_NOT_MISSED = ("software", "uid", "_ul", "_umid")
"""Ends of the names of what tells the old file from others, and nothing of what it holds."""
_KEY = "."
"""What the names of QuickTime's and Android's keys have: com.apple.quicktime.model."""
_SHOWN = 5


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata without what described the old file: its brands, its encoder, Matroska's statistics."""
    kept = {}
    for key, value in metadata.items():
        if key.lower() not in _OF_THE_FILE and not key.startswith(_OF_THE_STREAM):
            kept[key] = value
    return kept


def needs_keys(metadata: Mapping[str, str], muxer: str) -> bool:
    """Whether a file's metadata has keys, as phones write them, which MP4 and MOV hold in a list of their own.

    With that list, FFmpeg writes all metadata to it, and no cover.
    """
    return muxer in _FIELDS and any(_KEY in key for key in kept_metadata(metadata))


def unholdable(metadata: Mapping[str, str], muxer: str, keys: bool) -> list[str]:
    """A note, where a file's metadata has what the muxer writes nowhere.

    Args:
        metadata: of the file.
        muxer: FFmpeg's name of it.
        keys: whether it writes a list of keys, which holds any.
    """
    fields = _FIELDS.get(muxer)
    if keys or fields is None:
        return []
    lost = []
    for key in kept_metadata(metadata):
        if key.lower().split("-")[0] not in fields.split() and not key.lower().endswith(_NOT_MISSED):
            lost.append(key)
    if not lost:
        return []
    shown = ", ".join(shortened(one_line(key)) for key in lost[:_SHOWN]) + (", ..." if len(lost) > _SHOWN else "")
    return [f"metadata that the container has no field for is left out ({shown}): .mkv holds any"]


def set_chapters(given: Any, out: Any, kept: Cut) -> None:
    """Copy the chapters, moved and cut like everything else."""
    if not hasattr(out, "set_chapters"):  # older versions of PyAV
        return
    chapters = _chapters(given.chapters(), kept)
    if chapters:
        out.set_chapters(chapters)


def _chapters(chapters: Iterable[dict[str, Any]], kept: Cut) -> list[dict[str, Any]]:
    moved = []
    for chapter in chapters:
        unit = chapter["time_base"]
        start, stop = chapter["start"] * unit, chapter["end"] * unit
        if kept.has(start, stop):
            start, stop = kept.clipped(start, stop)
            moved.append({**chapter, "start": round(start / unit), "end": round(stop / unit)})
    return moved
