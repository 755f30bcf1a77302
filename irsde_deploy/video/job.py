"""One video file restored, piece by piece: decoding, restoring and encoding at once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._version import __version__
from ..core.arrays import Float32
from ..errors import InputFileError, OutputFileError
from ..runtimes.device.engine import DeviceEngine
from ..system.files import file_sha256, require_writable
from .encoding import Encoding, PieceEncoder, require_container
from .muxing import begin_of, end_of, holdable, join
from .pipeline import in_batches, run_pipeline
from .reading import Losses, Span, TimedFrame, VideoSource, read_frames
from .truncation import shortfall
from .work_folder import Piece, Settings, WorkFolder

if TYPE_CHECKING:
    from ..restorer import Restorer

RestoreFrames: TypeAlias = Callable[[Float32, Sequence[int]], Float32]
"""RGB pictures (B, H, W, 3) float32 and their frames' numbers -> restored, same shape."""

SEGMENT_SECONDS = 5.0
_ENDS = 1 << 20
"""Bytes of an input's beginning and end that are hashed."""


@dataclass(frozen=True)
class VideoJob:
    """What is to be done.

    Attributes:
        source: see `video.probe`.
        target: file to write.
        encoding: of the frames.
        settings: of the model and the sampler; a run is only resumed with the same.
        span: part of the source.
        cut: whether the user has asked for a start, which is then at 0.
        segment: seconds of a piece.
        batch: frames that are restored together.
        resume: continue a run that was cut off.
        overwrite: replace what is there.
    """

    source: VideoSource
    target: Path
    encoding: Encoding
    settings: Settings
    span: Span = field(default_factory=Span)
    cut: bool = False
    segment: float = SEGMENT_SECONDS
    batch: int = 1
    resume: bool = False
    overwrite: bool = False

    @property
    def piece_frames(self) -> int:
        """Frames of a piece."""
        return max(1, round(self.segment * self.source.rate))

    @property
    def expected_frames(self) -> int:
        """How many frames there will be, as far as is known; 0 if not at all."""
        if not self.cut and self.span.end is None:
            return self.source.frames
        seconds = Fraction(self.source.frames) / self.source.rate
        return max(0, round((min(seconds, self.span.end or seconds) - self.span.start) * self.source.rate))

    @property
    def end(self) -> Fraction | None:
        """Where the span ends on the source's clock."""
        return None if self.span.end is None else self.source.begin + self.span.end

    def manifest(self) -> Settings:
        """Everything that the result depends on."""
        import av

        encoding, span = self.encoding, self.span
        return {
            "version of irsde-deploy": __version__,
            "versions of FFmpeg's libraries": {name: list(version) for name, version in av.library_versions.items()},
            "input": _identity(self.source.path),
            "stream": self.source.index,
            "matrix": self.source.colour.matrix,
            "span": [str(span.start), str(span.end), self.cut],
            "segment": self.piece_frames,
            "encoding": [encoding.codec, encoding.pixel_format, asdict(encoding.tags), sorted(encoding.options)],
            **self.settings,
        }


@dataclass
class VideoProgress:
    """How far a job is.

    Attributes:
        resumed: frames that an earlier run had done.
        frames: restored by this one.
        losses: what was wrong with the source.
        partial: file that an interrupted job has left.
        seconds: of video in that file, from its first frame to the end of its last.
        notes: sentences for the user.
    """

    resumed: int = 0
    frames: int = 0
    losses: Losses = field(default_factory=Losses)
    partial: Path | None = None
    seconds: float = 0
    notes: list[str] = field(default_factory=list)


def prepare(job: VideoJob) -> tuple[WorkFolder, list[Piece]]:
    """Look whether the job can be done, and what is done of it; settles the work folder.

    Raises:
        OutputFileError: the output exists, an earlier run was cut off, another is at work, or it cannot be written.
        InputFileError: the earlier run was of something else.
    """
    work = WorkFolder(job.target)
    require_writable(job.target)
    if os.path.realpath(job.target) == os.path.realpath(job.source.path):
        raise OutputFileError(f"{job.target} is the input and would be replaced: choose another output")
    if job.target.exists() and job.resume and not work.exists and not job.overwrite:
        raise OutputFileError(f"{job.target}: is done already, there is nothing to resume: --overwrite makes it anew")
    if job.target.exists() and not job.overwrite:
        raise OutputFileError(f"{job.target}: exists already: pass --overwrite to replace it")
    work.claim()
    try:
        return work, _done(job, work)
    except BaseException:
        work.release()
        raise


def _done(job: VideoJob, work: WorkFolder) -> list[Piece]:
    """The pieces of an earlier run that is continued; none where the job begins anew."""
    if work.exists and job.resume:
        return work.resume(job.manifest())
    if work.exists and not job.overwrite:
        raise OutputFileError(
            f"{job.target}: an earlier run was cut off: pass --resume to continue it or --overwrite to begin anew"
        )
    work.begin(job.manifest())
    return []


def restore_video(
    job: VideoJob,
    work: WorkFolder,
    pieces: list[Piece],
    restore: RestoreFrames,
    progress: VideoProgress,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Restore what `prepare` has found to be left, and write the output.

    On any error and on an interrupt, what is done stays in the work folder, and is written as `work.partial` so that it
    can be looked at. That file goes when the output is there.

    Args:
        job, work, pieces: see `prepare`.
        restore: restores frames.
        progress: is kept up to date.
        on_frame: called when frames have been restored.
    """
    try:
        _restore_claimed(job, work, pieces, restore, progress, on_frame)
    finally:
        work.release()


def _restore_claimed(
    job: VideoJob,
    work: WorkFolder,
    pieces: list[Piece],
    restore: RestoreFrames,
    progress: VideoProgress,
    on_frame: Callable[[], None],
) -> None:
    others, notes = holdable(job.source, job.target)
    progress.notes += notes
    progress.resumed = sum(len(piece.times) for piece in pieces)
    writer = _PieceWriter(job, work, pieces, progress.losses)

    def work_on(frames: list[tuple[TimedFrame, Float32]]) -> list[tuple[TimedFrame, Float32]]:
        restored = restore(np.stack([rgb for _, rgb in frames]), [frame.number for frame, _ in frames])
        progress.frames += len(frames)
        on_frame()
        return [(frame, rgb) for (frame, _), rgb in zip(frames, restored, strict=True)]

    try:
        run_pipeline(_batches(job, pieces, progress.losses), work_on, writer.add)
        with ThreadPoolExecutor(1) as apart:  # so that an interrupt does not spoil the last piece
            apart.submit(writer.finish).result()
        if not writer.pieces:
            raise InputFileError(f"{job.source.path}: has no frames in the part that --start and --end name")
    except BaseException:
        _leave_partial(job, work, writer, others, progress)
        raise
    join(job.source, writer.pieces, job.target, others, job.cut, job.end)
    work.remove_partial()
    work.remove()


def _batches(job: VideoJob, pieces: Sequence[Piece], losses: Losses) -> Iterator[list[tuple[TimedFrame, Float32]]]:
    """The frames that are left, as RGB, some at a time."""
    done = [pts for piece in pieces for pts, _ in piece.times]
    seek = not any(piece.retimed for piece in pieces)
    frames = read_frames(job.source, job.span, losses, max(done, default=None), len(done), seek)
    yield from in_batches(((frame, job.source.to_rgb(frame)) for frame in frames), job.batch)
    if losses.at_end:
        losses.missing = shortfall(job.source)


class _PieceWriter:
    """Encodes restored frames piece by piece; one thread at a time.

    Attributes:
        pieces: that are whole.
    """

    def __init__(self, job: VideoJob, work: WorkFolder, pieces: Sequence[Piece], losses: Losses) -> None:
        self.pieces = list(pieces)
        self._job, self._work, self._losses = job, work, losses
        self._lock = threading.RLock()
        self._muxer = require_container(job.target)
        self._encoder: PieceEncoder | None = None

    def add(self, frames: Sequence[tuple[TimedFrame, Float32]]) -> None:
        """Encode frames; a full piece is kept."""
        for frame, rgb in frames:
            with self._lock:
                if self._encoder is None:
                    path = self._work.path(len(self.pieces))
                    self._encoder = PieceEncoder(path, self._muxer, self._job.encoding, self._job.source)
                self._encoder.add(frame, rgb)
                if self._encoder.frames == self._job.piece_frames:
                    self.finish()

    def finish(self) -> None:
        """Keep the piece that is being written as a whole one."""
        with self._lock:
            tail = self.tail()
            if tail is not None:
                self.pieces.append(self._work.keep(tail))

    def tail(self) -> Piece | None:
        """End the piece that is being written, if there is one, without keeping it."""
        with self._lock:
            encoder, self._encoder = self._encoder, None
            if encoder is None or not encoder.usable:
                return None
            return Piece(encoder.path, tuple(encoder.finish()), self._losses.retimed)


def _leave_partial(
    job: VideoJob, work: WorkFolder, writer: _PieceWriter, others: Sequence[int], progress: VideoProgress
) -> None:
    """Write what is done as a file of its own; nothing that fails here may hide why the job has ended."""
    try:
        pieces = _all_pieces(writer, progress)
        if not pieces:
            if work.discardable:
                work.remove()
            return
        partial = work.partial
        join(job.source, pieces, partial, others, job.cut, end_of(job.source, pieces))
        progress.partial = partial
        progress.seconds = float(end_of(job.source, pieces) - begin_of(job.source, pieces))
        work.note_partial(partial)
    except Exception as error:
        progress.notes.append(f"what is done could not be written as a file of its own ({error})")


def _all_pieces(writer: _PieceWriter, progress: VideoProgress) -> list[Piece]:
    """The whole pieces, and what there is of the next, unless that cannot be encoded."""
    try:
        tail = writer.tail()
    except Exception as error:
        progress.notes.append(f"what was done after the last whole segment is lost ({error})")
        tail = None
    return [*writer.pieces, tail] if tail else writer.pieces


def _identity(path: Path) -> list[Any]:
    """Size of a file, and SHA-256 of its beginning and end: enough to tell it from another."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return [size, digest.hexdigest()]


def engine_fingerprint(engine: Path, fallback: Path | None) -> list[str]:
    """SHA-256 of the engines' files, for a job's settings."""
    return [file_sha256(path) for path in (engine, fallback) if path is not None]


def runs_on(restorer: Restorer) -> list[str]:
    """What computes: library, version, provider and device of a restorer and its fallback; before it has restored."""
    engine = restorer.engine
    names = [engine.name, *([engine.driver.name] if isinstance(engine, DeviceEngine) else [])]
    return names if restorer.fallback is None else [*names, *runs_on(restorer.fallback)]
