"""Videos in every container that is read: box by box, element by element, packet by packet, byte by byte."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from irsde_deploy.video.probing import probe
from irsde_deploy.video.reading import read_frames
from irsde_deploy.video.source import Losses, Span

from ..formats.chunks import RIFF
from ..formats.movies import BOXES, EBML, spoil_packets
from .kind import Kind, good_files, require
from .pictures import damaged_bytes

_FILES = (
    ("a.mp4", "libx264", "yuv420p", "aac"),
    ("b.mov", "mpeg4", "yuv420p", ""),
    ("c.mkv", "ffv1", "yuv444p10le", "flac"),
    ("d.mkv", "libx264", "yuv420p", "aac"),
    ("e.webm", "libvpx-vp9", "yuv420p", "libopus"),
    ("f.avi", "mpeg4", "yuv420p", "mp3"),
    ("g.avi", "mjpeg", "yuvj420p", ""),
    ("h.ts", "mpeg2video", "yuv420p", "mp2"),
    ("i.flv", "flv", "yuv420p", ""),
    ("j.asf", "msmpeg4", "yuv420p", ""),
    ("k.mpg", "mpeg1video", "yuv420p", "mp2"),
    ("l.nut", "rawvideo", "rgb24", ""),
    ("m.mov", "qtrle", "rgb24", ""),
    ("n.ogv", "libtheora", "yuv420p", ""),
    ("o.mxf", "mpeg2video", "yuv420p", ""),
)
"""Name, codec, pixel format, codec of the sound."""

_SPOIL = {
    ".mp4": BOXES.spoil,
    ".mov": BOXES.spoil,
    ".mkv": EBML.spoil,
    ".webm": EBML.spoil,
    ".avi": RIFF.spoil,
    ".ts": spoil_packets,
}


def make_videos(folder: Path) -> None:
    """A small video in each container; one that this FFmpeg cannot write is left out."""
    import av

    for name, codec, pixel_format, sound in _FILES:
        path = folder / name
        try:
            _write(path, codec, pixel_format, sound)
        except (av.error.FFmpegError, ValueError):
            path.unlink(missing_ok=True)


def _write(path: Path, codec: str, pixel_format: str, sound: str) -> None:
    import av

    rng = np.random.default_rng(0)
    side = {"mxf": (64, 64)}.get(path.suffix[1:], (32, 48))
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(codec, rate=25)
        context: Any = stream.codec_context
        context.width, context.height, context.pix_fmt = side[1], side[0], pixel_format
        context.thread_count, context.gop_size, context.time_base = 1, 4, Fraction(1, 25)
        heard = out.add_stream(sound, rate=48000) if sound else None
        base = rng.integers(0, 256, (*side, 3), dtype=np.uint8)
        for k in range(8):
            frame = av.VideoFrame.from_ndarray(np.roll(base, k, axis=1), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard is not None:
            _write_sound(out, heard, rng)


def _write_sound(out: Any, heard: Any, rng: np.random.Generator) -> None:
    import av

    form, size = heard.codec_context.format.name, 960
    for k in range(8):
        data = rng.normal(0, 0.1, (2, size)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, k * size, Fraction(1, 48000)
        resampled = av.AudioResampler(format=form, layout="stereo", rate=48000).resample(frame)
        for part in resampled:
            out.mux(heard.encode(part))
    out.mux(heard.encode(None))


def damage_video(rng: Random, good: Path, target: Path) -> Path:
    """A damaged video in a folder."""
    files = good_files(good)
    path = rng.choice(files)
    made = target / f"video{path.suffix}"
    made.write_bytes(damaged_bytes(rng, path, _SPOIL.get(path.suffix), files) or b"x")
    return made


def _read(path: Path, outputs: Path) -> None:
    """Probe it, read all its frames, and turn a few into colours."""
    del outputs
    source = probe(path)
    require(0 < source.height * source.width <= 100_000_000, "a size without bounds")
    require(source.rate > 0 and source.time_base > 0, "a rate or a time base of no sense")
    losses, last = Losses(), None
    for frame in read_frames(source, Span(), losses):
        require(last is None or frame.pts > last, "times do not rise")
        last = frame.pts
        if frame.number < 2:
            rgb = source.to_rgb(frame)
            require(bool(np.isfinite(rgb).all()), "colours of no sense")
        if frame.number > 500:
            break
    for said in (*losses.problems, *losses.notes, *source.notes):
        require(len(said) < 400 and said.isprintable(), f"a note that cannot be printed: {said[:80]!r}")


VIDEOS = Kind("videos", make_videos, damage_video, _read, most_seconds=20, most_mib=1500, weight=2)
