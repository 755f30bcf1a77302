"""y4m and raw RGB on pipes: formats, limits, and the command between two neighbours."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import PROGRAM, irsde_piped
from videos import Identity, planes_of, read_planes

from irsde_deploy import Restorer, load
from irsde_deploy.errors import InputFileError, InvalidValueError
from irsde_deploy.video.colour import Colour, Layout, Planes, to_planes, to_rgb
from irsde_deploy.video.pipe_formats import raw_format
from irsde_deploy.video.pipes import MAX_LINE, read_format, read_pipe_frames, write_frame, write_header

SPACES = ["420jpeg", "420mpeg2", "420paldv", "420", "422", "444", "411", "mono", "420p10", "422p12", "444p16", "mono12"]


def stream_of(space: str, frames: list[Planes], extra: str = "") -> bytes:
    """A y4m stream, as the man page says."""
    height, width = frames[0][0].shape
    data = f"YUV4MPEG2 W{width} H{height} F30000:1001 Ip A1:1 C{space}{extra}\n".encode()
    for planes in frames:
        data += b"FRAME\n" + b"".join(plane.astype(plane.dtype.newbyteorder("<")).tobytes() for plane in planes)
    return data


def restored(data: bytes, restorer: Restorer | None = None) -> bytes:
    """What comes out of a pipe, without processes; with the identity where there is no restorer."""
    given, out = io.BytesIO(data), io.BytesIO()
    form = read_format(given)
    write_header(out, form)
    for frame in read_pipe_frames(given, form):
        rgb = form.to_rgb(frame)
        write_frame(
            out, form, form.restored(frame, rgb if restorer is None else restorer(rgb, sampler="mean", steps=1))
        )
    return out.getvalue()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_identity_returns_the_stream_to_the_byte(space: str, size: tuple[int, int]) -> None:
    layout = read_format(io.BytesIO(stream_of(space, [(np.zeros(size, np.uint8),)]))).layout
    data = stream_of(space, planes_of(2, layout, Colour(), *size), " XYSCSS=WHATEVER XCOLORRANGE=FULL")
    assert restored(data) == data
    if layout.bits <= 10:  # the engine's own arithmetic is float32
        assert restored(data, Restorer(Identity())) == data


def test_the_header_says_what_the_values_mean() -> None:
    def form(tags: str) -> Colour:
        return read_format(io.BytesIO(f"YUV4MPEG2 {tags}\n".encode())).colour

    assert form("W64 H48 F25:1") == Colour("bt601", False, (False, False))
    assert form("W1920 H1080 F25:1 C420mpeg2") == Colour("bt709", False, (True, False))
    assert form("W64 H48 F25:1 C420paldv XCOLORRANGE=FULL") == Colour("bt601", True, (True, True))
    assert form("W64 H48 F25:1 C420p10 XCOLORRANGE=LIMITED") == Colour("bt601", False, (True, False))
    assert form("W64 H48 F25:1 Cmono").full
    assert not form("W64 H48 F25:1 Cmono XCOLORRANGE=LIMITED").full
    header = read_format(io.BytesIO(b"YUV4MPEG2 W64 H48 F30000:1001 C422\n"), "bt2020")
    assert (header.rate, header.colour.matrix) == (pytest.approx(30000 / 1001), "bt2020")
    assert [read_format(io.BytesIO(b"YUV4MPEG2 W64 H48%s\n" % rate)).rate for rate in (b"", b" F0:0")] == [0, 0]


@pytest.mark.parametrize(("tag", "interlaced"), [("", False), ("Ip", False), ("It", True), ("Ib", True), ("Im", True)])
def test_which_streams_are_interlaced(tag: str, interlaced: bool) -> None:
    assert read_format(io.BytesIO(f"YUV4MPEG2 W64 H48 F25:1 {tag}\n".encode())).interlaced == interlaced


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "rgb48le", "bgr48le"])
def test_raw_rgb(pixel_format: str) -> None:
    rng = np.random.default_rng(0)
    deep = "48" in pixel_format
    pixels = rng.integers(0, 65536 if deep else 256, (2, 5, 7, 3)).astype("<u2" if deep else "u1")
    form = raw_format("7x5", pixel_format)
    frames = list(read_pipe_frames(io.BytesIO(pixels.tobytes()), form))
    white = 65535 if deep else 255
    expected = pixels[..., ::-1] if pixel_format.startswith("bgr") else pixels
    np.testing.assert_allclose(form.to_rgb(frames[1]), expected[1] / white, atol=1e-7)
    out = io.BytesIO()
    for frame in frames:
        write_frame(out, form, form.restored(frame, form.to_rgb(frame)))
    assert out.getvalue() == pixels.tobytes()


class Trickle(io.RawIOBase):
    """Gives and takes at most three bytes at a time, as pipes may."""

    def __init__(self, data: bytes = b"") -> None:
        self.inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, 3))

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        return self.inner.write(data[:3])


def test_what_a_pipe_takes_a_part_at_a_time_is_written_whole() -> None:
    data = stream_of("420p10", planes_of(2, Layout("yuv", 10, 1, 1), Colour(), 6, 8))
    out = Trickle()
    form = read_format(given := io.BytesIO(data))
    write_header(out, form)  # type: ignore[arg-type]
    for frame in read_pipe_frames(given, form):
        write_frame(out, form, frame)  # type: ignore[arg-type]
    assert out.inner.getvalue() == data


def test_a_frames_own_parameters_stay_before_it() -> None:
    data = b"YUV4MPEG2 W2 H1 F25:1 C444\nFRAME Ip\n" + bytes(6) + b"FRAME\n" + bytes(6)
    assert restored(data) == data


def test_white_and_a_line_as_long_as_lines_may_be_are_taken() -> None:
    line = b"YUV4MPEG2 W1 H1 F25:1 C444p10 X"
    data = line + (MAX_LINE - len(line) - 1) * b"x" + b"\nFRAME\n" + 3 * b"\xff\x03"
    assert data.index(b"\n") + 1 == MAX_LINE
    assert restored(data) == data


def test_short_reads_and_a_torn_frame() -> None:
    frames = planes_of(3, Layout("yuv", 8, 1, 1), Colour(), 6, 8)
    data = stream_of("420jpeg", frames)
    stream = Trickle(data[:-5])
    form = read_format(stream)
    whole = read_pipe_frames(stream, form)
    for k in range(2):
        for before, after in zip(frames[k], next(whole).planes, strict=True):
            np.testing.assert_array_equal(before, after)
    with pytest.raises(InputFileError, match="ends within frame 3: 67 of 72 bytes"):
        next(whole)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the input is empty"),
        (b"RIFF....AVI ", "not y4m"),
        (b"YUV4MPEG2 W64 H48", "ends within"),
        (b"YUV4MPEG2 W64 F25:1\n", "must give H"),
        (b"YUV4MPEG2 W-4 H48 F25:1\n", "must give W"),
        (b"YUV4MPEG2 W99999999 H1 F25:1\n", "must give W"),
        (b"YUV4MPEG2 W99999 H99999 F25:1\n", "limit of 100 megapixels"),
        (b"YUV4MPEG2 W64 H48 F25\n", "must give F"),
        (b"YUV4MPEG2 W64 H48 F25:1 W32\n", "gives W more than once"),
        (b"YUV4MPEG2 W64 H48 F25:1 C444alpha\n", "C444alpha is not one of"),
        (b"YUV4MPEG2 W64 H48 F25:1 C420p11\n", "C420p11 is not one of"),
        (b"YUV4MPEG2 W64 H48 F25:1 X" + 2000 * b"x", "longer than 1024"),
        (b"YUV4MPEG2 W64 H48 F" + 500 * b"1" + b"\n", "must give F"),
        (b"YUV4MPEG2 W64 H48 F25:1 C" + 500 * b"4" + b"\n", "is not one of"),
    ],
)
def test_bad_headers(data: bytes, message: str) -> None:
    with pytest.raises(InputFileError, match=re.escape(message)) as caught:
        read_format(io.BytesIO(data))
    assert len(str(caught.value)) < 250, "no value is quoted at length"


def test_bad_frames_and_sizes() -> None:
    stream = io.BytesIO(b"YUV4MPEG2 W2 H2 F25:1 C444\nFRAME\n" + bytes(12) + b"JUNK\n" + bytes(12))
    form = read_format(stream)
    frames = read_pipe_frames(stream, form)
    next(frames)
    with pytest.raises(InputFileError, match="after 1 frames"):
        next(frames)
    stream = io.BytesIO(b"YUV4MPEG2 W2 H2 F25:1 C444\nFRAME\n")
    with pytest.raises(InputFileError, match="ends within frame 1: 0 of 12 bytes"):
        list(read_pipe_frames(stream, read_format(stream)))
    stream = io.BytesIO(b"YUV4MPEG2 W1 H1 F25:1 C444p10\nFRAME\n" + b"\x00\x04" * 3)
    with pytest.raises(InputFileError, match="above 1023"):
        list(read_pipe_frames(stream, read_format(stream)))
    for size in ("64", "64x", "0x5", "-1x5"):
        with pytest.raises(InvalidValueError, match="`size`"):
            raw_format(size, "rgb24")
    with pytest.raises(InvalidValueError, match="rgb24"):
        raw_format("4x4", "yuv420p")
    with pytest.raises(InputFileError, match="`size`: 20000x5001 pixels are more than the limit of 100 megapixels"):
        raw_format("20000x5001", "rgb24")
    assert raw_format("20000x5000", "rgb24").width == 20000


def arguments(small_onnx: Path, *more: str) -> list[str]:
    return ["run", "--engine", str(small_onnx), "-", "-o", "-", "--sampler", "mean", "--steps", "1", *more]


def command(small_onnx: Path) -> list[str]:
    return [*PROGRAM, *arguments(small_onnx)]


def test_the_command_restores_a_pipe_as_python_does(small_onnx: Path) -> None:
    layout, colour = Layout("yuv", 8, 1, 1), Colour("bt601", False, (False, False))
    frames = planes_of(3, layout, colour, 16, 32)
    data = stream_of("420jpeg", frames)
    result = subprocess.run(command(small_onnx), input=data, capture_output=True, timeout=120)
    stderr = result.stderr.decode()
    assert result.returncode == 0, stderr
    restorer = load(small_onnx)
    expected = [
        to_planes(restorer(to_rgb(planes, layout, colour), sampler="mean", steps=1), layout, colour, planes)
        for planes in frames
    ]
    assert result.stdout == stream_of("420jpeg", expected)
    assert [line.split(":")[0] for line in stderr.splitlines() if line.startswith("frame")] == [
        "frame 0",
        "frame 1",
        "frame 2",
    ]
    assert re.search(r"irsde-deploy: 3 frames, [\d.]+ fps, latency [\d.]+ ms \(median\), [\d.]+ ms", stderr)

    per_frame = irsde_piped(data, *arguments(small_onnx, "--noise", "per-frame"))
    expected[1:] = [
        to_planes(restorer(to_rgb(p, layout, colour)[None], sampler="mean", steps=1, frames=[k])[0], layout, colour, p)
        for k, p in enumerate(frames[1:], 1)
    ]
    assert per_frame.stdout == stream_of("420jpeg", expected)
    assert per_frame.stdout != result.stdout

    torn = subprocess.run(command(small_onnx), input=data[:-1], capture_output=True, timeout=120)
    assert torn.returncode == 1
    assert torn.stdout == result.stdout[: -_frame_size(frames[0])]
    assert "ends within frame 3" in torn.stderr.decode().splitlines()[-1]


def _frame_size(planes: Planes) -> int:
    return len(b"FRAME\n") + sum(plane.nbytes for plane in planes)


def test_raw_rgb_is_restored_as_a_picture_of_integers(small_onnx: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    result = irsde_piped(pixels.tobytes(), *arguments(small_onnx, "--size", "16x16"))
    assert result.returncode == 0, result.stderr
    restorer = load(small_onnx)
    expected = np.stack([restorer(frame, sampler="mean", steps=1) for frame in pixels])
    np.testing.assert_array_equal(np.frombuffer(result.stdout, np.uint8).reshape(pixels.shape), expected)


def test_a_reader_that_closes_the_pipe_ends_it_well(small_onnx: Path) -> None:
    frames = planes_of(1, Layout("yuv"), Colour(), 16, 16)
    header, frame = stream_of("444", frames).split(b"FRAME", 1)
    process = subprocess.Popen(
        command(small_onnx), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(header + 3 * (b"FRAME" + frame))
    process.stdin.flush()
    process.stdout.read(len(header) + 10)
    process.stdout.close()
    with pytest.raises(BrokenPipeError):  # the writer goes on until it is told that nobody reads
        process.stdin.write(100_000 * (b"FRAME" + frame))
    assert process.stderr is not None
    with process.stderr:
        stderr = process.stderr.read().decode()
    assert process.wait(60) == 0, stderr
    assert "the reader has closed the pipe" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def test_a_slow_reader_holds_the_writer_back(small_onnx: Path) -> None:
    """Nobody reads: what is taken from the writer is bounded by the queues and the pipes' own buffers."""
    frames = planes_of(1, Layout("yuv"), Colour(), 128, 128)
    header, frame = stream_of("444", frames).split(b"FRAME", 1)
    frame = b"FRAME" + frame
    process = subprocess.Popen(
        command(small_onnx), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    written = _write_until_stuck(process.stdin, header + 60 * frame)
    process.kill()
    process.communicate()
    pipes = 2 * 65536 * 4  # of both pipes, with room for other kernels' sizes
    assert written < 12 * len(frame) + pipes, written / len(frame)
    assert written > 2 * len(frame)


def _write_until_stuck(stream: io.RawIOBase, data: bytes) -> int:
    written, since, started = 0, None, time.monotonic()
    while written < len(data) and time.monotonic() - started < 60:
        count = stream.write(data[written : written + 65536])
        if count:
            written, since = written + count, None
        elif since is None:
            since = time.monotonic()
        elif time.monotonic() - since > (3 if written > 3 * 49152 else 30):
            break
        else:
            time.sleep(0.05)
    return written


def test_what_pipes_refuse(small_onnx: Path, fails_with: Callable[..., None], tmp_path: Path) -> None:
    run = ("run", "--engine", small_onnx)
    fails_with(2, "the input is - alone", *run, "-", "-o", tmp_path / "out.mp4")
    fails_with(2, "the input is - alone", *run, "-", "in.mp4", "-o", "-")
    fails_with(2, "--codec is for files", *run, "-", "-o", "-", "--codec", "libx264")
    fails_with(2, "--pix-fmt of a pipe is for raw RGB", *run, "-", "-o", "-", "--pix-fmt", "rgb24")
    fails_with(2, "--overwrite", *run, "-", "-o", "-", "--overwrite")
    result = subprocess.run(command(small_onnx), input=b"", capture_output=True, timeout=120)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == "irsde-deploy: the input is empty\n"
    for which, name in ((1, "stdout (>&-)"), (0, "stdin (<&-)")):
        closed = [sys.executable, "-c", f"import os, sys; os.close({which}); os.execv(sys.executable, sys.argv[1:])"]
        result = subprocess.run([*closed, *command(small_onnx)], stdin=subprocess.DEVNULL, capture_output=True)
        assert result.returncode == 2
        assert result.stderr.decode() == f"irsde-deploy: {name} is closed: - needs a pipe or a file there\n"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_between_two_ffmpegs(small_onnx: Path, tmp_path: Path) -> None:
    source = "ffmpeg -v error -f lavfi -i testsrc=size=32x16:rate=25:duration=0.2 -pix_fmt yuv420p -f yuv4mpegpipe -"
    sink = f"ffmpeg -v error -f yuv4mpegpipe -i - -c:v ffv1 -y {tmp_path}/out.mkv"
    middle = " ".join(command(small_onnx))
    subprocess.run(["bash", "-c", f"set -o pipefail; {source} | {middle} | {sink}"], check=True, timeout=120)
    assert [float(seconds) for seconds, _ in read_planes(tmp_path / "out.mkv")] == [0, 0.04, 0.08, 0.12, 0.16]
