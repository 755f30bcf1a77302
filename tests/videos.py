"""Small made-up videos, written with PyAV itself, and how to read them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sample_pictures import photograph

from irsde_deploy import Restorer
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.video.colour import Colour, Layout, Planes, to_planes
from irsde_deploy.video.encoding import choose_encoding
from irsde_deploy.video.interlacing import Marker
from irsde_deploy.video.job import JobState, RestoreFrames, VideoJob, carry_out
from irsde_deploy.video.preparing import prepare
from irsde_deploy.video.probing import probe
from irsde_deploy.video.source import Span

YUV420, SD = Layout("yuv", 8, 1, 1), Colour("bt601")

LOSSLESS = {"libx264": {"crf": "0"}, "ffv1": {}}
VARIABLE = [0, 33, 66, 133, 140, 300, 333, 366, 399, 1000, 1033, 1100]
"""Times of a variable frame rate, in milliseconds."""


class Identity:
    """An engine of our own: the noise that it predicts is what leads to y_0 = 0, so the picture stays what it is."""

    name = "identity"

    def __init__(self) -> None:
        sde = MeanRevertingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.5)
        self.card = ModelCard("Identity", {}, 3, 1, "zero", sde, sampler="mean", steps=1)

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        sigma = self.card.sde.sigma[t.astype(int)].astype(np.float32)
        return (x - mu) / sigma[:, None, None, None]


def planes_of(count: int, layout: Layout, colour: Colour, height: int = 48, width: int = 64) -> list[Planes]:
    """A photograph that drifts to the right."""
    picture = photograph(3, height, width).astype(np.float32) / 255
    return [to_planes(np.roll(picture, 3 * k, axis=1), layout, colour) for k in range(count)]


def write_video(
    path: Path,
    frames: Sequence[Planes],
    pixel_format: str = "yuv420p",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    tags: tuple[int, int, int, int] = (0, 2, 2, 2),
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    audio: str = "",
    subtitles: str = "",
    timecode: str = "",
    fields: str = "",
) -> Path:
    """A video file; tags are range, primaries, transfer, matrix; 25 frames a second unless times are given."""
    layout = Layout.of(pixel_format)
    assert layout is not None
    height, width = frames[0][0].shape
    times = list(times) if times is not None else [40 * k for k in range(len(frames))]
    if subtitles and not hasattr(av.container.OutputContainer, "add_mux_stream"):
        pytest.skip("this PyAV cannot write subtitles from nothing")
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base = stream.time_base = time_base
        context.sample_aspect_ratio = aspect
        context.options = dict(LOSSLESS.get(codec, {}) if options is None else options)
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags
        if timecode:
            stream.metadata["timecode"] = timecode
        if rotation:
            stream.set_display_rotation(rotation)
        sound = out.add_stream(audio, rate=48000, bit_rate=64000) if audio else None
        text = out.add_mux_stream(subtitles) if subtitles else None
        if fields:
            context.options = {**context.options, "flags": "+ildct+ilme"}
        packets = _video_packets(stream, frames, layout, times, time_base, fields)
        if sound is not None:
            packets += _audio_packets(sound, times[-1] / 1000)
        if text is not None:
            packets += _subtitle_packets(text, subtitles, times[-1])
        out.start_encoding()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def _video_packets(
    stream: Any, frames: Sequence[Planes], layout: Layout, times: Any, unit: Fraction, fields: str = ""
) -> list[Any]:
    packets = []
    marked = Marker(fields) if fields else lambda frame: frame
    for planes, pts in zip(frames, times, strict=True):
        frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], layout.name)
        ordered = (planes[1], planes[2], planes[0]) if layout.kind == "rgb" else planes
        for plane, values in zip(frame.planes, ordered, strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            data = np.ascontiguousarray(values).view(np.uint8)
            rows[: data.shape[0], : data.shape[1]] = data
        frame.pts, frame.time_base = pts, unit
        packets += stream.encode(marked(frame))
    return packets + stream.encode(None)


def _audio_packets(stream: Any, seconds: float) -> list[Any]:
    rng = np.random.default_rng(0)
    packets = []
    samples = stream.codec_context.frame_size or 1024
    for k in range(int(seconds * 48000 / samples) + 1):
        data = (rng.normal(0, 0.1, (2, samples))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, k * samples, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _subtitle_packets(stream: Any, codec: str, end: int) -> list[Any]:
    packets = []
    for k, start in enumerate(range(0, end, 300)):
        text = f"line {k}".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if codec == "mov_text" else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = 200
        packets.append(packet)
    return packets


def copy_packets(
    given: Any,
    out: Any,
    streams: Sequence[Any] | Mapping[int, Any],
    change: Callable[[Any], object] = lambda packet: None,
) -> None:
    """Mux the packets of an open file into another, each into the stream that has its own stream's number.

    Those of streams without a partner are left out; `change` may alter each of the others before.
    """
    partners = dict(enumerate(streams)) if isinstance(streams, Sequence) else streams
    for packet in given.demux([given.streams[number] for number in partners]):
        if packet.size:
            packet.stream = partners[packet.stream_index]
            change(packet)
            out.mux_one(packet)


def read_planes(path: Path) -> list[tuple[Fraction, Planes]]:
    """(seconds, planes) of every frame, as FFmpeg decodes them."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, _planes(frame)) for frame in container.decode(video=0)]


def _planes(frame: Any) -> Planes:
    layout = Layout.of(frame.format.name)
    assert layout is not None, frame.format.name
    planes = []
    for plane, (height, width) in zip(frame.planes, layout.shapes(frame.height, frame.width), strict=True):
        rows = np.frombuffer(memoryview(plane), layout.dtype).reshape(-1, plane.line_size // layout.dtype.itemsize)
        planes.append(rows[:height, :width].copy())
    return (planes[2], planes[0], planes[1]) if layout.kind == "rgb" else tuple(planes)


def packets_of(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """(seconds, content) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def colours_of(path: Path) -> tuple[int, ...]:
    """Range, primaries, transfer, matrix, as FFmpeg numbers them, and the pixel format."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        next(container.decode(video=0))
        return (
            int(context.color_range),
            int(context.color_primaries),
            int(context.color_trc),
            int(context.colorspace),
            context.pix_fmt,
        )


def identity(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    return Restorer(Identity())(pictures, sampler="mean", steps=1, frames=numbers)


def stopping_at(frame: int) -> RestoreFrames:
    """`identity`, which an interrupt ends at a frame."""

    def stopping(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        if numbers[0] == frame:
            raise KeyboardInterrupt
        return identity(pictures, numbers)

    return stopping


def restore(
    source: Path,
    target: Path,
    restorer: RestoreFrames = identity,
    span: Span | None = None,
    pixel_format: str | None = None,
    lossless: bool = True,
    codec: str | None = None,
    cut: bool | None = None,
    state: JobState | None = None,
    **more: object,
) -> JobState:
    """A job with an engine of the test's own."""
    found = probe(source)
    encoding = choose_encoding(found, target, codec, 0 if lossless and codec is None else None, None, pixel_format)
    given = span or Span()
    cut = bool(given.start) if cut is None else cut
    job = VideoJob(found, target, encoding, {"engine": "test"}, given, cut, **more)  # type: ignore[arg-type]
    state = state or JobState()
    work, pieces = prepare(job)
    carry_out(job, work, pieces, restorer, state)
    return state


def assert_same(ours: Planes, theirs: Planes, tolerance: int = 0) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= tolerance
