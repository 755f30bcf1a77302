"""Uncompressed video restored as it comes, from one pipe to another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ..core.arrays import Float32
from ..core.pixels import require_rgb_pictures
from ..core.sampling import Sampling
from ..errors import InputFileError
from ..pictures.restoring import Restoring
from ..pictures.targets import QualityChoice, seconds_wanted
from ..restorer import Restorer
from .pipe_formats import PipeFormat, PipeFrame
from .pipeline import in_batches, run_pipeline
from .pipes import read_format, read_pipe_frames, write_frame, write_header
from .settling import USUAL, Tell, ignore, ignore_frame, name_of, restoring_for, with_quality
from .video_settings import PipeSettings, of_kind

_Item: TypeAlias = "tuple[PipeFrame, float, Float32]"
"""A frame, when it was there, its colours."""

_PATIENCE = 1.0
"""Seconds to wait for a reader that does not read, once the end has come."""
_REMEMBERED = 100_000
"""Latencies that are kept, the last ones."""


@dataclass(frozen=True)
class PipeStart:
    """What is about to be done.

    Attributes:
        engine: what computes.
        sampling: how frames are restored, in words.
        form: what the frames are.
    """

    engine: str
    sampling: str
    form: PipeFormat


@dataclass(frozen=True)
class PipeOutcome:
    """What became of a stream.

    Attributes:
        frames: that were written.
        seconds: from the first frame's arrival to the end.
        latencies: seconds from when each frame was read to when it was written, of the last 100,000.
        closed: whether the reader has closed the pipe before the end.
    """

    frames: int
    seconds: float
    latencies: tuple[float, ...]
    closed: bool = False

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / max(self.seconds, 1e-9)

    def latency(self, percent: float) -> float:
        """Seconds that so many percent of the frames took at most; there must be a frame."""
        return float(np.percentile(self.latencies, percent))


_INTERLACED = "the stream is interlaced, and its frames are restored as if they were not: deinterlace it first"


def restore_pipe(
    restorer: Restorer,
    given: BinaryIO,
    output: BinaryIO,
    *,
    sampling: Sampling | None = None,
    settings: PipeSettings | None = None,
    target_seconds: float | None = None,
    on_quality: Callable[[QualityChoice], object] = ignore,
    on_note: Tell = ignore,
    on_start: Callable[[PipeStart], object] = ignore,
    on_frame: Callable[[int, float], object] = ignore_frame,
    on_cut_off: Callable[[PipeOutcome], object] = ignore,
) -> PipeOutcome:
    """Restore a stream of uncompressed frames as they come: y4m or raw RGB in, the same out.

    Args:
        restorer: of an RGB model.
        given: stream to read, of bytes; it may give fewer than it is asked for.
        output: stream to write, of bytes, best unbuffered; a reader that closes it ends the run well.
        sampling: how frames are restored; by default as the model card says, in tiles where memory asks for them. Where
            a model needs a noise level and it is not said, that of the first frame is estimated for all.
        settings: what the frames are, and more.
        target_seconds: that a frame may take: an evaluation is measured, and the best preset that fits is taken.
        on_quality: called with what was chosen for `target_seconds`.
        on_note: called with what a user should know, a sentence each.
        on_start: called before anything is written.
        on_frame: called with the number of each frame that was written, from 0, and its latency in seconds; in a
            thread of its own.
        on_cut_off: called with what was written where an error or an interrupt ends the run, which is then raised.

    Raises:
        InputFileError: no stream of this kind, or it ends within a frame; the whole frames were written.
        InvalidValueError: settings that do not fit each other or the model. EngineError: an evaluation has failed.
    """
    settings, sampling = of_kind(PipeSettings, settings), USUAL if sampling is None else Sampling.of(sampling)
    require_rgb_pictures(restorer.card, name_of(restorer))
    target_seconds = seconds_wanted(target_seconds, None, sampling)
    form = settings.raw or read_format(given, settings.matrix)
    frames = read_pipe_frames(given, form)
    first = _first_of(frames)
    picture = form.to_rgb(first)
    if target_seconds is not None:
        sampling = with_quality(target_seconds, restorer, sampling, picture, settings.batch, on_quality, on_note)
    restoring = restoring_for(restorer, sampling, picture, on_note)
    on_start(PipeStart(restorer.engine.name, str(restoring), form))
    if form.interlaced:
        on_note(_INTERLACED)
    stream = _Stream(form, output, restoring, settings.noise == "per-frame", on_frame)
    try:
        write_header(output, form)
        stream.run(chain([first], frames), settings.batch)
    except BrokenPipeError:
        return stream.outcome(closed=True)
    except BaseException:
        on_cut_off(stream.outcome())
        raise
    for tiling in restoring.tilings:
        on_note(f"restored in {tiling}")
    return stream.outcome()


def _first_of(frames: Iterator[PipeFrame]) -> PipeFrame:
    """The first frame."""
    first = next(frames, None)
    if first is None:
        raise InputFileError("the input ends before its first frame")
    return first


class _Stream:
    """Frames on their way, and how long each took from the moment it was read to the moment it was written."""

    def __init__(
        self,
        form: PipeFormat,
        output: BinaryIO,
        restoring: Restoring,
        numbered: bool,
        on_frame: Callable[[int, float], object],
    ) -> None:
        self._form, self._output, self._restoring = form, output, restoring
        self._numbered, self._on_frame = numbered, on_frame
        self._written = 0
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._started = time.perf_counter()

    def run(self, frames: Iterator[PipeFrame], batch: int) -> None:
        """Restore every frame."""
        batches = in_batches(self._arriving(frames), batch)
        # A frame that waits is late: no more than one does before each stage.
        run_pipeline(batches, self._work, self._write, depth=1, patience=_PATIENCE)

    def _arriving(self, frames: Iterator[PipeFrame]) -> Iterator[_Item]:
        for frame in frames:
            yield frame, time.perf_counter(), self._form.to_rgb(frame)

    def _work(self, batch: list[_Item]) -> list[_Item]:
        numbers = [frame.number for frame, _, _ in batch] if self._numbered else None
        pictures: Any = np.stack([rgb for _, _, rgb in batch])
        restored = self._restoring(pictures, frames=numbers)
        return [(frame, arrived, rgb) for (frame, arrived, _), rgb in zip(batch, restored, strict=True)]

    def _write(self, batch: list[_Item]) -> None:
        for frame, arrived, rgb in batch:
            write_frame(self._output, self._form, self._form.restored(frame, rgb))
            latency = time.perf_counter() - arrived
            self._written += 1
            self._latencies.append(latency)
            self._on_frame(frame.number, latency)

    def outcome(self, closed: bool = False) -> PipeOutcome:
        """What was written so far."""
        return PipeOutcome(self._written, time.perf_counter() - self._started, tuple(self._latencies), closed)
