"""Frames through real GStreamer pipelines with the element `irsde`, compared with the restorer called by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from places import ROOT

from irsde_deploy import Restorer, load

SYSTEM_PYTHON = "/usr/bin/python3"
HEIGHT, WIDTH = 40, 47
LAYOUTS = {"RGB": (np.uint8, 3, [0, 1, 2]), "BGR": (np.uint8, 3, [2, 1, 0]), "RGBx": (np.uint8, 4, [0, 1, 2])}
LAYOUTS |= {"BGRx": (np.uint8, 4, [2, 1, 0]), "ARGB64": (np.uint16, 4, [1, 2, 3])}

Launch: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
"""A pipeline's words -> how it ended; `program` is gst-launch-1.0."""


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Run GStreamer with the plug-in and this interpreter's packages; skips where it is not there."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed (Debian: gstreamer1.0-tools)")
    own = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = subprocess.run([SYSTEM_PYTHON, "-c", own], capture_output=True, text=True, check=True).stdout.strip()
    if python != f"{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"GStreamer's Python is {python}, which cannot import this interpreter's packages")
    environment = {
        **os.environ,
        "GST_PLUGIN_PATH": str(ROOT / "runtimes" / "gstreamer"),
        "GST_REGISTRY": str(tmp_path_factory.mktemp("gstreamer") / "registry"),
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
    }

    def run(*words: object, program: tuple[str, ...] = ("gst-launch-1.0",)) -> subprocess.CompletedProcess[str]:
        command = [*program, *" ".join(map(str, words)).split()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    if run("irsde", program=("gst-inspect-1.0",)).returncode:
        pytest.skip("GStreamer has no loader for Python plug-ins (Debian: gstreamer1.0-python3-plugin-loader)")
    return run


@pytest.fixture(scope="module")
def restorer(small_onnx: Path) -> Restorer:
    return load(small_onnx)


def source(kind: str, pattern: str = "smpte") -> str:
    caps = f"video/x-raw,format={kind},width={WIDTH},height={HEIGHT},framerate=30000/1001"
    return f"videotestsrc num-buffers=3 pattern={pattern} ! {caps}"


def frames_of(raw: Path, kind: str, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """(3, H, W, 3) RGB, and all values (3, H, W, 3 or 4) of three raw frames, whose rows take multiples of 4 bytes."""
    dtype, values, rgb = LAYOUTS[kind]
    stride = -(-width * values * np.dtype(dtype).itemsize // 4) * 4
    rows = np.fromfile(raw, np.uint8).reshape(3, height, stride)[:, :, : width * values * np.dtype(dtype).itemsize]
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(3, height, width, values)
    return pixels[..., rgb], pixels


def both(launch: Launch, tmp_path: Path, start: str, element: str) -> tuple[Path, Path]:
    """The raw frames of a pipeline without and with the element."""
    before, after = tmp_path / "before.raw", tmp_path / "after.raw"
    for middle, target in (("", before), (f"! {element}", after)):
        done = launch("-q", start, middle, f"! filesink location={target}")
        assert done.returncode == 0, done.stderr
    return before, after


@pytest.mark.parametrize("kind", LAYOUTS)
def test_frames_are_what_the_restorer_makes_of_them(
    kind: str, launch: Launch, tmp_path: Path, small_onnx: Path, restorer: Restorer
) -> None:
    element = f"irsde engine={small_onnx} sampler=posterior steps=2 seed=7"
    before, after = both(launch, tmp_path, source(kind), element)
    given, given_values = frames_of(before, kind)
    restored, restored_values = frames_of(after, kind)
    for picture, out in zip(given, restored, strict=True):
        np.testing.assert_array_equal(out, restorer(picture, sampler="posterior", steps=2, seed=7))
    assert (given != restored).any(axis=(1, 2, 3)).all(), "the network must do something"
    alpha = [k for k in range(given_values.shape[-1]) if k not in LAYOUTS[kind][2]]
    np.testing.assert_array_equal(restored_values[..., alpha], given_values[..., alpha])


def test_noise_of_each_frame_is_that_of_its_number(
    launch: Launch, tmp_path: Path, small_onnx: Path, restorer: Restorer
) -> None:
    element = f"irsde engine={small_onnx} noise=per-frame tile=16 overlap=4"
    before, after = both(launch, tmp_path, source("RGB", "black"), element)
    given, _ = frames_of(before, "RGB")
    restored, _ = frames_of(after, "RGB")
    for n, (picture, out) in enumerate(zip(given, restored, strict=True)):
        np.testing.assert_array_equal(out, restorer(picture, frames=[n], tile=16, overlap=4))
    assert (restored[0] != restored[1]).any()


def test_a_file(launch: Launch, tmp_path: Path, small_onnx: Path, restorer: Restorer) -> None:
    film = tmp_path / "film.avi"
    assert launch("-q", source("BGR"), f"! avimux ! filesink location={film}").returncode == 0
    start = f"filesrc location={film} ! avidemux"
    element = f"irsde engine={small_onnx} quality=fast clamp=true provider=openvino"
    before, after = both(launch, tmp_path, start, element)
    given, _ = frames_of(before, "BGR")
    openvino = load(small_onnx, provider="openvino")
    for picture, out in zip(given, frames_of(after, "BGR")[0], strict=True):
        np.testing.assert_array_equal(out, openvino(picture, quality="fast", clip=True))


def test_frames_without_a_rate_are_counted_and_settings_reach_the_restorer(
    launch: Launch, tmp_path: Path, small_onnx: Path, restorer: Restorer
) -> None:
    start = f"{source('RGB', 'black')} ! capssetter caps=video/x-raw,framerate=0/1"
    element = f"irsde engine={small_onnx} noise=per-frame tile=whole clamp=true"
    before, after = both(launch, tmp_path, start, element)
    given, _ = frames_of(before, "RGB")
    for n, (picture, out) in enumerate(zip(given, frames_of(after, "RGB")[0], strict=True)):
        np.testing.assert_array_equal(out, restorer(picture, frames=[n], clip=True))
    assert (out != restorer(picture, frames=[n])).any()


def test_times_stay(launch: Launch, small_onnx: Path) -> None:
    def times(middle: str) -> list[str]:
        done = launch("-v", source("RGB"), middle, "! fakesink silent=false")
        return re.findall(r"pts: \S+ duration: \S+ offset: \d+", done.stdout)

    plain = times("")
    assert plain[2] == "pts: 0:00:00.066733333, duration: 0:00:00.033366667, offset: 2"
    assert times(f"! irsde engine={small_onnx} steps=1") == plain


STRIDED = """
import sys
import gi
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstApp, GstVideo
Gst.init(None)
caps = "video/x-raw,format=RGB,width=20,height=10,framerate=25/1"
start = f"appsrc name=source format=time caps={caps}"
pipeline = Gst.parse_launch(f"{start} ! irsde engine={sys.argv[1]} noise=per-frame ! appsink name=sink sync=false")
buffer = Gst.Buffer.new_wrapped(open(sys.argv[2], "rb").read())
GstVideo.buffer_add_video_meta_full(buffer, 0, GstVideo.VideoFormat.RGB, 20, 10, 1, [7, 0, 0, 0], [100, 0, 0, 0])
buffer.pts = 9 * Gst.SECOND // 25
pipeline.set_state(Gst.State.PLAYING)
pipeline.get_by_name("source").emit("push-buffer", buffer)
out = pipeline.get_by_name("sink").emit("try-pull-sample", 60 * Gst.SECOND).get_buffer()
open(sys.argv[3], "wb").write(out.extract_dup(0, out.get_size()))
pipeline.set_state(Gst.State.NULL)
"""


def test_rows_apart_in_memory_and_a_stream_that_starts_late(
    launch: Launch, tmp_path: Path, small_onnx: Path, restorer: Restorer
) -> None:
    """A buffer that says its own layout: 7 bytes before the picture, 100 a row; its time makes it frame 9."""
    given = np.random.default_rng(0).integers(0, 256, 7 + 10 * 100, dtype=np.uint8)
    given.tofile(tmp_path / "in")
    script = tmp_path / "strided.py"
    script.write_text(STRIDED)
    done = launch(script, small_onnx, tmp_path / "in", tmp_path / "out", program=(SYSTEM_PYTHON,))
    assert done.returncode == 0, done.stderr
    expected = given.copy()
    picture = expected[7:].reshape(10, 100)[:, :60]
    picture[:] = restorer(picture.reshape(10, 20, 3), frames=[9]).reshape(10, 60)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.uint8), expected)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("", "irsde needs an engine: set engine=FILE"),
        ("engine=none.onnx", "none.onnx: no such file"),
        ("engine={small} noise=some", "noise must be one of fixed, per-frame, not 'some'"),
        ("engine={small} tile=half", "tile must be a side in pixels, 'auto' or None, not 'half'"),
        ("engine={small} tile=whole overlap=-1 seed=3 steps=101", "steps must be from 1 to 100"),
        ("engine={small} quality=fast steps=3", "the quality 'fast' is a sampler and a number of steps: leave out"),
        ("engine={small} noise-level=10", "leave it out for this model"),
        ("engine={small} steps=-5", "steps must be a whole number from 1, not -5"),
        ("engine={small} seed=-1", "seed must be a whole number"),
        ("engine={small} tile=64 overlap=-2", "can overlap by 0 to 32 pixels, not -2"),
    ],
)
def test_wrong_settings_stop_the_pipeline_with_one_sentence(
    settings: str, sentence: str, launch: Launch, tmp_path: Path, small_onnx: Path
) -> None:
    element = f"irsde {settings.format(small=small_onnx)}"
    done = launch("-q", source("RGB"), f"! {element} ! filesink location={tmp_path / 'out'}")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: from element")]
    assert sentence in line
    assert "Traceback" not in done.stderr


def test_a_frame_that_fails_ends_the_stream_and_does_not_pass_unrestored(
    launch: Launch, tmp_path: Path, small_onnx: Path
) -> None:
    model = onnx.load(small_onnx)
    weights = next(constant for constant in model.graph.initializer if constant.name == "w")
    weights.CopyFrom(numpy_helper.from_array(np.full((3, 3, 3, 3), np.nan, np.float32), "w"))
    damaged = tmp_path / "damaged.onnx"
    onnx.save(model, damaged)
    done = launch("-q", source("RGB"), f"! irsde engine={damaged} ! filesink location={tmp_path / 'out'}")
    assert done.returncode != 0
    assert "after step 1 of 3 (t = 100) the state is not finite" in done.stderr
    assert (tmp_path / "out").stat().st_size == 0
