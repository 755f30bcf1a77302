"""Container files of videos: which are opened, as what, and which are written.

A video is opened as a local file of a known container, and never as a URL, a playlist or a list of other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputFileError, OutputFileError, reason, requires_extra
from ..system.files import require_readable
from ..system.parsing import shown

if TYPE_CHECKING:
    import av

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Suffix of an output -> FFmpeg's name of the muxer that writes it."""

WHEN_FULL = "free some space there, then `resume` continues after the last whole segment"
"""Advice where there is no room for a video that is being written."""

_DEMUXERS = ",".join(
    [
        "mov,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg,mxf,nut,yuv4mpegpipe",
        "dv,rm,ivf,gxf,wtv,nsv,nuv,dhav",
        "h264,hevc,obu,av1,mpegvideo,m4v,vc1",  # streams without a container
    ]
)
"""FFmpeg's names of the formats that are read: none that names other files."""


def open_input(path: Path, **options: str) -> av.container.InputContainer:
    """Open a video file for reading: a local file of a known container, and no other file or address that it names.

    Raises:
        InputFileError: missing, empty, or no video file.
        MissingPackageError: PyAV is not installed.
    """
    with requires_extra("video", "video files"):
        import av
    require_readable(path)
    guards = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
    try:
        return av.open(f"file:{path}", options={**guards, **options}, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise InputFileError(f"{path}: not a video file that FFmpeg can read ({why(error)})") from None


def packets_in(container: Any, streams: Any) -> Iterator[Any]:
    """The packets of some streams of a container, in its order, and an empty one at the end of each.

    Raises:
        av.error.FFmpegError: the file cannot be read on.
    """
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        # PyAV knows the streams from the beginning alone, and trips at the end over one that has appeared since.
        except (StopIteration, IndexError):
            return
        yield packet


def why(error: Exception) -> str:
    """An error of PyAV's in a few words."""
    return getattr(error, "strerror", None) or reason(error)


def require_container(target: Path) -> str:
    """FFmpeg's name of the muxer that writes an output file.

    Raises:
        OutputFileError: its suffix is none of `CONTAINERS`.
    """
    muxer = CONTAINERS.get(target.suffix.lower())
    if muxer is None:
        names, found = ", ".join(CONTAINERS), target.suffix or "no suffix"
        raise OutputFileError(f"{target}: videos are written as {names}, not {shown(found)}")
    return muxer
