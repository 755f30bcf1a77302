"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads cost small networks more than they bring
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for the tests that use ONNX Runtime by themselves

import pytest
from commands import irsde
from golden import NETWORK_CASES, GoldenCase, load_case
from places import TESTS

LONGEST = (
    "embedding/test_cpp.py",
    "training/test_training.py",
    "test_libraries.py",
    "kill/test_kill.py",
    "test_import_weight.py",
    "runtimes/tensorrt/test_builder.py",
    "cli/test_commands.py",
    "cli/test_train.py",
    "cli/test_run_video.py",
    "export/test_export.py",
    "calibration/test_calibrate.py",
    "graphs/test_whole_loop.py",
    "runtimes/loops/test_device_loop.py",
)
"""Files that take longest: two workers take whole files in turn, and the last one must not be long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {str(TESTS / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(params=NETWORK_CASES)
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return load_case(request.param)


@pytest.fixture(scope="session")
def unet_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden U-Net exported by the command's own code: (folder)/unet.onnx."""
    from exports import exported_unet

    return Path(shutil.copy(exported_unet(), tmp_path_factory.mktemp("engines")))


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one convolution, without PyTorch: (folder)/small.onnx."""
    from small_network import write_small_network

    return write_small_network(tmp_path_factory.mktemp("engines") / "small.onnx")


@pytest.fixture(scope="session")
def onnx_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a golden case or of a random network that does not see mu -> its FP32 ONNX file, written once."""
    from exports import exported

    folder = tmp_path_factory.mktemp("onnx")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        return path if path.exists() else Path(shutil.copy(exported(name), folder))

    return path_of


@pytest.fixture(scope="session")
def whole_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the small network (`packs.PACK_SAMPLING`), not to be changed."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    from exports import packed_small

    return Path(shutil.copytree(packed_small(), tmp_path_factory.mktemp("packs") / "small.pack"))


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command that ends with an error ignores signals from then on; the next test shall not, nor its processes."""
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = [signal.getsignal(name) for name in names]
    yield
    for name, handler in zip(names, handlers, strict=True):
        signal.signal(name, handler)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def succeeds() -> Callable[..., tuple[str, str]]:
    """Run a command in this process, which must end well; gives its stdout and stderr, C libraries' included."""

    def run(*arguments: object) -> tuple[str, str]:
        done = irsde(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture
def fails_with() -> Callable[..., None]:
    """Run a command in this process: it must end with this code and one sentence on stderr, C libraries included."""

    def check(code: int, message: str, *arguments: object) -> None:
        done = irsde(*arguments)
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr

    return check
