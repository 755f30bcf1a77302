"""Interlaced frames: which of their two fields comes first, and how restored frames are marked the same.

PyAV tells whether a frame is interlaced, and neither tells nor sets the order; FFmpeg's filters do both.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .colour import Layout
from .containers import open_input
from .frames import planes_of

TOP_FIRST, BOTTOM_FIRST = "tff", "bff"
"""FFmpeg's words for the orders."""
_ORDERS = (TOP_FIRST, BOTTOM_FIRST)

CODED_AS_FIELDS = {
    "libx264": "+ildct+ilme",
    "mpeg2video": "+ildct+ilme",
    "mpeg4": "+ildct+ilme",
    "prores_ks": "+ildct",
    "dnxhd": "+ildct",
}
"""Encoders that have a way to code interlaced frames, and the flags that ask for it."""


def field_order(frame: Any, layout: Layout) -> str | None:
    """The order of an interlaced frame's fields; None for a frame that is not interlaced.

    Where both orders would show the same picture, the top field is taken for the first.

    Args:
        frame: of PyAV's.
        layout: of its planes.
    """
    if not frame.interlaced_frame:
        return None
    # The filter moves what is not in the order asked for by a line, and may convert chroma on the way.
    changes = {order: _changed(frame, _through(_graph(frame, "fieldorder", order), frame), layout) for order in _ORDERS}
    return min(_ORDERS, key=changes.__getitem__)


def _changed(frame: Any, other: Any, layout: Layout) -> int:
    """By how much the first planes of two frames differ."""
    one, two = planes_of(frame, layout)[0], planes_of(other, layout)[0]
    return int(np.abs(one.astype(np.int64) - two).sum())


class Marker:
    """Marks frames of one kind as interlaced, with an order of their fields."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._marking: Any = None

    def __call__(self, frame: Any) -> Any:
        """The frame, marked; times stay."""
        if self._marking is None:
            self._marking = _graph(frame, "setfield", self._order)
        return _through(self._marking, frame)


def is_marked(path: Path) -> bool:
    """Whether the first frame of a video file says that it is interlaced."""
    import av

    with suppress(av.error.FFmpegError), open_input(path) as container:
        return any(frame.interlaced_frame for frame in islice(container.decode(video=0), 1))
    return False


def _graph(frame: Any, name: str, argument: str) -> Any:
    """One of FFmpeg's filters for frames of this kind."""
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    step, sink = graph.add(name, argument), graph.add("buffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    return graph


def _through(graph: Any, frame: Any) -> Any:
    graph.push(frame)
    return graph.pull()
