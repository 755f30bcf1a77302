"""PyAV's frames and planes of code values: out of the one, into the other, with nothing scaled or converted by FFmpeg.

Formats other than planar ones are at most repacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.arrays import Float32
from .colour import Colour, Layout, Plane, Planes, to_planes
from .source import UPRIGHT, TimedFrame, VideoSource

if TYPE_CHECKING:
    import av


def planes_of(frame: Any, layout: Layout) -> Planes:
    """A decoded frame's planes, copied."""
    if Layout.of(frame.format.name) != layout:
        frame = frame.reformat(format=layout.name)
    planes = []
    for plane, (height, width) in zip(frame.planes, layout.shapes(frame.height, frame.width), strict=True):
        planes.append(_values(plane, height, width, layout))
    if layout.kind == "rgb":
        green, blue, red = planes  # as FFmpeg orders them
        return red, green, blue
    return tuple(planes)


def _values(plane: Any, height: int, width: int, layout: Layout) -> Plane:
    """The code values (H, W) of one of PyAV's planes, whose rows may be longer, and in the order from below."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[:height]
    if plane.line_size < 0:
        rows = rows[::-1]
    used = np.ascontiguousarray(rows[:, : width * layout.dtype.itemsize])
    values: Plane = used.view(layout.dtype.newbyteorder("<")).astype(layout.dtype)
    return values


def video_frame(frame: TimedFrame, rgb: Float32, source: VideoSource, layout: Layout, colour: Colour) -> av.VideoFrame:
    """A restored picture (H, W, 3) as a frame for an encoder, without a time."""
    import av

    unchanged = (layout, colour, source.turn) == (source.layout, source.colour, UPRIGHT)
    rgb = source.with_clipped(frame, rgb)
    planes = to_planes(rgb, layout, colour, frame.planes if unchanged else None)
    out = av.VideoFrame(rgb.shape[1], rgb.shape[0], layout.name)
    for plane, values in zip(out.planes, _in_ffmpegs_order(planes, layout), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        data = np.ascontiguousarray(values, dtype=layout.dtype.newbyteorder("<")).view(np.uint8)
        rows[: data.shape[0], : data.shape[1]] = data
    return out


def _in_ffmpegs_order(planes: Planes, layout: Layout) -> Sequence[Plane]:
    """Planes of RGB as green, blue, red; others as they are."""
    if layout.kind != "rgb":
        return planes
    red, green, blue = planes
    return green, blue, red
