"""restore_pipe: a stream in one call, as the command restores it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from videos import Identity, planes_of

from irsde_deploy import Restorer, load
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InputFileError, InvalidValueError
from irsde_deploy.pictures.targets import QualityChoice
from irsde_deploy.video import PipeOutcome, PipeSettings, PipeStart, restore_pipe
from irsde_deploy.video.colour import Colour, Layout

ONE_STEP = Sampling(sampler="mean", steps=1, tile="auto")


def stream(count: int, interlacing: str = "p") -> bytes:
    """A y4m stream of 32x16."""
    data = f"YUV4MPEG2 W32 H16 F25:1 I{interlacing} C420jpeg\n".encode()
    for planes in planes_of(count, Layout("yuv", 8, 1, 1), Colour("bt601"), 16, 32):
        data += b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    return data


@pytest.fixture(scope="module")
def restorer(small_onnx: Path) -> Restorer:
    return load(small_onnx)


@pytest.mark.parametrize(
    ("options", "sampling", "settings"),
    [
        ([], Sampling(), PipeSettings()),
        (
            ["--noise", "per-frame", "--batch", "2", "--sampler", "posterior", "--steps", "3", "--matrix", "bt709"],
            Sampling(sampler="posterior", steps=3),
            PipeSettings(noise="per-frame", batch=2, matrix="bt709"),
        ),
    ],
)
def test_the_stream_is_the_commands(
    options: list[str], sampling: Sampling, settings: PipeSettings, small_onnx: Path, restorer: Restorer
) -> None:
    data = stream(5)
    command = [sys.executable, "-m", "irsde_deploy", "run", "--engine", str(small_onnx), "-", "-o", "-", *options]
    result = subprocess.run(command, input=data, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr
    output = io.BytesIO()
    outcome = restore_pipe(restorer, io.BytesIO(data), output, sampling=sampling, settings=settings)
    assert output.getvalue() == result.stdout
    assert (outcome.frames, outcome.closed, len(outcome.latencies)) == (5, False, 5)


def test_raw_rgb(restorer: Restorer) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    output = io.BytesIO()
    settings = PipeSettings(size="16x16", pix_fmt="bgr24")
    restore_pipe(restorer, io.BytesIO(pixels.tobytes()), output, sampling=ONE_STEP, settings=settings)
    restored = np.frombuffer(output.getvalue(), np.uint8).reshape(pixels.shape)
    expected = np.stack([restorer(frame[:, :, ::-1], sampler="mean", steps=1)[:, :, ::-1] for frame in pixels])
    np.testing.assert_array_equal(restored, expected)


def test_callbacks_say_what_the_command_prints(restorer: Restorer) -> None:
    starts: list[PipeStart] = []
    notes: list[str] = []
    seen: list[tuple[int, float]] = []
    choices: list[QualityChoice] = []
    outcome = restore_pipe(
        restorer,
        io.BytesIO(stream(4, "t")),
        io.BytesIO(),
        sampling=Sampling(tile=16),
        target_seconds=1e-9,
        on_start=starts.append,
        on_note=notes.append,
        on_frame=lambda number, seconds: seen.append((number, seconds)),
        on_quality=choices.append,
    )
    (start,), (choice,) = starts, choices
    assert (start.engine, start.sampling) == (restorer.engine.name, "draft = mean, 2 steps, seed 0")
    assert (start.form.height, start.form.width, start.form.rate) == (16, 32, 25)
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert outcome.latencies == tuple(seconds for _, seconds in seen)
    assert min(outcome.latencies) <= outcome.latency(50) <= outcome.latency(95) <= max(outcome.latencies)
    assert choice.quality == "draft"
    assert notes[0] == choice.note
    assert notes[1].startswith("the stream is interlaced")
    assert notes[2].startswith("restored in ")
    assert len(notes) == 3


def test_a_torn_stream_is_an_error_after_its_whole_frames(restorer: Restorer) -> None:
    left: list[PipeOutcome] = []
    output = io.BytesIO()
    with pytest.raises(InputFileError, match="ends within frame 3: 767 of 768 bytes"):
        restore_pipe(restorer, io.BytesIO(stream(3)[:-1]), output, sampling=ONE_STEP, on_cut_off=left.append)
    assert [outcome.frames for outcome in left] == [2]
    assert output.getvalue().count(b"FRAME\n") == 2


class _Closing(io.RawIOBase):
    """A pipe whose reader goes after some frames."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def write(self, data: object) -> int:
        assert isinstance(data, memoryview)
        self.frames -= bytes(data) == b"FRAME\n"
        if self.frames < 0:
            raise BrokenPipeError
        return len(data)


def test_a_reader_that_closes_the_pipe_ends_it_well(restorer: Restorer) -> None:
    outcome = restore_pipe(restorer, io.BytesIO(stream(6)), _Closing(2), sampling=ONE_STEP)  # type: ignore[arg-type]
    assert (outcome.frames, outcome.closed) == (2, True)


class _Counting(Identity):
    """An engine that keeps how many pictures it is given at a time, and is interrupted at one of its calls."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        super().__init__()
        self.interrupted_at = interrupted_at
        self.batches: list[int] = []

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.batches.append(len(x))
        if len(self.batches) == self.interrupted_at:
            raise KeyboardInterrupt
        return super().__call__(x, mu, t)


def test_what_is_said_of_a_stream_reaches_its_frames() -> None:
    engine, starts = _Counting(), list[PipeStart]()
    settings = PipeSettings(batch=2, matrix="bt2020")
    restore_pipe(
        Restorer(engine), io.BytesIO(stream(5)), io.BytesIO(), settings=settings, sampling=ONE_STEP,
        on_start=starts.append,
    )  # fmt: skip
    assert engine.batches == [2, 2, 1]
    assert starts[0].form.colour.matrix == "bt2020"


def test_a_target_is_measured_on_whole_batches() -> None:
    engine = _Counting()
    restore_pipe(
        Restorer(engine), io.BytesIO(stream(3)), io.BytesIO(), settings=PipeSettings(batch=3), target_seconds=1e-9
    )
    assert set(engine.batches) == {3}


class _Stuck(io.RawIOBase):
    """A pipe whose reader takes the header and then nothing, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def write(self, data: object) -> int:
        assert isinstance(data, memoryview)
        if bytes(data).startswith(b"FRAME"):
            self.let_go.wait(60)
        return len(data)


class _Watched(io.BytesIO):
    """A stream that tells when more of it was read than a number of bytes."""

    def __init__(self, data: bytes, bound: int) -> None:
        super().__init__(data)
        self.bound, self.passed = bound, threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > self.bound:
            self.passed.set()
        return data


def test_no_more_than_one_frame_waits_before_each_stage() -> None:
    """One is written and one restored, one waits before each of the two, and one has been read."""
    data, out = stream(12), _Stuck()
    given = _Watched(data, len(stream(0)) + 5 * (len(stream(1)) - len(stream(0))))
    run = threading.Thread(
        target=restore_pipe, args=(Restorer(Identity()), given, out), kwargs={"sampling": ONE_STEP}, daemon=True
    )
    run.start()
    assert not given.passed.wait(0.5)
    out.let_go.set()
    run.join(60)
    assert given.passed.is_set()


def test_an_interrupt_does_not_wait_for_a_reader_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irsde_deploy.video.streaming._PATIENCE", 0.05)
    out, left = _Stuck(), list[PipeOutcome]()

    def run() -> None:
        with suppress(KeyboardInterrupt):
            restore_pipe(Restorer(_Counting(3)), io.BytesIO(stream(9)), out, sampling=ONE_STEP, on_cut_off=left.append)  # type: ignore[arg-type]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert [outcome.frames for outcome in left] == [0]
    out.let_go.set()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "4"}, "`size` must be WIDTHxHEIGHT"),
        ({"size": "4x4", "pix_fmt": "yuv420p"}, "raw video on a pipe is one of rgb24"),
        ({"pix_fmt": "rgb24"}, "`pix_fmt` of a pipe is for raw RGB, with `size`"),
        ({"noise": "loud"}, "`noise` must be one of"),
        ({"batch": 0}, "`batch` must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        PipeSettings(**settings)  # type: ignore[arg-type]


def test_a_stream_without_a_frame_is_refused(restorer: Restorer) -> None:
    with pytest.raises(InputFileError, match="the input is empty"):
        restore_pipe(restorer, io.BytesIO(), io.BytesIO())
    with pytest.raises(InputFileError, match="ends before its first frame"):
        restore_pipe(restorer, io.BytesIO(stream(0)), io.BytesIO())
