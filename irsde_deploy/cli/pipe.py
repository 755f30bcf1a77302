"""irsde-deploy run - -o -: video from stdin to stdout."""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np

from ..errors import InputFileError, InvalidValueError
from .common import say
from .sampling import Model, for_frames, quality_for

if TYPE_CHECKING:
    from ..core.arrays import Float32
    from ..core.sampling import Sampling
    from ..video.pipes import PipeFormat, PipeFrame
    from .video import VideoOptions

_Item: TypeAlias = "tuple[PipeFrame, float, Float32]"
"""A frame, when it was there, its colours."""

_PATIENCE = 1.0
"""Seconds to wait for a reader that does not read, once the end has come."""
_REMEMBERED = 100_000
"""Latencies that the summary is made of."""


def run_pipe(model: Model, sampling: Sampling, target: float | None, batch: int, options: VideoOptions) -> None:
    """Restore frames from stdin to stdout as they come; everything else that is said goes to stderr.

    A reader that closes the pipe ends it well.
    """
    from ..video.pipes import raw_format, read_format, read_frames, write_header

    given, output = _claim_pipes()
    raw = None if options.size is None else raw_format(options.size, options.pix_fmt or "rgb24")
    restorer = model.load()
    form = raw or read_format(given, options.matrix)
    frames = read_frames(given, form)
    first = next(frames, None)
    if first is None:
        raise InputFileError("the input ends before its first frame")
    picture = form.to_rgb(first)
    if target is not None:
        sampling = sampling.of_quality(quality_for(target, restorer, sampling, np.stack([picture] * batch)))
    restoring = for_frames(model.engine, restorer, sampling, picture)
    noise = options.noise or "fixed"
    click.echo(f"{restorer.engine.name}: {restoring}, {noise} noise; {form.width}x{form.height}", err=True)
    if form.interlaced:
        say("note: the stream is interlaced, and its frames are restored as if they were not: deinterlace it first")

    def restore(pictures: Float32, numbers: list[int]) -> Any:
        return restoring(pictures, frames=numbers if noise == "per-frame" else None)

    stream = _Stream(form, output, restore)
    try:
        write_header(output, form)
        stream.run(chain([first], frames), batch)
    except BrokenPipeError:
        say(f"{stream.summary}; the reader has closed the pipe")
        return
    except BaseException:
        if stream.written:
            say(stream.summary)
        raise
    for tiling in restoring.tilings:
        say(f"note: restored in {tiling}")
    say(stream.summary)


def _claim_pipes() -> tuple[io.FileIO, io.FileIO]:
    """Stdin and stdout, unbuffered; from now on, what anybody prints on stdout goes to stderr."""
    if sys.stdin is None or sys.stdout is None:
        name = "stdout (>&-)" if sys.stdout is None else "stdin (<&-)"
        raise InvalidValueError(f"{name} is closed: - needs a pipe or a file there")
    if sys.stdin.isatty():
        raise InvalidValueError("nothing is piped in: ffmpeg -i in.mp4 -f yuv4mpegpipe - | irsde-deploy run - -o - ...")
    if sys.stdout.isatty():
        raise InvalidValueError("-o - would write video on a terminal: pipe it into a program, or a file with >")
    sys.stdout.flush()
    given, output = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    return io.FileIO(given, "rb"), io.FileIO(output, "wb")


class _Stream:
    """Frames on their way, and how long each took from the moment it was read to the moment it was written."""

    def __init__(self, form: PipeFormat, output: io.FileIO, restore: Any) -> None:
        self.form, self.output, self.restore = form, output, restore
        self.written = 0
        self.latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.started = time.perf_counter()

    def run(self, frames: Iterator[PipeFrame], batch: int) -> None:
        """Restore every frame."""
        from ..video.pipeline import in_batches, run_pipeline

        arriving = ((frame, time.perf_counter(), self.form.to_rgb(frame)) for frame in frames)
        run_pipeline(in_batches(arriving, batch), self._work, self._write, depth=1, patience=_PATIENCE)

    def _work(self, batch: list[_Item]) -> list[_Item]:
        restored = self.restore(np.stack([rgb for _, _, rgb in batch]), [frame.number for frame, _, _ in batch])
        return [(frame, arrived, rgb) for (frame, arrived, _), rgb in zip(batch, restored, strict=True)]

    def _write(self, batch: list[_Item]) -> None:
        from ..video.pipes import write_frame

        for frame, arrived, rgb in batch:
            write_frame(self.output, self.form, self.form.restored(frame, rgb))
            self.written += 1
            self.latencies.append(time.perf_counter() - arrived)
            click.echo(f"frame {frame.number}: {1000 * self.latencies[-1]:.1f} ms", err=True)

    @property
    def summary(self) -> str:
        """For people."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        words = f"{self.written} frames, {self.written / seconds:.2f} fps"
        if not self.latencies:
            return words
        median, late = (1000 * np.percentile(self.latencies, share) for share in (50, 95))
        return f"{words}, latency {median:.1f} ms (median), {late:.1f} ms (95th percentile)"
