"""Video files: times, colours, other streams, interrupts; with an engine that changes nothing, and with a real one."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from videos import (  # noqa: E402
    VARIABLE,
    Identity,
    colours_of,
    packets_of,
    planes_of,
    read_planes,
    write_video,
)

from irsde_deploy import Restorer, load  # noqa: E402
from irsde_deploy.colour import Colour, Layout, Planes, to_planes, to_rgb  # noqa: E402
from irsde_deploy.encoding import PieceEncoder, choose_encoding  # noqa: E402
from irsde_deploy.errors import InputFileError, IrsdeError, OutputFileError  # noqa: E402
from irsde_deploy.images import Picture, write_picture  # noqa: E402
from irsde_deploy.noise_level import estimate_noise  # noqa: E402
from irsde_deploy.segments import decoding_times  # noqa: E402
from irsde_deploy.video import Losses, Span, probe, read_frames  # noqa: E402
from irsde_deploy.video_job import Progress, RestoreFrames, VideoJob, prepare, restore_video  # noqa: E402

PROGRAM = [sys.executable, "-m", "irsde_deploy"]
YUV420, SD = Layout("yuv", 8, 1, 1), Colour("bt601")


def identity(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    return Restorer(Identity())(pictures, "mean", 1, frames=numbers)


def restore(
    source: Path,
    target: Path,
    restorer: RestoreFrames = identity,
    span: Span | None = None,
    pixel_format: str | None = None,
    lossless: bool = True,
    codec: str | None = None,
    **more: object,
) -> Progress:
    """The job that the command does."""
    found = probe(source)
    encoding = choose_encoding(found, target, codec, 0 if lossless and codec is None else None, None, pixel_format)
    given = span or Span()
    job = VideoJob(found, target, encoding, {"engine": "test"}, given, bool(given.start), **more)  # type: ignore[arg-type]
    progress = Progress()
    work, pieces = prepare(job)
    restore_video(job, work, pieces, restorer, progress)
    return progress


def assert_same(ours: Planes, theirs: Planes, tolerance: int = 0) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= tolerance


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_times_of_a_variable_frame_rate_are_exact(suffix: str, tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / f"in.{suffix}", frames, times=VARIABLE)
    target = tmp_path / f"out.{suffix}"
    restore(source, target, segment=0.2)
    before, after = read_planes(source), read_planes(target)
    assert [float(seconds) for seconds, _ in before] == [ms / 1000 for ms in VARIABLE], (
        "the source is what it should be"
    )
    assert [seconds for seconds, _ in after] == [seconds for seconds, _ in before]
    for (_, one), (_, other) in zip(before, after, strict=True):
        assert_same(one, other)


def test_a_video_clock_of_90_kilohertz_and_ntsc(tmp_path: Path) -> None:
    times = [3003 * k for k in range(9)]
    source = write_video(
        tmp_path / "in.mp4", planes_of(9, YUV420, SD), times=times, time_base=Fraction(1, 90000), options={"bf": "3"}
    )
    restore(source, tmp_path / "out.mp4", segment=0.15, lossless=False)
    assert [seconds for seconds, _ in read_planes(tmp_path / "out.mp4")] == [
        Fraction(1001 * k, 30000) for k in range(9)
    ]


def test_decoding_times() -> None:
    assert decoding_times([0, 3, 1, 2, 6, 4, 5]) == [-1, 0, 1, 2, 3, 4, 5]
    assert decoding_times([0, 4, 2, 1, 3, 8, 6, 5, 7]) == [-2, -1, 0, 1, 2, 3, 4, 5, 6]
    assert decoding_times([0, 10, 25]) == [0, 10, 25]
    rng = np.random.default_rng(0)
    for _ in range(50):  # any order at all gives times that rise and never come after the picture is due
        pts = rng.permutation(np.cumsum(rng.integers(1, 100, 20))).tolist()
        dts = decoding_times(pts)
        assert all(b > a for a, b in pairwise(dts))
        assert all(d <= p for d, p in zip(dts, pts, strict=True))


@pytest.mark.parametrize(("suffix", "audio", "subtitles"), [("mp4", "aac", "mov_text"), ("mkv", "flac", "subrip")])
def test_other_streams_are_copied(suffix: str, audio: str, subtitles: str, tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / f"in.{suffix}", frames, times=VARIABLE, audio=audio, subtitles=subtitles)
    target = tmp_path / f"out.{suffix}"
    assert restore(source, target).notes == []
    for kind in ("audio", "subtitle"):
        assert packets_of(target, kind) == packets_of(source, kind)
        assert len(packets_of(source, kind)) >= 4


def test_streams_that_the_container_cannot_hold_are_named(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(3, YUV420, SD), audio="aac", subtitles="subrip")
    notes = restore(source, tmp_path / "out.mp4").notes
    assert notes == ["stream 2 (subtitle, subrip) cannot be held by .mp4 and is left out"]
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(source, "audio")


@pytest.mark.skipif(not hasattr(av.container.OutputContainer, "add_attachment"), reason="PyAV writes no attachments")
def test_chapters_metadata_and_attachments(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mkv", planes_of(5, YUV420, SD), audio="flac")
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as given, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        out.metadata["title"] = "Rain"
        streams[1].metadata["language"] = "fin"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"not a font")
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    restore(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as result:
        assert result.metadata["title"] == "Rain"
        assert result.streams.audio[0].metadata["language"] == "fin"
        assert [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in result.chapters()] == [(0, "one")]
        assert [bytes(stream.data) for stream in result.streams if stream.type == "attachment"] == [b"not a font"]


COLOURS = [
    ("yuv420p", "libx264", (1, 1, 1, 1), "bt709", False),
    ("yuv420p", "libx264", (1, 5, 6, 5), "bt601", False),
    ("yuv444p", "libx264", (2, 1, 13, 1), "bt709", True),
    ("yuv420p", "libx264", (2, 6, 6, 6), "bt601", True),
    ("yuv422p10le", "ffv1", (1, 9, 16, 9), "bt2020", False),
    ("yuv420p10le", "ffv1", (1, 9, 14, 9), "bt2020", False),
    ("yuv444p10le", "ffv1", (1, 1, 1, 1), "bt709", False),
    ("gbrp10le", "ffv1", (2, 1, 13, 0), "bt709", True),
    ("gray", "ffv1", (2, 1, 1, 1), "bt709", True),
]


@pytest.mark.parametrize(("pixel_format", "codec", "tags", "matrix", "full"), COLOURS)
def test_colours_are_kept_to_the_bit_and_said(
    pixel_format: str, codec: str, tags: tuple[int, int, int, int], matrix: str, full: bool, tmp_path: Path
) -> None:
    layout = Layout.of(pixel_format)
    assert layout is not None
    frames = planes_of(3, layout, Colour(matrix, full))
    source = write_video(tmp_path / "in.mkv", frames, pixel_format, codec, tags=tags)
    found = probe(source)
    assert (found.layout, found.colour.full) == (layout, full)
    assert layout.kind != "yuv" or found.colour.matrix == matrix
    restore(source, tmp_path / "out.mkv", codec=None if codec == "libx264" else codec)
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mkv"), strict=True):
        assert_same(ours, theirs)
    assert colours_of(tmp_path / "out.mkv") == colours_of(source)
    assert colours_of(source)[:4] == tags


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_ten_bits_of_hdr_stay_that_with_the_default_encoder(suffix: str, tmp_path: Path) -> None:
    """PQ in BT.2020 by libx264, which has no lossless mode by crf at 10 bits: within 4 of 1023 at crf 0 twice."""
    frames, tags = planes_of(3, Layout("yuv", 10, 1, 1), Colour("bt2020")), (1, 9, 16, 9)
    source = write_video(tmp_path / f"in.{suffix}", frames, "yuv420p10le", options={"qp": "0"}, tags=tags)
    assert [note[:9] for note in probe(source).notes] == ["it is HDR"]
    restore(source, tmp_path / f"out.{suffix}")
    assert colours_of(tmp_path / f"out.{suffix}") == (*tags, "yuv420p10le")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / f"out.{suffix}"), strict=True):
        assert np.abs(ours[0].astype(int) - theirs[0]).mean() < 2
        assert_same(ours, theirs, 12)


def test_rgb_becomes_what_the_encoder_takes_and_says_so(tmp_path: Path) -> None:
    frames = planes_of(2, Layout("rgb", 10), Colour())
    source = write_video(tmp_path / "in.mkv", frames, "gbrp10le", "ffv1")
    encoding = choose_encoding(probe(source), tmp_path / "out.mp4")
    assert encoding.notes == ("libx264 does not take gbrp10le: encoded as yuv444p10le",)
    restore(source, tmp_path / "out.mkv", codec="ffv1", pixel_format="yuv444p10le")
    assert colours_of(tmp_path / "out.mkv")[0::3] == (1, 1)  # limited range, BT.709
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mkv"), strict=True):
        assert_same(to_planes(to_rgb(ours, Layout("rgb", 10), Colour()), Layout("yuv", 10), Colour("bt709")), theirs)


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="PyAV writes no rotation")
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_come_out_upright(rotation: int, tmp_path: Path) -> None:
    layout = Layout("yuv")
    frames = planes_of(3, layout, SD)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p", rotation=rotation)
    with av.open(str(source)) as container:
        counterclockwise = next(container.decode(video=0)).rotation
    assert abs(counterclockwise) == abs(rotation)
    restore(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        assert_same(tuple(np.rot90(plane, counterclockwise // 90) for plane in ours), theirs)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_aspect_of_a_pixel_is_kept(suffix: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / f"in.{suffix}", planes_of(2, YUV420, SD), aspect=Fraction(64, 45))
    restore(source, tmp_path / f"out.{suffix}")
    assert [probe(tmp_path / f"{name}.{suffix}").aspect for name in ("in", "out")] == 2 * [Fraction(64, 45)]
    sideways = replace(probe(source), turn=(0, 1, -1, 0))
    encoder = PieceEncoder(tmp_path / "piece.mp4", "mp4", choose_encoding(sideways, tmp_path / "t.mp4"), sideways)
    for frame in read_frames(sideways, Span(), Losses()):
        encoder.add(frame, sideways.to_rgb(frame))
    encoder.finish()
    assert probe(tmp_path / "piece.mp4").aspect == Fraction(45, 64)
    assert probe(tmp_path / "piece.mp4").shown_size == (64, 48)


@pytest.mark.parametrize("per_frame", [False, True])
def test_each_frame_is_what_the_restorer_makes_of_it(unet_onnx: Path, per_frame: bool, tmp_path: Path) -> None:
    layout, restorer = Layout("yuv"), load(unet_onnx)
    frames = planes_of(4, layout, SD, 16, 32)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p")
    command = ["run", "--engine", unet_onnx, source, "-o", tmp_path / "out.mp4", "--steps", 2, "--crf", 0]
    noise = ["--noise", "per-frame"] if per_frame else []
    result = subprocess.run([*PROGRAM, *map(str, command), *noise], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "progress is for terminals only"
    assert "4 frames" in result.stdout
    for k, (ours, (_, theirs)) in enumerate(zip(frames, read_planes(tmp_path / "out.mp4"), strict=True)):
        rgb = restorer(to_rgb(ours, layout, SD)[None], steps=2, frames=[k if per_frame else 0])[0]
        assert_same(to_planes(rgb, layout, SD), theirs)


def test_batches_change_nothing_but_the_last_rounding(unet_onnx: Path, tmp_path: Path) -> None:
    restorer = load(unet_onnx)

    def real(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        assert len(pictures) == len(numbers)
        return restorer(pictures, "mean", 2, frames=numbers)

    source = write_video(tmp_path / "in.mp4", planes_of(5, YUV420, SD, 16, 32))
    restore(source, tmp_path / "one.mp4", real)
    restore(source, tmp_path / "two.mp4", real, batch=2)
    one, two = read_planes(tmp_path / "one.mp4"), read_planes(tmp_path / "two.mp4")
    for (a, ours), (b, theirs) in zip(one, two, strict=True):
        assert a == b
        assert_same(ours, theirs, tolerance=1)


def test_a_part_begins_at_zero_with_its_sound(tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / "in.mkv", frames, times=VARIABLE, audio="flac")
    restore(source, tmp_path / "out.mkv", span=Span(Fraction("0.1"), Fraction(1)))
    expected = [k for k, ms in enumerate(VARIABLE) if 100 <= ms < 1000]
    begin = Fraction(VARIABLE[expected[0]], 1000)
    result = read_planes(tmp_path / "out.mkv")
    assert [seconds for seconds, _ in result] == [Fraction(VARIABLE[k], 1000) - begin for k in expected]
    for k, (_, theirs) in zip(expected, result, strict=True):
        assert_same(frames[k], theirs)
    sound = [(t - begin, data) for t, data in packets_of(source, "audio") if begin <= t < 1]
    assert packets_of(tmp_path / "out.mkv", "audio") == sound


@pytest.mark.parametrize("after", [0, 3, 9, 14, 29])
def test_reading_on_after_a_frame_gives_the_rest(after: int, tmp_path: Path) -> None:
    times = [400 * k for k in range(30)]  # 12 seconds, so that there is something to seek in
    options = {"crf": "0", "g": "7", "bf": "3"}
    source = probe(write_video(tmp_path / "in.mp4", planes_of(30, YUV420, SD), times=times, options=options))
    everything = list(read_frames(source, Span(), Losses()))
    rest = list(read_frames(source, Span(), Losses(), everything[after].pts, after + 1))
    assert [frame.number for frame in rest] == list(range(after + 1, 30))
    for one, other in zip(rest, everything[after + 1 :], strict=True):
        assert one.pts == other.pts
        assert_same(one.planes, other.planes)


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
    with pytest.raises(OutputFileError, match="--resume"):
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
    command = [*PROGRAM, *map(str, command)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
    result = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "frames are done already" in result.stdout
    assert [float(seconds) for seconds, _ in read_planes(target)] == [k / 25 for k in range(40)]


def test_damaged_packets_are_left_out_and_told(unet_onnx: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(6, YUV420, SD, 16, 32), options={"crf": "10", "g": "1"})
    content = bytearray(source.read_bytes())
    packet = packets_of(source, "video")[3][1]
    where = content.index(packet)
    content[where : where + len(packet)] = bytes(len(packet))
    source.write_bytes(content)
    command = ["run", "--engine", unet_onnx, source, "-o", tmp_path / "out.mkv", "--steps", 1, "--sampler", "mean"]
    result = subprocess.run([*PROGRAM, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 4, result.stderr
    assert "1 damaged packets could not be decoded" in result.stderr
    assert [float(seconds) for seconds, _ in read_planes(tmp_path / "out.mkv")] == [0, 0.04, 0.08, 0.16, 0.2]


def test_a_denoising_model_takes_the_first_frames_noise_for_all(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    layout, engine = Layout("yuv"), onnx_of("ConditionalNAFNet")
    rng = np.random.default_rng(0)
    clean = planes_of(3, layout, SD, 32, 32)
    frames = [
        (np.clip(y + rng.normal(0, 5 + 10 * k, y.shape), 0, 255).astype(np.uint8), u, v)
        for k, (y, u, v) in enumerate(clean)
    ]
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p")
    command = ["run", "--engine", engine, source, "-o", tmp_path / "out.mp4", "--crf", 0, "--target-seconds", 100]
    result = subprocess.run([*PROGRAM, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "an evaluation at 32x32 takes" in result.stdout
    assert "estimated on the first frame, is used for all" in result.stderr
    level = estimate_noise(np.clip(to_rgb(frames[0], layout, SD), 0, 1))
    assert f"noise level {level:.1f}" in result.stderr
    restorer = load(engine)
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        rgb = restorer(to_rgb(ours, layout, SD), noise_level=level, quality="best")
        assert_same(to_planes(rgb, layout, SD), theirs)


def test_odd_sizes(tmp_path: Path) -> None:
    frames = planes_of(2, Layout("yuv"), SD, 33, 47)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p")
    restore(source, tmp_path / "out.mp4")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        assert_same(ours, theirs)
    with pytest.raises(IrsdeError, match="47x33 as yuv420p, which needs even sides: give --pix-fmt yuv444p"):
        restore(source, tmp_path / "small.mp4", pixel_format="yuv420p")


def test_several_videos_to_a_folder(unet_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    for name in ("a.mp4", "b.mkv"):
        write_video(tmp_path / name, planes_of(2, YUV420, SD, 16, 32))
    (tmp_path / "broken.mp4").write_bytes(b"nothing of a video")
    command = ["run", "--engine", unet_onnx, *(tmp_path / name for name in ("a.mp4", "broken.mp4", "b.mkv"))]
    command += ["-o", tmp_path / "out", "--steps", 1, "--sampler", "mean"]
    result = subprocess.run([*PROGRAM, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 4
    assert "broken.mp4: not a video file" in result.stderr
    assert "2 written, 1 failed, 0 skipped" in result.stdout
    assert [len(read_planes(tmp_path / "out" / name)) for name in ("a.mp4", "b.mkv")] == [2, 2]
    again = subprocess.run([*PROGRAM, *map(str, command), "--skip-existing"], capture_output=True, text=True)
    assert "0 written, 1 failed, 2 skipped" in again.stdout


def test_what_is_refused(unet_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD, 16, 32))
    picture, out = tmp_path / "p.png", tmp_path / "out.mp4"
    write_picture(picture, Picture(np.zeros((16, 16, 3), np.uint8)))
    run = ("run", "--engine", unet_onnx)
    fails_with(2, "in calls of their own", *run, source, picture, "-o", tmp_path)
    fails_with(2, "--crf is for videos", *run, picture, "-o", tmp_path / "q.png", "--crf", 20)
    fails_with(2, "--format is for pictures", *run, source, "-o", out, "--format", "png")
    fails_with(2, "--size is for raw RGB", *run, source, "-o", out, "--size", "4x4")
    fails_with(2, "no encoder nonsense", *run, source, "-o", out, "--codec", "nonsense")
    fails_with(2, ".webm files cannot hold libx264", *run, source, "-o", "o.webm", "--codec", "libx264")
    fails_with(2, "not yuv410p", *run, source, "-o", out, "--pix-fmt", "yuv410p")
    fails_with(2, "--crf: ffv1 has no such option", *run, source, "-o", "o.mkv", "--codec", "ffv1", "--crf", 3)
    fails_with(2, "not nonsense", *run, source, "-o", out, "--preset", "nonsense")
    fails_with(2, "--end must lie after --start", *run, source, "-o", out, "--start", 3, "--end", 2)
    fails_with(2, "is not a time", *run, source, "-o", out, "--start", "1h")
    fails_with(1, "no frames in the part", *run, source, "-o", out, "--start", "00:01:00")
    fails_with(1, "neither the name of a video", *run, source, "-o", tmp_path / "out.gif")
    fails_with(1, "one file cannot hold 2 videos", *run, source, source, "-o", out)
    fails_with(1, "is the input and would be replaced", *run, source, "-o", source, "--overwrite")
    fails_with(1, "exists already", *run, source, "-o", write_video(out, planes_of(1, YUV420, SD, 16, 32)))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_is_fetched(unet_onnx: Path, tmp_path: Path, fails_with: Callable[..., None], free_port: int) -> None:
    """Neither addresses on the command line nor playlists with a video's name make FFmpeg open anything else."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port))
        server.listen()
        server.settimeout(0.3)
        address = f"http://127.0.0.1:{free_port}/in.mp4"
        run = ("run", "--engine", unet_onnx, "-o", tmp_path / "out.mp4")
        fails_with(1, "no such file", *run, address)
        fails_with(1, "no such file", *run, f"concat:{tmp_path}/a.mp4|{tmp_path}/b.mp4")
        playlist = tmp_path / "list.ts"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
        fails_with(1, "not a video file", *run, playlist)
        playlist.write_text(f"ffconcat version 1.0\nfile {address}\n")
        fails_with(1, "not a video file", *run, playlist)
        with pytest.raises(TimeoutError), contextlib.closing(server.accept()[0]):
            pass


def test_too_large_a_frame_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(1, YUV420, SD))
    monkeypatch.setattr("irsde_deploy.video.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(InputFileError, match="64x48 pixels are more than the limit"):
        probe(source)


def test_a_changed_matrix_changes_what_the_network_sees(tmp_path: Path) -> None:
    """--matrix is for files that do not say; what they say counts."""
    frames = planes_of(1, YUV420, SD)
    silent = write_video(tmp_path / "silent.mp4", frames)
    assert probe(silent).colour == Colour("bt601")
    assert probe(silent, "bt709").colour == Colour("bt709")
    assert probe(write_video(tmp_path / "says.mp4", frames, tags=(1, 1, 1, 1)), "bt601").colour == Colour("bt709")
    found = probe(silent)
    frame = next(read_frames(found, Span(), Losses()))
    difference = found.to_rgb(frame) - replace(found, colour=Colour("bt709")).to_rgb(frame)
    assert np.abs(difference).max() > 0.02
