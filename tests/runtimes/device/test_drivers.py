"""One suite for all drivers: those for a GPU on a stand-in for NVIDIA's driver library, and the host's.

It shows that their Python is right, not a GPU's arithmetic or speed. tests/fake_cuda/libcuda.cpp says what the stand-in
refuses; tests/fake_cuda/drive.py holds the checks, which are run in processes of their own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import TESTS

from irsde_deploy.runtimes.device.kernels import HOST_OPTIONS, SOURCE

FAKE = TESTS / "fake_cuda"
CHECKS = re.findall(r"^def check_(\w+)", (FAKE / "drive.py").read_text(), re.MULTILINE)
COMPILER = os.environ.get("CXX") or "g++"


def _lacks_cuda_bindings() -> str:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except Exception as error:  # cuda-bindings has kinds of its own for a library that is not there
        return f"cuda-bindings and nvidia-cuda-nvrtc are not both there ({error})"
    return ""


def _lacks_pycuda() -> str:
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is not installed"
    return "" if shutil.which("nvcc") else "PyCUDA compiles with nvcc, which is not there"


LACKS = {"cuda-bindings": _lacks_cuda_bindings, "pycuda": _lacks_pycuda, "host": lambda: ""}
NOT_ON_HOST = {
    "copies": "work on the host is done at once",
    "graphs": "the host's graphs are lists of calls",
    "failed_captures": "the host's graphs are lists of calls",
    "misuse": "the host does not check pointers",
    "fault": "the host does not check pointers",
    "threads": "the host has no context",
    "device_arrays": "the host's arrays go by DLPack (test_device_loop.py)",
}


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1, the stand-in; and where kernels are cached."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the stand-in for libcuda.so.1 is built on Linux")
    if shutil.which(COMPILER) is None:
        pytest.skip(f"the stand-in for libcuda.so.1 is compiled with {COMPILER}, which is not there")
    folder = tmp_path_factory.mktemp("fake_cuda")
    output = ["-o", str(folder / "libcuda.so.1"), "-Wl,-soname,libcuda.so.1", "-ldl"]
    options = (*HOST_OPTIONS, "-O1")  # the last level counts: sooner than -O3, and no number depends on it
    subprocess.run([COMPILER, *options, f"-I{SOURCE.parent}", str(FAKE / "libcuda.cpp"), *output], check=True)
    return folder


@pytest.mark.parametrize(
    ("driver", "check"), [(d, c) for d in LACKS for c in CHECKS if not (d == "host" and c in NOT_ON_HOST)]
)
def test_a_driver(fake: Path, driver: str, check: str) -> None:
    if lacks := LACKS[driver]():
        pytest.skip(lacks)
    paths = f"{fake}{os.pathsep}{os.environ.get('LD_LIBRARY_PATH', '')}"
    package = str(SOURCE.parents[4])  # the one under test, wherever it was imported from
    environment = {**os.environ, "LD_LIBRARY_PATH": paths, "IRSDE_CACHE": str(fake / "cache"), "PYTHONPATH": package}
    command = [sys.executable, "-X", "faulthandler", str(FAKE / "drive.py"), driver, check]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "PyCUDA" not in done.stderr or check == "fault", done.stderr
