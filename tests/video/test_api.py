"""restore_video: one call does what the command does, and says in callbacks what the command prints."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from places import ROOT  # noqa: E402
from videos import (  # noqa: E402
    SD,
    VARIABLE,
    YUV420,
    Identity,
    assert_same,
    packets_of,
    planes_of,
    read_planes,
    write_video,
)

from irsde_deploy import Restorer, load  # noqa: E402
from irsde_deploy.core.presets import PRESETS  # noqa: E402
from irsde_deploy.core.sampling import Sampling  # noqa: E402
from irsde_deploy.errors import InputFileError, InvalidValueError, OutputFileError  # noqa: E402
from irsde_deploy.pictures.targets import QualityChoice  # noqa: E402
from irsde_deploy.video import (  # noqa: E402
    PipeSettings,
    VideoOutcome,
    VideoProgress,
    VideoSettings,
    VideoStart,
    restore_video,
)

PAGE = ROOT / "docs" / "video.md"
ONE_STEP = Sampling(sampler="mean", steps=1, tile="auto")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD, 16, 32), audio="aac")


@pytest.mark.parametrize(
    ("options", "sampling", "settings"),
    [
        ([], Sampling(), VideoSettings()),
        (
            ["--sampler", "posterior", "--steps", 3, "--seed", 7, "--noise", "per-frame", "--batch", 3, "--crf", 0],
            Sampling(sampler="posterior", steps=3, seed=7),
            VideoSettings(noise="per-frame", batch=3, crf=0),
        ),
        (
            ["--start", 0, "--end", 0.28, "--segment", 0.08, "--pix-fmt", "yuv444p", "--matrix", "bt709"],
            Sampling(),
            VideoSettings(start=0, end=0.28, segment=0.08, pix_fmt="yuv444p", matrix="bt709"),
        ),
        (["--start", "00:00:00.1", "--tile", 16], Sampling(tile=16), VideoSettings(start=Fraction(1, 10))),
    ],
)
def test_the_file_is_the_commands(
    options: list[object],
    sampling: Sampling,
    settings: VideoSettings,
    source: Path,
    small_onnx: Path,
    tmp_path: Path,
    succeeds: Callable[..., tuple[str, str]],
) -> None:
    by_command, by_call = tmp_path / "command.mp4", tmp_path / "call.mp4"
    succeeds("run", "--engine", small_onnx, source, "-o", by_command, *options)
    outcome = restore_video(load(small_onnx), source, by_call, sampling=sampling, settings=settings)
    assert by_call.read_bytes() == by_command.read_bytes()
    assert (outcome.frames, outcome.resumed) == (len(read_planes(by_call)), 0)
    assert (outcome.losses.problems, outcome.partial, outcome.resumable) == ((), None, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["call.mp4", "command.mp4", "in.mp4"]


def test_callbacks_count_frames_and_evaluations(source: Path, small_onnx: Path, tmp_path: Path) -> None:
    starts: list[VideoStart] = []
    states: list[VideoProgress] = []
    restorer = load(small_onnx)
    outcome = restore_video(
        restorer,
        source,
        tmp_path / "out.mp4",
        sampling=Sampling(sampler="mean", steps=2),
        settings=VideoSettings(batch=3),
        on_start=starts.append,
        on_progress=states.append,
    )
    (start,) = starts
    assert (start.engine, start.sampling) == (restorer.engine.name, "mean, 2 steps, seed 0")
    assert (start.steps, start.job.expected_frames, start.resumed) == (2, 8, 0)
    # batches of 3, 3 and 2 frames: at 0, 1 and 2 steps, and once when the batch is done
    assert [state.evaluations for state in states] == [0, 3, 6, 6, 6, 9, 12, 12, 12, 14, 16, 16]
    assert [state.frames for state in states] == [0, 0, 0, 3, 3, 3, 3, 6, 6, 6, 6, 8]
    assert {(state.resumed, state.expected) for state in states} == {(0, 8)}
    assert outcome.frames == 8
    assert outcome.seconds > 0
    assert outcome.notes == ()


def test_the_documented_call_does_what_the_page_says(
    source: Path,
    small_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    succeeds: Callable[..., tuple[str, str]],
) -> None:
    """Run the code in docs/video.md, and the command with the same settings."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "outcome" in block
    )
    shutil.copy(small_onnx, tmp_path / "derain.onnx")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capfd.readouterr().out
    assert printed.startswith("0 of 5 frames\r")
    assert re.search(r"\r5 frames in [\d.]+ s\n$", printed)
    command = ("run", "--engine", small_onnx, source, "-o", "command.mp4", "--quality", "fast", "--crf", 16)
    succeeds(*command, "--start", 0, "--end", 0.2)
    assert Path("out-python.mp4").read_bytes() == Path("command.mp4").read_bytes()


def _interrupted(source: Path, target: Path, restorer: Restorer, frame: int, settings: VideoSettings) -> VideoOutcome:
    """What there is of a run of one step that a callback has interrupted while it was at work on a frame."""
    left: list[VideoOutcome] = []

    def interrupt(state: VideoProgress) -> None:
        if (state.done, state.evaluations) == (frame, frame + 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(
            restorer,
            source,
            target,
            sampling=ONE_STEP,
            settings=settings,
            on_progress=interrupt,
            on_cut_off=left.append,
        )
    (outcome,) = left
    return outcome


def test_what_is_cut_off_is_resumed_to_the_same_packets(small_onnx: Path, tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD, 16, 32)
    source = write_video(tmp_path / "in.mp4", frames, times=VARIABLE, audio="aac")
    target, restorer = tmp_path / "out.mp4", load(small_onnx)
    settings = VideoSettings(segment=0.4)
    left = _interrupted(source, target, restorer, 7, settings)
    assert left.partial is not None
    assert list(tmp_path.rglob("*.part")) == [], "what was tried is gone"
    assert left.partial.path == tmp_path / "out.partial.mp4"
    assert len(read_planes(left.partial.path)) == 7
    assert left.partial.seconds == pytest.approx(VARIABLE[7] / 1000)
    assert (left.frames, left.resumable) == (7, True)
    assert not target.exists()

    with pytest.raises(OutputFileError, match="pass `resume` to continue it or `overwrite` to begin anew"):
        restore_video(restorer, source, target, sampling=ONE_STEP, settings=settings)
    with pytest.raises(InputFileError, match="interrupted: sampling: give the same, or leave `resume` out"):
        restore_video(restorer, source, target, settings=VideoSettings(segment=0.4, resume=True))
    starts: list[VideoStart] = []
    outcome = restore_video(
        restorer,
        source,
        target,
        sampling=ONE_STEP,
        settings=VideoSettings(segment=0.4, resume=True),
        on_start=starts.append,
    )
    assert 0 < outcome.resumed < 7
    assert (starts[0].resumed, outcome.frames) == (outcome.resumed, len(VARIABLE) - outcome.resumed)
    restore_video(restorer, source, tmp_path / "whole.mp4", sampling=ONE_STEP, settings=settings)
    for kind in ("video", "audio"):
        assert packets_of(target, kind) == packets_of(tmp_path / "whole.mp4", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_the_command_resumes_what_a_call_has_begun(
    source: Path, small_onnx: Path, tmp_path: Path, succeeds: Callable[..., tuple[str, str]]
) -> None:
    target = tmp_path / "out.mp4"
    _interrupted(source, target, load(small_onnx), 5, VideoSettings(segment=0.08))
    command = ("run", "--engine", small_onnx, source, "-o", target, "--sampler", "mean", "--steps", 1)
    printed, _ = succeeds(*command, "--segment", 0.08, "--resume")
    assert "\n4 frames are done already\n" in printed
    assert len(read_planes(target)) == 8


def test_an_error_before_the_first_frame_leaves_nothing(source: Path, small_onnx: Path, tmp_path: Path) -> None:
    left: list[VideoOutcome] = []

    def no(start: VideoStart) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        restore_video(load(small_onnx), source, tmp_path / "out.mp4", on_start=no, on_cut_off=left.append)
    assert [(outcome.frames, outcome.partial, outcome.resumable) for outcome in left] == [(0, None, False)]
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_target_chooses_the_quality_which_a_resumed_run_keeps(source: Path, small_onnx: Path, tmp_path: Path) -> None:
    choices: list[QualityChoice] = []
    notes: list[str] = []
    target, restorer = tmp_path / "out.mp4", load(small_onnx)

    def interrupt(state: VideoProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(
            restorer,
            source,
            target,
            target_seconds=1e-9,
            on_quality=choices.append,
            on_note=notes.append,
            on_progress=lambda state: interrupt(state) if state.done == 5 else None,
            settings=VideoSettings(segment=0.08),
        )
    outcome = restore_video(
        restorer,
        source,
        target,
        target_seconds=1000,  # which is time for the best
        on_quality=choices.append,
        settings=VideoSettings(segment=0.08, resume=True),
    )
    assert outcome.resumed == 4
    measured, kept = choices
    assert (measured.quality, kept.quality) == ("draft", "draft")
    assert measured.words.startswith("an evaluation at 32x16 takes ")
    assert measured.note is not None
    assert measured.note in notes
    assert kept == QualityChoice("draft", f"draft ({PRESETS['draft']}), as in the run that was interrupted")
    with pytest.raises(InvalidValueError, match="a target chooses the quality"):
        restore_video(restorer, source, target, sampling=ONE_STEP, target_seconds=1)


def test_notes_name_the_file(source: Path, small_onnx: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    settings = VideoSettings(codec="libvpx-vp9", end=0.08)
    sampling = Sampling(sampler="mean", steps=1, tile=16)
    outcome = restore_video(
        load(small_onnx), source, tmp_path / "out.webm", sampling=sampling, settings=settings, on_note=notes.append
    )
    assert outcome.notes == tuple(notes)
    assert notes[0] == f"{source}: stream 1 (audio, aac) cannot be held by .webm and is left out"
    assert notes[1].startswith(f"{source}: restored in ")


def test_an_engine_of_ones_own_has_no_file(source: Path, tmp_path: Path) -> None:
    target, restorer = tmp_path / "out.mkv", Restorer(Identity())
    assert restorer.files == ()
    settings = VideoSettings(codec="ffv1", segment=0.08)
    _interrupted(source, target, restorer, 5, settings)
    outcome = restore_video(
        Restorer(Identity()),
        str(source),
        str(target),
        sampling=ONE_STEP,
        settings=VideoSettings(codec="ffv1", segment=0.08, resume=True),
    )
    assert outcome.resumed == 4
    for (_, ours), (_, theirs) in zip(read_planes(source), read_planes(target), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "loud"}, "`noise` must be one of fixed, per-frame, not 'loud'"),
        ({"matrix": "bt42"}, "`matrix` must be one of bt601"),
        ({"batch": 0}, "`batch` must be at least 1, not 0"),
        ({"segment": 0.001}, "`segment` must be 0.01 to 3600 s, not 0.001"),
        ({"segment": float("nan")}, "`segment` must be 0.01 to 3600 s, not nan"),
        ({"crf": 64}, "`crf` must be a number from 0 to 63, not 64"),
        ({"crf": float("nan")}, "`crf` must be a number from 0 to 63, not nan"),
        ({"start": -1}, "`start` must not be below 0"),
        ({"start": float("inf")}, "`start` must be a finite number of seconds, not inf"),
        ({"end": float("nan")}, "`end` must be a finite number of seconds, not nan"),
        ({"start": 0.5, "end": 0.5}, "`end` must lie after `start`: 0.5 s to 0.5 s"),
        ({"batch": 1.5}, "`batch` must be a whole number, not 1.5"),
        ({"batch": True}, "`batch` must be a whole number, not True"),
        ({"crf": "16"}, "`crf` must be a number from 0 to 63, not '16'"),
        ({"segment": "5"}, "`segment` must be 0.01 to 3600 s, not '5'"),
        ({"start": "1"}, "`start` must be a finite number of seconds, not '1'"),
        ({"codec": 264}, "`codec` must be text, not 264"),
        ({"noise": ["fixed"]}, "`noise` must be one of fixed, per-frame, not ['fixed']"),
        ({"resume": "yes"}, "`resume` must be true or false"),
        ({"resume": True, "overwrite": True}, "`resume` continues what is there and `overwrite` begins anew: pass one"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        VideoSettings(**settings)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_settings_of_another_kind_are_refused(tmp_path: Path) -> None:
    for settings in ({}, {"crf": 16}, PipeSettings()):
        with pytest.raises(InvalidValueError, match=r"^settings must be a VideoSettings, not "):
            restore_video(Restorer(Identity()), tmp_path / "in.mp4", tmp_path / "out.mp4", settings=settings)  # type: ignore[arg-type]
    assert VideoSettings(batch=np.int64(2)).batch == 2  # type: ignore[arg-type]


def test_the_ends_of_each_range_are_in_it() -> None:
    for settings in ({"crf": 0}, {"crf": 63}, {"segment": 0.01}, {"segment": 3600}, {"batch": 1}):
        assert VideoSettings(**settings) is not None  # type: ignore[arg-type]


class _Small(Identity):
    """An engine for which wide pictures are too large."""

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        if x.shape[-1] > 256:
            raise MemoryError("no")
        return super().__call__(x, mu, t)


def test_frames_are_cut_into_tiles_where_memory_asks_for_them(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(1, YUV420, SD, 16, 320), codec="ffv1")
    outcome = restore_video(Restorer(_Small()), source, tmp_path / "out.mkv", settings=VideoSettings(codec="ffv1"))
    assert [note.partition("restored in ")[2][:5] for note in outcome.notes] == ["tiles"]


@pytest.mark.parametrize(
    ("settings", "first", "expected"),
    [
        ({}, Fraction(1, 2), 8),
        ({"start": 0}, Fraction(0), 8),
        ({"end": 0.12}, Fraction(1, 2), 3),
        ({"start": 0.12, "end": 99}, Fraction(0), 5),
    ],
)
def test_a_start_moves_the_first_frame_to_0_and_a_part_is_counted_as_such(
    settings: dict[str, float], first: Fraction, expected: int, tmp_path: Path
) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD, 16, 32), times=[500 + 40 * k for k in range(8)])
    starts: list[VideoStart] = []
    restore_video(
        Restorer(Identity()), source, tmp_path / "out.mp4", settings=VideoSettings(**settings),  # type: ignore[arg-type]
        on_start=starts.append,
    )  # fmt: skip
    frames = read_planes(tmp_path / "out.mp4")
    assert (frames[0][0], len(frames)) == (first, expected)
    assert starts[0].job.expected_frames == expected


def test_a_float_counts_as_the_number_that_it_is_printed_as() -> None:
    assert VideoSettings(start=0.1, end=0.3).span.start == Fraction(1, 10)
    assert VideoSettings(end=Fraction(1, 3)).span.end == Fraction(1, 3)


def test_what_cannot_be_restored_is_refused_before_anything_is_written(
    source: Path, small_onnx: Path, tmp_path: Path
) -> None:
    restorer = load(small_onnx)
    for target, settings, message in (
        ("out.mp4", VideoSettings(codec="nonsense"), "`codec`: this build of PyAV has no encoder nonsense"),
        ("out.mp4", VideoSettings(pix_fmt="yuv410p"), "`pix_fmt`: libx264 takes "),
        ("out.mp4", VideoSettings(preset="nonsense"), "`preset`: libx264 has ultrafast"),
        ("out.mkv", VideoSettings(codec="ffv1", crf=3), "`crf`: ffv1 has no such option"),
        ("out.gif", VideoSettings(), "videos are written as .mp4"),
        ("out.mp4", VideoSettings(start=60), "has no frames in the part that `start` and `end` name"),
        ("in.mp4", VideoSettings(overwrite=True), "is the input and would be replaced"),
    ):
        with pytest.raises((InputFileError, InvalidValueError, OutputFileError)) as error:
            restore_video(restorer, source, tmp_path / target, settings=settings)
        assert message in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
