"""Videos that are cut off: what is left of them, and how they are continued."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from click.testing import CliRunner  # noqa: E402
from commands import PROGRAM, irsde  # noqa: E402
from videos import (  # noqa: E402
    SD,
    VARIABLE,
    YUV420,
    assert_same,
    identity,
    packets_of,
    planes_of,
    read_planes,
    restore,
    stopping_at,
    write_video,
)

from irsde_deploy import load  # noqa: E402
from irsde_deploy.cli import cli  # noqa: E402
from irsde_deploy.errors import EngineError, InputFileError, IrsdeError, OutputFileError  # noqa: E402
from irsde_deploy.video import VideoSettings, restore_video  # noqa: E402
from irsde_deploy.video.encoding import choose_encoding  # noqa: E402
from irsde_deploy.video.job import JobState  # noqa: E402
from irsde_deploy.video.piece_files import Piece  # noqa: E402
from irsde_deploy.video.pieces import PieceEncoder, PieceWriter  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402
from irsde_deploy.video.reading import read_frames  # noqa: E402
from irsde_deploy.video.source import Losses, Span, TimedFrame  # noqa: E402
from irsde_deploy.video.work_folder import WorkFolder  # noqa: E402


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("stop", [2, 7, 10])
def test_an_interrupted_run_is_resumed_to_the_same_packets(suffix: str, stop: int, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(len(VARIABLE), YUV420, SD), times=VARIABLE, audio="aac")
    target = tmp_path / f"out.{suffix}"
    piece = round(0.4 * float(probe(source).rate))
    assert 2 < piece < 7
    seen: list[int] = []

    def interrupted(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        if numbers[0] == stop:
            raise KeyboardInterrupt
        return identity(pictures, numbers)

    def noted(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        seen.extend(numbers)
        return identity(pictures, numbers)

    with pytest.raises(KeyboardInterrupt):
        restore(source, target, interrupted, segment=0.4)
    assert not target.exists()
    partial = read_planes(tmp_path / f"out.partial.{suffix}")
    assert [seconds for seconds, _ in partial] == [seconds for seconds, _ in read_planes(source)[:stop]]
    with pytest.raises(OutputFileError, match="`resume`"):
        restore(source, target, segment=0.4)
    with pytest.raises(InputFileError, match="segment"):
        restore(source, target, segment=0.2, resume=True)

    assert restore(source, target, noted, segment=0.4, resume=True).resumed == stop // piece * piece
    assert seen == list(range(stop // piece * piece, len(VARIABLE)))
    restore(source, tmp_path / f"whole.{suffix}", segment=0.4)
    for kind in ("video", "audio"):
        assert packets_of(target, kind) == packets_of(tmp_path / f"whole.{suffix}", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", f"out.{suffix}", f"whole.{suffix}"]


def test_a_failure_leaves_what_was_done(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))

    def failing(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        if numbers[0] == 5:
            raise IrsdeError("the engine is out of memory")
        return identity(pictures, numbers)

    with pytest.raises(IrsdeError, match="out of memory"):
        restore(source, tmp_path / "out.mp4", failing, segment=0.1)
    assert len(read_planes(tmp_path / "out.partial.mp4")) == 5
    assert restore(source, tmp_path / "out.mp4", segment=0.1, resume=True).resumed == 4
    assert len(read_planes(tmp_path / "out.mp4")) == 8


def test_ctrl_c_leaves_a_playable_file_and_resume_finishes_it(unet_onnx: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(40, YUV420, SD, 32, 32))
    target = tmp_path / "out.mp4"
    command = ["run", "--engine", unet_onnx, source, "-o", target, "--steps", 12, "--segment", 0.12]
    program = [*PROGRAM, *map(str, command)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    second = tmp_path / ".out.mp4.irsde" / "000001.json"
    for _ in range(1200):
        if second.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "out.partial.mp4 holds the first" in stderr
    assert "interrupted" in stderr.splitlines()[-1]
    assert 6 <= len(read_planes(tmp_path / "out.partial.mp4")) < 40
    result = irsde(*command, "--resume")
    assert result.returncode == 0, result.stderr
    assert "frames are done already" in result.stdout
    assert [float(seconds) for seconds, _ in read_planes(target)] == [k / 25 for k in range(40)]


def test_a_partial_file_of_somebody_else_stays(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    target, other = tmp_path / "clip.mp4", tmp_path / "clip.partial.mp4"
    restore(source, other, codec="mpeg4")
    content = other.read_bytes()
    restore(source, target)
    assert other.read_bytes() == content
    target.unlink()
    with pytest.raises(KeyboardInterrupt):
        restore(source, target, stopping_at(5), segment=0.1)
    assert other.read_bytes() == content
    ours = tmp_path / "clip.partial-2.mp4"
    assert len(read_planes(ours)) == 5
    with pytest.raises(KeyboardInterrupt):  # the second interrupt replaces what the first has left
        restore(source, target, stopping_at(7), segment=0.1, resume=True)
    assert len(read_planes(ours)) == 7
    with pytest.raises(KeyboardInterrupt):  # and so does a run that begins anew
        restore(source, target, stopping_at(3), segment=0.1, overwrite=True)
    assert len(read_planes(ours)) == 3
    restore(source, target, segment=0.1, resume=True)
    assert other.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.partial.mp4", "in.mp4"]


@pytest.mark.parametrize("same_size", [False, True])
def test_a_partial_file_that_was_changed_stays(same_size: bool, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1)
    partial = tmp_path / "out.partial.mp4"
    content = partial.read_bytes()[::-1] if same_size else b"my own"
    partial.write_bytes(content)
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(6), segment=0.1, resume=True)
    restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)
    assert partial.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "content", ["{}", '{"times": [[0]], "retimed": 0}', '{"times": [], "retimed": 0}', "{", "[" * 99999]
)
def test_a_damaged_work_folder_is_one_sentence(content: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1)
    (tmp_path / ".out.mp4.irsde" / "000001.json").write_text(content)
    with pytest.raises(InputFileError, match=r"^[^\n]*000001.json: [^\n]*: pass `overwrite` to begin anew$"):
        restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)


@pytest.mark.parametrize("kept", [0, 700])
def test_a_piece_that_is_cut_short_is_found_before_the_work(kept: int, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1)
    piece = tmp_path / ".out.mp4.irsde" / "000000.mp4"
    piece.write_bytes(piece.read_bytes()[:kept])
    with pytest.raises(InputFileError, match=r"000000.mp4: is damaged, and .*: pass `overwrite` to begin anew$"):
        restore(source, tmp_path / "out.mp4", stopping_at(4), segment=0.1, resume=True)


def test_an_encoder_that_fails_leaves_the_whole_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libx265, for one, raises what is neither an error of values nor of the operating system."""
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    mux, calls = PieceEncoder._mux, []

    def failing(encoder: PieceEncoder, packets: object) -> None:
        calls.append(encoder)
        if len(calls) == 9:  # two for the frame that is tried, three a segment
            raise av.error.ExternalError(1, "Generic error in an external library")
        mux(encoder, packets)

    monkeypatch.setattr(PieceEncoder, "_mux", failing)
    with pytest.raises(EngineError, match=r"^libx264 has failed \(Generic error in an external library\)"):
        restore(source, tmp_path / "out.mp4", segment=0.1)  # two frames and a flush a segment
    assert len(read_planes(tmp_path / "out.partial.mp4")) == 4
    monkeypatch.undo()
    assert restore(source, tmp_path / "out.mp4", segment=0.1, resume=True).resumed == 4


def test_an_encoder_that_loses_a_frame_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(4, YUV420, SD))
    mux, lost = PieceEncoder._mux, list[object]()

    def losing(encoder: PieceEncoder, packets: Iterable[object]) -> None:
        left = list(packets)
        if left and encoder.frames == 2 and not lost:
            lost.append(left.pop())
        mux(encoder, left)

    monkeypatch.setattr(PieceEncoder, "_mux", losing)
    with pytest.raises(EngineError, match="^libx264 made 1 packets of 2 frames: choose another `codec`"):
        restore(source, tmp_path / "out.mp4", segment=0.1)


def test_an_interrupt_waits_for_the_frame_that_is_being_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in another thread than the one that encodes."""
    source = probe(write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD)))
    work = WorkFolder(tmp_path / "out.mp4")
    work.folder.mkdir()
    writer = PieceWriter(work, [], choose_encoding(source, tmp_path / "out.mp4"), source, 9, Losses())
    frames = [(frame, source.to_rgb(frame)) for frame in read_frames(source, Span(), Losses())]
    writer.add(frames[:1])
    inside, go_on, add = threading.Event(), threading.Event(), PieceEncoder.add

    def slowly(encoder: PieceEncoder, frame: TimedFrame, rgb: np.ndarray) -> None:
        inside.set()
        go_on.wait(20)
        add(encoder, frame, rgb)

    monkeypatch.setattr(PieceEncoder, "add", slowly)
    tails: list[Piece | None] = []
    adding = threading.Thread(target=writer.add, args=(frames[1:],))
    ending = threading.Thread(target=lambda: tails.append(writer.tail()))
    adding.start()
    inside.wait(20)
    ending.start()
    ending.join(0.2)
    assert tails == []
    go_on.set()
    adding.join(20)
    ending.join(20)
    assert [len(piece.times) for piece in tails if piece is not None] == [2]


@pytest.mark.parametrize("kind", [RuntimeError, IrsdeError])
def test_a_flush_that_fails_leaves_the_whole_segments(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))
    finish = PieceEncoder.finish

    def failing(encoder: PieceEncoder) -> list[tuple[int, int]]:
        if encoder.frames == 1 and encoder.path.suffix == ".mp4":  # not the frame that is tried
            raise kind("no")
        return finish(encoder)

    monkeypatch.setattr(PieceEncoder, "finish", failing)
    state = JobState()
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1, state=state)
    assert len(read_planes(tmp_path / "out.partial.mp4")) == 4
    assert state.notes == ["what was done after the last whole segment is lost (no)"]
    assert state.partial is not None
    assert state.partial.seconds == pytest.approx(4 / 25, abs=1e-12)


def test_the_seconds_of_a_partial_file_are_those_of_its_frames(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(len(VARIABLE), YUV420, SD), times=[t + 500 for t in VARIABLE])
    state = JobState()
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mkv", stopping_at(10), segment=0.2, state=state)
    last = list(read_frames(probe(source), Span(), Losses()))[9]
    assert state.partial is not None
    assert state.partial.seconds == pytest.approx(
        VARIABLE[9] / 1000 + float((last.duration or 0) / 1000 or 1 / probe(source).rate)
    )
    assert 1 < state.partial.seconds < 1.2


def test_an_interrupt_during_the_last_segment_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(7, YUV420, SD))
    finish = PieceEncoder.finish

    def interrupted(encoder: PieceEncoder) -> list[tuple[int, int]]:
        if encoder.frames == 1 and encoder.path.suffix == ".mp4":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.2)
        return finish(encoder)

    monkeypatch.setattr(PieceEncoder, "finish", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            restore(source, tmp_path / "out.mp4", segment=0.08)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(read_planes(tmp_path / "out.partial.mp4")) == 7
    monkeypatch.undo()
    progress = restore(source, tmp_path / "out.mp4", segment=0.08, resume=True)
    assert (progress.resumed, progress.frames) == (7, 0)
    assert len(read_planes(tmp_path / "out.mp4")) == 7


def test_frames_with_times_made_up_are_continued_where_they_were(tmp_path: Path) -> None:
    """The clock begins anew after the frames that the choice of a clock looks at; a seek would end before that."""
    one = write_video(tmp_path / "one.ts", planes_of(110, YUV420, SD, 16, 32), options={"crf": "0", "g": "10"})
    source = tmp_path / "in.ts"
    source.write_bytes(2 * one.read_bytes())
    assert probe(source).seekable
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mkv", stopping_at(150), segment=0.4)
    progress = restore(source, tmp_path / "out.mkv", segment=0.4, resume=True)
    assert (progress.resumed, progress.losses) == (150, Losses(retimed=110))
    frames = list(read_frames(probe(source), Span(), Losses()))
    result = read_planes(tmp_path / "out.mkv")
    assert [seconds for seconds, _ in result] == [
        pytest.approx(float(frame.pts * probe(source).time_base), abs=5.01e-4) for frame in frames
    ]
    for frame, (_, theirs) in zip(frames, result, strict=True):
        assert_same(frame.planes, theirs)


@pytest.mark.parametrize("killed", [False, True])
def test_resuming_what_is_complete_is_a_note_before_and_after_clearing_up(
    killed: bool,
    unet_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    succeeds: Callable[..., tuple[str, str]],
) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD))
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patched:
        if killed:  # before the run could clear up
            patched.setattr(WorkFolder, "clear", lambda _: None)
        restore(source, target)
    assert (tmp_path / ".out.mp4.irsde").exists() == killed
    content = target.read_bytes()
    printed, told = succeeds("run", "--engine", unet_onnx, source, "-o", target, "--resume")
    assert f"{target}: is complete already, there is nothing to resume: --overwrite makes it anew" in told
    assert "fps" not in printed + told
    assert target.read_bytes() == content
    assert not (tmp_path / ".out.mp4.irsde").exists()
    notes: list[str] = []
    outcome = restore_video(load(unet_onnx), source, target, settings=VideoSettings(resume=True), on_note=notes.append)
    assert (outcome.frames, list(outcome.notes)) == (0, notes)
    assert notes == [f"{target}: is complete already, there is nothing to resume: `overwrite` makes it anew"]


def test_the_input_is_no_output_that_is_complete(
    unet_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD))
    link = tmp_path / "out.mp4"
    link.symlink_to(source)
    with pytest.raises(OutputFileError, match="is the input and would be replaced"):
        restore_video(load(unet_onnx), source, link, settings=VideoSettings(resume=True))


def test_what_computes_is_part_of_the_settings(
    unet_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_with: Callable[..., None]
) -> None:
    pytest.importorskip("openvino")
    source = write_video(tmp_path / "in.mp4", planes_of(4, YUV420, SD, 16, 32))
    target = tmp_path / "out.mp4"
    command = ["run", "--engine", unet_onnx, source, "-o", target, "--segment", "0.08"]
    _interrupted_at_the_join([*command, "--target-seconds", 1000], monkeypatch)
    manifest = json.loads((tmp_path / ".out.mp4.irsde" / "manifest.json").read_text())
    assert manifest["runs on"] == [load(unet_onnx).engine.name]
    resume = [*command, "--resume", "--quality", "best"]
    fails_with(1, "that was interrupted: runs on:", *resume, "--engine-provider", "openvino")
    with monkeypatch.context() as other:
        other.setattr(av, "library_versions", {**av.library_versions, "libavcodec": (1, 2, 3)})
        fails_with(1, "that was interrupted: versions of FFmpeg's libraries:", *resume)
    with monkeypatch.context() as other:
        other.setattr("irsde_deploy.video.job.__version__", "0.0.1")
        fails_with(1, "that was interrupted: version of irsde-deploy:", *resume)
    result = CliRunner().invoke(cli, [*map(str, command), "--resume", "--target-seconds", "1e-9"])
    assert result.exit_code == 0, result.output
    assert "best (sde-2m, 20 steps), as in the run that was interrupted" in result.output
    assert "an evaluation at" not in result.output
    assert len(read_planes(target)) == 4


def _interrupted_at_the_join(command: Sequence[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr("irsde_deploy.video.job.join", interrupted)
        result = CliRunner().invoke(cli, [*map(str, command)])
    assert result.exit_code == 1
    assert "out.mp4: --resume continues after the last whole segment" in result.output
