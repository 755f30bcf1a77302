"""OpenVINO against ONNX Runtime, and the choice between engines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import hostile_json, not_utf8

from irsde_deploy import load
from irsde_deploy.errors import EngineError, InvalidValueError, OutOfMemoryError
from irsde_deploy.runtimes.engines import auto_engine
from irsde_deploy.runtimes.engines.auto_engine import AutoEngine
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.opening import open_engine

NETWORKS = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8", "ConditionalUNet", "ConditionalNAFNet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def openvino() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")


FREED_ELSEWHERE = """
import os, signal, sys, threading
import numpy as np
from irsde_deploy.runtimes.opening import open_engine
engines = [open_engine(sys.argv[1], provider="openvino")]
x = np.zeros((1, 3, 16, 16), np.float32)
engines[0](x, x, np.ones(1, np.float32))
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, frame: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_is_heard_after_another_thread_has_freed_an_openvino_engine(openvino, small_onnx: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FREED_ELSEWHERE, str(small_onnx)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"heard {signal.SIGINT.value}\n"), done.stderr


@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_computes_what_onnxruntime_does(openvino, name: str, onnx_of: Callable[[str], Path]) -> None:
    path = onnx_of(name)
    candidate, reference = open_engine(path, provider="openvino"), OnnxEngine.open(path)
    assert candidate.card == reference.card
    rng = np.random.default_rng(0)
    m, channels = reference.card.multiple_of, reference.card.channels
    for batch, height, width in ((1, m, m), (2, 3 * m, 2 * m), (1, 4 * m, 4 * m), (1, m, m)):
        x, mu = (rng.random((batch, channels, height, width), dtype=np.float32) for _ in range(2))
        t = np.linspace(1, 90, batch, dtype=np.float32)
        expected = reference(x, mu, t)
        assert np.abs(candidate(x, mu, t) - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_whole_picture_by_openvino(openvino, onnx_of: Callable[[str], Path]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    path = onnx_of("unet_nf8_depth4")
    expected = load(path)(picture, sampler="sde-2m", steps=8).astype(int)
    for provider in ("openvino", "auto"):
        assert np.abs(load(path, provider=provider)(picture, sampler="sde-2m", steps=8) - expected).max() <= 1


def test_files_that_openvino_cannot_read(openvino, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"hello")
    with pytest.raises(EngineError, match="not an ONNX model"):
        open_engine(tmp_path / "a.onnx", provider="openvino")
    with pytest.raises(InvalidValueError, match="a provider on cpu must be one of onnxruntime, openvino, auto"):
        open_engine(tmp_path / "a.onnx", provider="tensorrt")


class Slow:
    """An engine that takes a time for each pixel, and counts its calls."""

    card = None

    def __init__(self, name: str, fixed: float, a_pixel: float) -> None:
        self.name, self.fixed, self.a_pixel = name, fixed, a_pixel
        self.calls = 0

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.calls += 1
        time.sleep(self.fixed + self.a_pixel * x.shape[2] * x.shape[3])
        return x


def test_an_openvino_that_does_not_start(small_onnx: Path, tmp_path: Path) -> None:
    """It looks for plugins.xml beside its library, and this one is cut off."""
    openvino = pytest.importorskip("openvino")
    source = Path(openvino.__file__).parent
    shutil.copytree(source, tmp_path / "openvino", copy_function=lambda a, b: Path(b).symlink_to(a))
    for library in (source / "libs").glob("libopenvino.so*"):
        (tmp_path / "openvino" / "libs" / library.name).unlink()
        shutil.copyfile(library, tmp_path / "openvino" / "libs" / library.name)
    (tmp_path / "openvino" / "libs" / "plugins.xml").write_text('<ie><plugins><plugin name="CPU"')
    libraries = str(tmp_path / "openvino" / "libs")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LD_LIBRARY_PATH": libraries}
    code = f"import irsde_deploy; irsde_deploy.load({str(small_onnx)!r}, provider='openvino')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "EngineError: OpenVINO cannot start (Error loading XML file" in done.stderr


def test_the_faster_engine_is_taken_for_each_size_and_remembered() -> None:
    quick_start, quick_pixels = Slow("A", 0.0, 2e-5), Slow("B", 0.02, 2e-6)
    engine = AutoEngine([quick_start, quick_pixels], "a model")
    small, large = (1, 3, 16, 16), (1, 3, 64, 64)
    assert engine.engine_for(small) is quick_start
    assert engine.engine_for(large) is quick_pixels
    assert engine.name == "A and B"
    calls = quick_start.calls, quick_pixels.calls
    again = AutoEngine([quick_start, quick_pixels], "a model")
    assert again.engine_for(small) is quick_start
    assert again.engine_for(large) is quick_pixels
    assert (quick_start.calls, quick_pixels.calls) == calls, "nothing was measured again"
    AutoEngine([quick_start, quick_pixels], "another model").engine_for(small)
    assert quick_start.calls > calls[0], "the choice belongs to the model"


CHOICE = {"engine": 0, "name": "A"}
OTHERS = [b"[]", b"0", *(json.dumps({**CHOICE, "engine": index}).encode() for index in (7, -1))]


@pytest.mark.parametrize(
    "content", [*OTHERS, not_utf8(CHOICE), *(spoilt for spoilt, _ in hostile_json(CHOICE, "engine"))]
)
def test_a_memory_that_cannot_be_read_is_measured_anew(content: bytes) -> None:
    engines = [Slow("A", 0.01, 0), Slow("B", 0.0, 0)]
    engine = AutoEngine(engines, "a model")
    path = engine._memory((1, 3, 8, 8))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert engine.engine_for((1, 3, 8, 8)) is engines[1]
    assert json.loads(path.read_text()) == {"engine": 1, "name": "B"}


def test_a_cache_that_cannot_be_written_only_costs_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IRSDE_CACHE", str(tmp_path / "file" / "cache"))
    engines = [Slow("A", 0.01, 0), Slow("B", 0.0, 0)]
    assert AutoEngine(engines, "a model").engine_for((1, 3, 8, 8)) is engines[1]


class Failing(Slow):
    """An engine that raises an error of its own."""

    error = EngineError

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        raise self.error(f"{self.name} cannot")


class Short(Failing):
    error = OutOfMemoryError


def test_an_engine_that_fails_is_not_taken() -> None:
    slow = Slow("B", 0.01, 0)
    assert AutoEngine([Failing("A", 0, 0), slow], "a model").engine_for((1, 3, 8, 8)) is slow
    with pytest.raises(EngineError, match="A cannot"):
        AutoEngine([Failing("A", 0, 0), Failing("B", 0, 0)], "another model").engine_for((1, 3, 8, 8))


def test_a_want_of_memory_is_not_remembered() -> None:
    """It may pass: the next process measures again. Other failures stay."""
    slow, quick = Slow("B", 0.01, 0), Slow("A", 0.0, 0)
    for failing, next_one in ((Short("A", 0, 0), quick), (Failing("A", 0, 0), slow)):
        model = type(failing).__name__
        assert AutoEngine([failing, slow], model).engine_for((1, 3, 8, 8)) is slow
        assert AutoEngine([quick, slow], model).engine_for((1, 3, 8, 8)) is next_one


def test_a_choice_is_of_a_machine_its_versions_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1, 3, 8, 8)

    def memory(name: str = "A", size: tuple[int, ...] = shape) -> Path:
        return AutoEngine([Slow(name, 0, 0)], "a model")._memory(size)

    first = memory()
    assert memory() == first
    others = [memory("A 2"), memory(size=(2, 3, 8, 8))]
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    others.append(memory())
    monkeypatch.setattr(auto_engine, "_processor", lambda: "another")
    others.append(memory())
    assert len({first, *others}) == 5


def test_threads_share_an_openvino_engine(openvino, onnx_of: Callable[[str], Path]) -> None:
    path = onnx_of("nafnet_w16")
    engine, reference = open_engine(path, provider="openvino"), OnnxEngine.open(path)
    inputs = [np.random.default_rng(k).random((1, 3, 16 + 16 * (k % 2), 32), dtype=np.float32) for k in range(24)]
    t = np.array([30], np.float32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: engine(x, x, t), inputs))
    for x, eps in zip(inputs, found, strict=True):
        expected = reference(x, x, t)
        assert np.abs(eps - expected).max() < 1e-5 * np.abs(expected).max()
