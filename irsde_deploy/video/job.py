"""One video file restored, piece by piece: decoding, restoring and encoding at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .._version import __version__
from ..core.arrays import Float32
from ..errors import InputFileError
from .containers import require_container
from .encoding import Encoding
from .fingerprints import file_identity
from .interlacing import is_marked
from .muxing import Beside, MuxerError, Whole, begin_of, end_of, join
from .piece_files import Piece
from .pieces import PieceEncoder, PieceWriter
from .pipeline import in_batches, run_pipeline
from .reading import read_frames
from .rehearsal import settle
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
        resume: continue a run that was interrupted.
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

    def whole(self, pieces: Sequence[Piece]) -> Whole:
        """The output, of these pieces."""
        return Whole(self.source, pieces, self.target, self.cut, self.end)

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
            "rate": str(encoding.rate),
            "fields": encoding.fields,
            **self.settings,
        }


@dataclass(frozen=True)
class Partial:
    """What there is of a video whose run was interrupted, as a file that plays.

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
        state.resumed = work.finished or sum(len(piece.times) for piece in pieces)
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
    if work.finished is not None and not job.overwrite:  # all but the last deletions
        on_start()
        work.clear()
        return
    beside: Beside | None = None
    writer = PieceWriter(work, pieces, job.encoding, job.source, job.piece_frames, state.losses)

    def work_on(frames: list[_Coloured]) -> list[_Coloured]:
        pictures = np.stack([rgb for _, rgb in frames])
        restored = restore(pictures, [frame.number for frame, _ in frames])
        state.frames += len(frames)
        on_frames()
        return [(frame, rgb) for (frame, _), rgb in zip(frames, restored, strict=True)]

    try:
        beside, notes = settle(_first_of(job, work, pieces, state))
        work.trial.unlink(missing_ok=True)
        state.notes += notes
        on_start()
        run_pipeline(_batches(job, pieces, state.losses), work_on, writer.add)
        with ThreadPoolExecutor(1) as apart:  # so that an interrupt does not spoil the last piece
            apart.submit(writer.finish).result()
        if not writer.pieces:
            raise no_frames(job.source)
    except BaseException:
        _leave_partial(job, work, writer, beside, state)
        raise
    frames = sum(len(piece.times) for piece in writer.pieces)
    _join(job.whole(writer.pieces), beside, state, lambda path: work.note_finished(path, frames))
    with ThreadPoolExecutor(1) as apart:  # an interrupt waits: what is done is done
        apart.submit(work.clear).result()


def _first_of(job: VideoJob, work: WorkFolder, pieces: Sequence[Piece], state: JobState) -> Whole:
    """The output as far as it is there, to be tried: what an earlier run has done, or the first frame as it is."""
    if pieces:
        return job.whole(pieces)
    frame = next(read_frames(job.source, job.span, Losses()), None)
    if frame is None:
        raise no_frames(job.source)
    encoder = PieceEncoder(work.trial, require_container(job.target), job.encoding, job.source)
    encoder.add(frame, job.source.to_rgb(frame))
    piece = Piece(work.trial, tuple(encoder.finish()))
    if job.source.fields is not None and not is_marked(piece.path):
        state.notes.append(f"{job.encoding.codec} does not mark frames as interlaced: players take them for whole ones")
    return job.whole([piece])


def _join(
    whole: Whole, beside: Beside, state: JobState, on_complete: Callable[[Path], None] = lambda path: None
) -> None:
    """Write the output, though it cost a stream beside the picture that went well in the trial."""
    try:
        join(whole, beside, on_complete)
    except MuxerError:
        beside, notes = settle(whole)
        state.notes += [note for note in notes if note not in state.notes]
        join(whole, beside, on_complete)


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
    job: VideoJob, work: WorkFolder, writer: PieceWriter, beside: Beside | None, state: JobState
) -> None:
    """Write what is done as a file of its own; nothing that fails here may hide why the job has ended."""
    try:
        pieces = _all_pieces(writer, state)
        if not pieces:
            if work.discardable:
                work.remove()
            return
        path, end = work.partial, end_of(job.source, pieces)
        _join(Whole(job.source, pieces, path, job.cut, end), beside or Beside(), state)
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
