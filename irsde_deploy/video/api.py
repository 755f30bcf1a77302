"""One video file restored in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.arrays import Float32
from ..core.pixels import require_rgb_pictures
from ..core.presets import PRESETS
from ..core.sampling import Sampling
from ..pictures.restoring import Restoring
from ..pictures.targets import QualityChoice, seconds_wanted
from ..restorer import Restorer
from .encoding import choose_encoding
from .fingerprints import engine_identity
from .job import JobState, Partial, VideoJob, carry_out, no_frames
from .preparing import complete_already, complete_note, prepare
from .probing import probe
from .reading import read_frames
from .settling import USUAL, Tell, ignore, name_of, restoring_for, with_quality
from .source import Losses, Span, VideoSource
from .video_settings import VideoSettings, of_kind
from .work_folder import WorkFolder


@dataclass(frozen=True)
class VideoStart:
    """What is about to be done.

    Attributes:
        engine: what computes.
        sampling: how frames are restored, in words.
        steps: network evaluations a frame.
        job: source, encoding and output, and how many frames are expected.
        resumed: frames that an earlier run has done.
    """

    engine: str
    sampling: str
    steps: int
    job: VideoJob
    resumed: int


@dataclass(frozen=True)
class VideoProgress:
    """How far a video is.

    Attributes:
        frames: restored by this run.
        resumed: that an earlier run had done.
        expected: how many there will be in all, as far as is known; 0 if not at all.
        evaluations: of the network so far, those that an earlier run has made and those of frames at work included.
    """

    frames: int
    resumed: int
    expected: int
    evaluations: int

    @property
    def done(self) -> int:
        """Frames that are restored, by whichever run."""
        return self.resumed + self.frames


@dataclass(frozen=True)
class VideoOutcome:
    """What became of a video.

    Attributes:
        frames: restored by this run.
        resumed: that an earlier run had done.
        seconds: that restoring took.
        losses: what was wrong with the source; `losses.problems` says in words what the output lacks for it.
        notes: sentences that `on_note` was given.
        partial: of a run that was interrupted, what was done as a file that plays, if there is something.
        resumable: whether a run that was interrupted can be continued.
    """

    frames: int
    resumed: int
    seconds: float
    losses: Losses
    notes: tuple[str, ...] = ()
    partial: Partial | None = None
    resumable: bool = False


def restore_video(
    restorer: Restorer,
    source: str | Path,
    target: str | Path,
    *,
    sampling: Sampling | None = None,
    settings: VideoSettings | None = None,
    target_seconds: float | None = None,
    on_quality: Callable[[QualityChoice], object] = ignore,
    on_note: Tell = ignore,
    on_start: Callable[[VideoStart], object] = ignore,
    on_progress: Callable[[VideoProgress], object] = ignore,
    on_cut_off: Callable[[VideoOutcome], object] = ignore,
) -> VideoOutcome:
    """Restore a video file: frames with their exact times, sound and all other streams, colours as in the source.

    The output appears when it is complete. What an error or an interrupt leaves is in a folder beside it, from which
    `resume` continues, and as a file that plays.

    Args:
        restorer: of an RGB model.
        source: a local file that FFmpeg's libraries read.
        target: file to write: `.mp4`, `.m4v`, `.mov`, `.mkv` or `.webm`.
        sampling: how frames are restored; by default as the model card says, in tiles where memory asks for them. Where
            a model needs a noise level and it is not said, that of the first frame is estimated for all.
        settings: how the video is read, encoded and continued.
        target_seconds: that a frame may take: an evaluation is measured, and the best preset that fits is taken; a run
            that is resumed keeps its own.
        on_quality: called with what was chosen for `target_seconds`.
        on_note: called with what a user should know, a sentence each.
        on_start: called before the first frame is restored.
        on_progress: called after each step of the sampler and each batch of frames.
        on_cut_off: called with what there is where an error or an interrupt ends the run, which is then raised. An
            error that is raised in a callback ends it too.

    Returns:
        What was restored, and what was wrong with the source; of a run that is resumed and was complete, 0 frames.

    Raises:
        InputFileError: no video, or one that cannot be restored; or a run of something else is to be resumed.
        OutputFileError: the output is there already, is being written, or cannot be written.
        InvalidValueError: settings that do not fit each other, the model, the encoder or the file.
        EngineError: an evaluation or the encoder has failed.
        MissingPackageError: PyAV is not installed.
    """
    settings = of_kind(VideoSettings, settings)
    sampling = USUAL if sampling is None else Sampling.of(sampling)
    notes: list[str] = []

    def tell(note: str) -> None:
        notes.append(note)
        on_note(note)

    paths = Path(source), Path(target)
    if settings.resume and complete_already(*paths):
        tell(complete_note(paths[1]))
        return VideoOutcome(0, 0, 0.0, Losses(), tuple(notes))
    run = _settled_run(restorer, *paths, sampling, settings, target_seconds, on_quality, tell)
    return run.carried_out(on_start, on_progress, on_cut_off, tell, notes)


def _settled_run(
    restorer: Restorer,
    path: Path,
    target: Path,
    sampling: Sampling,
    settings: VideoSettings,
    target_seconds: float | None,
    on_quality: Callable[[QualityChoice], object],
    tell: Tell,
) -> _Run:
    """Look at the source, and settle everything that the result depends on."""
    require_rgb_pictures(restorer.card, name_of(restorer))
    target_seconds = seconds_wanted(target_seconds, None, sampling)
    span = settings.span
    source = probe(path, settings.matrix, span.start)
    encoding = choose_encoding(source, target, settings.codec, settings.crf, settings.preset, settings.pix_fmt)
    picture = _first_picture(source, span)
    if target_seconds is not None:
        earlier = _earlier_quality(target) if settings.resume else None
        if earlier is None:
            sampling = with_quality(target_seconds, restorer, sampling, picture, settings.batch, on_quality, tell)
        else:
            on_quality(earlier)
            sampling = Sampling.of(sampling, quality=earlier.quality)
    restoring = restoring_for(restorer, sampling, picture, tell)
    for note in (*source.notes, *encoding.notes):
        tell(f"{path}: {note}")
    tiles = str(restoring.way((settings.batch, *picture.shape)) or "whole")
    about = {
        "engine": engine_identity(restorer),
        "runs on": list(restorer.runs_on),
        "sampling": {**asdict(sampling), **restoring.about, "tiles": tiles},
        "noise": settings.noise,
    }
    job = VideoJob(
        source=source,
        target=target,
        encoding=encoding,
        settings=about,
        span=span,
        cut=settings.start is not None,
        segment=settings.segment,
        batch=settings.batch,
        resume=settings.resume,
        overwrite=settings.overwrite,
    )
    return _Run(job, restoring, settings.noise == "per-frame")


def _first_picture(source: VideoSource, span: Span) -> Float32:
    """The first frame that is restored, as RGB (H, W, 3)."""
    first = next(read_frames(source, span, Losses()), None)
    if first is None:
        raise no_frames(source)
    return source.to_rgb(first)


def _earlier_quality(target: Path) -> QualityChoice | None:
    """What a run that was interrupted has chosen; another measurement might choose another."""
    work = WorkFolder(target)
    if not work.exists:
        return None
    sampling = work.settings.get("sampling")
    quality = sampling.get("quality") if isinstance(sampling, dict) else None
    if not isinstance(quality, str) or quality not in PRESETS:
        return None
    return QualityChoice(quality, f"{quality} ({PRESETS[quality]}), as in the run that was interrupted")


@dataclass(frozen=True)
class _Run:
    """A job and what restores its frames."""

    job: VideoJob
    restoring: Restoring
    numbered: bool

    def carried_out(
        self,
        on_start: Callable[[VideoStart], object],
        on_progress: Callable[[VideoProgress], object],
        on_cut_off: Callable[[VideoOutcome], object],
        tell: Tell,
        notes: list[str],
    ) -> VideoOutcome:
        """Do the job; `notes` are those that were told, to which this adds."""
        job, restoring = self.job, self.restoring
        work, pieces = prepare(job)
        state = JobState()

        told = 0

        def tell_new(more: Sequence[str] = ()) -> None:
            nonlocal told
            for note in (*state.notes[told:], *more):
                tell(f"{job.source.path}: {note}")
            told = len(state.notes)

        def start() -> None:
            tell_new()  # what will be left out is said before the work
            engine = restoring.restorer.engine.name
            on_start(VideoStart(engine, str(restoring), restoring.steps, job, state.resumed))

        def report(evaluations: int = 0) -> None:
            evaluations += state.done * restoring.steps
            on_progress(VideoProgress(state.frames, state.resumed, job.expected_frames, evaluations))

        def restore(pictures: Float32, numbers: Sequence[int]) -> Float32:
            restored: Float32 = restoring(
                pictures, lambda step: report(step * len(numbers)), numbers if self.numbered else None
            )
            return restored

        def outcome() -> VideoOutcome:
            seconds = time.monotonic() - started
            resumable = work.exists and work.finished is None
            return VideoOutcome(
                state.frames, state.resumed, seconds, state.losses, tuple(notes), state.partial, resumable
            )

        started = time.monotonic()
        try:
            carry_out(job, work, pieces, restore, state, start, report)
        except BaseException:
            on_cut_off(outcome())
            raise
        finally:
            tell_new([f"restored in {tiling}" for tiling in restoring.tilings])
        return outcome()
