"""One video file restored, piece by piece: decoding, restoring and encoding at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .._version import __version__
from ..core.arrays import Float32
from ..errors import InputFileError, OutputFileError, refuse
from ..system.files import require_writable
from .encoding import Encoding
from .fingerprints import file_identity
from .muxing import begin_of, end_of, holdable, join
from .piece_files import Piece
from .pieces import PieceWriter
from .pipeline import in_batches, run_pipeline
from .reading import read_frames
from .source import Losses, Span, TimedFrame, VideoSource
from .truncation import shortfall
from .work_folder import Settings, WorkFolder

RestoreFrames: TypeAlias = Callable[[Float32, Sequence[int]], Float32]
"""RGB pictures (B, H, W, 3) float32 and their frames' numbers -> restored, same shape."""

SEGMENT_SECONDS = 5.0
"""How much video a piece holds, by default."""

_Coloured: TypeAlias = "tuple[TimedFrame, Float32]"
"""A frame and its picture."""


@dataclass(frozen=True)
class VideoJob:
    """What is to be done.

    Attributes:
        source: see `probing.probe`.
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
        """How many frames a piece has."""
        return max(1, round(self.segment * self.source.rate))

    @property
    def expected_frames(self) -> int:
        """How many frames there will be, as far as is known; 0 if not at all."""
        if not self.cut and self.span.end is None:
            return self.source.frames
        seconds = Fraction(self.source.frames) / self.source.rate
        if self.span.end is not None:
            seconds = min(seconds, self.span.end)
        return max(0, round((seconds - self.span.start) * self.source.rate))

    @property
    def end(self) -> Fraction | None:
        """Where the span ends on the source's clock, in seconds; None: with the source."""
        if self.span.end is None:
            return None
        return self.source.begin + self.span.end

    def manifest(self) -> Settings:
        """Everything that the result depends on."""
        import av

        encoding, span = self.encoding, self.span
        return {
            "version of irsde-deploy": __version__,
            "versions of FFmpeg's libraries": {name: list(version) for name, version in av.library_versions.items()},
            "input": file_identity(self.source.path),
            "stream": self.source.index,
            "matrix": self.source.colour.matrix,
            "span": [str(span.start), str(span.end), self.cut],
            "segment": self.piece_frames,
            "encoding": [encoding.codec, encoding.pixel_format, asdict(encoding.tags), sorted(encoding.options)],
            **self.settings,
        }


@dataclass(frozen=True)
class Partial:
    """What there is of a video whose run was cut off, as a file that plays.

    Attributes:
        path: of the file.
        seconds: of video in it, from its first frame to the end of its last.
    """

    path: Path
    seconds: float


@dataclass
class JobState:
    """How far a job is; kept up to date while it is carried out.

    Attributes:
        resumed: frames that an earlier run had done.
        frames: restored by this one.
        losses: what was wrong with the source.
        partial: what an interrupted job has left.
        notes: sentences for the user.
    """

    resumed: int = 0
    frames: int = 0
    losses: Losses = field(default_factory=Losses)
    partial: Partial | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames that are restored, by whichever run."""
        return self.resumed + self.frames


def prepare(job: VideoJob) -> tuple[WorkFolder, list[Piece]]:
    """Look whether the job can be done, and what is done of it; settles the work folder and keeps other runs away.

    Raises:
        OutputFileError: the output exists, an earlier run was cut off, another is at work, or it cannot be written.
        InputFileError: the earlier run was of something else.
    """
    work = WorkFolder(job.target)
    require_writable(job.target)
    is_source = os.path.realpath(job.target) == os.path.realpath(job.source.path)
    is_there = job.target.exists() and not job.overwrite
    refuse(
        [
            (is_source, f"{job.target} is the input and would be replaced: choose another output"),
            (
                is_there and job.resume and not work.exists,
                f"{job.target}: is done already, there is nothing to resume: `overwrite` makes it anew",
            ),
            (is_there, f"{job.target}: exists already: pass `overwrite` to replace it"),
        ],
        OutputFileError,
    )
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
            f"{job.target}: an earlier run was cut off: pass `resume` to continue it or `overwrite` to begin anew"
        )
    work.begin(job.manifest())
    return []


def carry_out(
    job: VideoJob,
    work: WorkFolder,
    pieces: list[Piece],
    restore: RestoreFrames,
    state: JobState,
    on_start: Callable[[], None] = lambda: None,
    on_frames: Callable[[], None] = lambda: None,
) -> None:
    """Restore what `prepare` has found to be left, and write the output.

    On any error and on an interrupt, what is done stays in the work folder, and is written as `work.partial` so that it
    can be looked at. That file goes when the output is there.

    Args:
        job, work, pieces: see `prepare`.
        restore: restores frames.
        state: is kept up to date.
        on_start: called before the first frame is restored.
        on_frames: called when frames have been restored.
    """
    try:
        state.resumed = sum(len(piece.times) for piece in pieces)
        _carry_out_claimed(job, work, pieces, restore, state, on_start, on_frames)
    finally:
        work.release()


def _carry_out_claimed(
    job: VideoJob,
    work: WorkFolder,
    pieces: list[Piece],
    restore: RestoreFrames,
    state: JobState,
    on_start: Callable[[], None],
    on_frames: Callable[[], None],
) -> None:
    others: list[int] = []
    writer = PieceWriter(work, pieces, job.encoding, job.source, job.piece_frames, state.losses)

    def work_on(frames: list[_Coloured]) -> list[_Coloured]:
        pictures = np.stack([rgb for _, rgb in frames])
        restored = restore(pictures, [frame.number for frame, _ in frames])
        state.frames += len(frames)
        on_frames()
        return [(frame, rgb) for (frame, _), rgb in zip(frames, restored, strict=True)]

    try:
        on_start()
        others, notes = holdable(job.source, job.target)
        state.notes += notes
        run_pipeline(_batches(job, pieces, state.losses), work_on, writer.add)
        with ThreadPoolExecutor(1) as apart:  # so that an interrupt does not spoil the last piece
            apart.submit(writer.finish).result()
        if not writer.pieces:
            raise no_frames(job.source)
    except BaseException:
        _leave_partial(job, work, writer, others, state)
        raise
    join(job.source, writer.pieces, job.target, others, job.cut, job.end)
    work.remove_partial()
    work.remove()


def no_frames(source: VideoSource) -> InputFileError:
    """What to say of a span without a frame."""
    return InputFileError(f"{source.path}: has no frames in the part that `start` and `end` name")


def _batches(job: VideoJob, pieces: Sequence[Piece], losses: Losses) -> Iterator[list[_Coloured]]:
    """The frames that are left, as RGB, some at a time."""
    done = [pts for piece in pieces for pts, _ in piece.times]
    # made-up times depend on all frames before, so reading begins at the first where there are any
    seek = not any(piece.retimed for piece in pieces)
    frames = read_frames(job.source, job.span, losses, max(done, default=None), len(done), seek)
    yield from in_batches(((frame, job.source.to_rgb(frame)) for frame in frames), job.batch)
    if losses.at_end:
        losses.missing = shortfall(job.source)


def _leave_partial(
    job: VideoJob, work: WorkFolder, writer: PieceWriter, others: Sequence[int], state: JobState
) -> None:
    """Write what is done as a file of its own; nothing that fails here may hide why the job has ended."""
    try:
        pieces = _all_pieces(writer, state)
        if not pieces:
            if work.discardable:
                work.remove()
            return
        path, end = work.partial, end_of(job.source, pieces)
        join(job.source, pieces, path, others, job.cut, end)
        state.partial = Partial(path, float(end - begin_of(job.source, pieces)))
        work.note_partial(path)
    except Exception as error:
        state.notes.append(f"what is done could not be written as a file of its own ({error})")


def _all_pieces(writer: PieceWriter, state: JobState) -> list[Piece]:
    """The whole pieces, and what there is of the next, unless that cannot be encoded."""
    try:
        tail = writer.tail()
    except Exception as error:
        state.notes.append(f"what was done after the last whole segment is lost ({error})")
        tail = None
    if tail is None:
        return writer.pieces
    return [*writer.pieces, tail]
