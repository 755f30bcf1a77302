"""irsde-deploy run of video files, as its users call it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from commands import irsde  # noqa: E402
from videos import (  # noqa: E402
    SD,
    YUV420,
    assert_same,
    packets_of,
    planes_of,
    read_planes,
    write_video,
)

from irsde_deploy import load  # noqa: E402
from irsde_deploy.pictures.files import Picture, write_picture  # noqa: E402
from irsde_deploy.pictures.noise_level import estimate_noise  # noqa: E402
from irsde_deploy.video.colour import Layout, to_planes, to_rgb  # noqa: E402


@pytest.mark.parametrize("per_frame", [False, True])
def test_each_frame_is_what_the_restorer_makes_of_it(small_onnx: Path, per_frame: bool, tmp_path: Path) -> None:
    layout, restorer = Layout("yuv"), load(small_onnx)
    frames = planes_of(4, layout, SD, 16, 32)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p")
    command = ["run", "--engine", small_onnx, source, "-o", tmp_path / "out.mp4", "--steps", 2, "--crf", 0]
    noise = ["--noise", "per-frame"] if per_frame else []
    result = irsde(*command, *noise)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "progress is for terminals only"
    assert "4 frames" in result.stdout
    for k, (ours, (_, theirs)) in enumerate(zip(frames, read_planes(tmp_path / "out.mp4"), strict=True)):
        rgb = restorer(to_rgb(ours, layout, SD)[None], steps=2, frames=[k if per_frame else 0])[0]
        assert_same(to_planes(rgb, layout, SD), theirs)


def test_damaged_packets_are_left_out_and_told(small_onnx: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(6, YUV420, SD, 16, 32), options={"crf": "10", "g": "1"})
    content = bytearray(source.read_bytes())
    packet = packets_of(source, "video")[3][1]
    where = content.index(packet)
    content[where : where + len(packet)] = bytes(len(packet))
    source.write_bytes(content)
    command = ["run", "--engine", small_onnx, source, "-o", tmp_path / "out.mkv", "--steps", 1, "--sampler", "mean"]
    result = irsde(*command)
    assert result.returncode == 4, result.stderr
    assert "1 damaged packet could not be decoded" in result.stderr
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
    result = irsde(*command)
    assert result.returncode == 0, result.stderr
    assert "an evaluation at 32x32 takes" in result.stdout
    assert "estimated on the first frame, is used for all" in result.stderr
    level = estimate_noise(np.clip(to_rgb(frames[0], layout, SD), 0, 1))
    assert f"noise level {level:.1f}" in result.stderr
    restorer = load(engine)
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        rgb = restorer(to_rgb(ours, layout, SD), noise_level=level, quality="best")
        assert_same(to_planes(rgb, layout, SD), theirs)


def test_several_videos_to_a_folder(small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    for name in ("a.mp4", "b.mkv"):
        write_video(tmp_path / name, planes_of(2, YUV420, SD, 16, 32))
    (tmp_path / "broken.mp4").write_bytes(b"nothing of a video")
    command = ["run", "--engine", small_onnx, *(tmp_path / name for name in ("a.mp4", "broken.mp4", "b.mkv"))]
    command += ["-o", tmp_path / "out", "--steps", 1, "--sampler", "mean"]
    result = irsde(*command)
    assert result.returncode == 4
    assert "broken.mp4: not a video file" in result.stderr
    assert "2 written, 1 failed, 0 skipped" in result.stdout
    assert [len(read_planes(tmp_path / "out" / name)) for name in ("a.mp4", "b.mkv")] == [2, 2]
    again = irsde(*command, "--skip-existing")
    assert "0 written, 1 failed, 2 skipped" in again.stdout


def test_what_is_refused(small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD, 16, 32))
    picture, out = tmp_path / "p.png", tmp_path / "out.mp4"
    write_picture(picture, Picture(np.zeros((16, 16, 3), np.uint8)))
    run = ("run", "--engine", small_onnx)
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
    same = "--end must lie after --start: 0.5 s to 0.5 s"
    fails_with(2, same, *run, source, "-o", out, "--start", 0.5, "--end", 0.5)
    for time in ("1h", "nan", "inf", "00:99:99", "00:60:00", "1:60"):
        fails_with(2, f"'{time}' is not a time", *run, source, "-o", out, "--start", time)
    for option in ("--segment", "--crf", "--target-fps", "--target-seconds"):
        fails_with(2, "nan", *run, source, "-o", out, option, "nan")
    fails_with(1, "no frames in the part", *run, source, "-o", out, "--start", "00:01:00")
    fails_with(1, "neither the name of a video", *run, source, "-o", tmp_path / "out.gif")
    fails_with(1, "one file cannot hold 2 videos", *run, source, source, "-o", out)
    fails_with(1, "is an input and would be replaced", *run, source, "-o", source, "--overwrite")
    fails_with(1, "exists already", *run, source, "-o", write_video(out, planes_of(1, YUV420, SD, 16, 32)))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_videos_is_told_how_they_are_given(
    small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    source = write_video(folder / "in.mp4", planes_of(1, YUV420, SD, 16, 32))
    message = f"videos are given by their names, such as {source}"
    fails_with(1, message, "run", "--engine", small_onnx, folder, "-o", tmp_path / "out")


def test_nothing_is_fetched(small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None], free_port: int) -> None:
    """Neither addresses on the command line nor playlists with a video's name make FFmpeg open anything else."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port))
        server.listen()
        server.settimeout(0.3)
        address = f"http://127.0.0.1:{free_port}/in.mp4"
        run = ("run", "--engine", small_onnx, "-o", tmp_path / "out.mp4")
        fails_with(1, "no such file", *run, address)
        fails_with(1, "no such file", *run, f"concat:{tmp_path}/a.mp4|{tmp_path}/b.mp4")
        playlist = tmp_path / "list.ts"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
        fails_with(1, "not a video file", *run, playlist)
        playlist.write_text(f"ffconcat version 1.0\nfile {address}\n")
        fails_with(1, "not a video file", *run, playlist)
        with pytest.raises(TimeoutError), contextlib.closing(server.accept()[0]):
            pass


def test_a_full_disk_ends_one_of_several_videos_alone(small_onnx: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [(rng.integers(0, 256, (64, 64)).astype(np.uint8),) * 3 for _ in range(8)]
    write_video(tmp_path / "a.mkv", noise, "yuv444p")
    write_video(tmp_path / "b.mkv", planes_of(2, YUV420, SD, 16, 32))
    command = ["run", "--engine", small_onnx, tmp_path / "a.mkv", tmp_path / "b.mkv", "-o", tmp_path / "out"]
    command += ["--steps", 1, "--sampler", "mean", "--crf", 0]
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    limited += "runpy.run_module('irsde_deploy', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", limited, *map(str, command)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 4, result.stderr
    assert "000000.mkv: cannot be written (File too large)" in result.stderr
    assert "1 written, 1 failed" in result.stdout
    assert len(read_planes(tmp_path / "out" / "b.mkv")) == 2


def test_outputs_named_like_partial_files_are_refused_together(
    small_onnx: Path, tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    given = [write_video(tmp_path / name, planes_of(1, YUV420, SD, 16, 32)) for name in ("c.partial.mp4", "c.mp4")]
    fails_with(1, "restore them one by one", "run", "--engine", small_onnx, *given, "-o", tmp_path / "out")
