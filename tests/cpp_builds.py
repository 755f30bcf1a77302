"""runtimes/cpp built by CMake, kept in `.test_cache` (`made_once.py`).

IRSDE_CPP_BUILD is a folder to build in instead, where CMake and ninja look each time for what has changed: a changed
line is compiled in seconds then. Two processes may not share it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from exports import packed_small
from made_once import made_once, versions

from irsde_deploy.embedding.pack import cpp_folder
from irsde_deploy.runtimes.device.kernels import SOURCE as KERNELS
from irsde_deploy.system.libraries import import_openvino

SOURCE = cpp_folder()
RELEASE = ()
QUICK = tuple(f"-DCMAKE_{language}_FLAGS_RELEASE=-O1 -DNDEBUG" for language in ("C", "CXX"))
"""Compiled sooner; the numbers are the same, for no flag lets the compiler change arithmetic."""
JOINED = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0")
"""All files of a target are one for the compiler, which reads each header once: half the time."""


def tool(name: str) -> str | None:
    """A program on the path, or beside this Python, where the packages cmake and ninja put theirs."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def configure(source: Path, build: Path, *options: str) -> None:
    """Configure and build a CMake project; IRSDE_CPP_FLAGS are further flags, such as -fsanitize=address,undefined."""
    generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}") if tool("ninja") else ()
    flags = os.environ.get("IRSDE_CPP_FLAGS", "")
    extra = [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"] if flags else []
    run(tool("cmake"), "-S", source, "-B", build, *generator, *extra, *options)
    done = run(tool("cmake"), "--build", build, "--parallel", 2)
    assert "warning" not in done.stdout + done.stderr, done.stdout


def missing(reason: str) -> None:
    """Skip for this reason, or fail where IRSDE_REQUIRE_CPP says that these tests must run."""
    if os.environ.get("IRSDE_REQUIRE_CPP"):
        pytest.fail(f"IRSDE_REQUIRE_CPP is set: {reason}")
    pytest.skip(reason)


def require_tools() -> None:
    for name in ("cmake", "g++"):
        if tool(name) is None:
            missing(f"{name} is not installed (pip install cmake ninja; a C++ compiler from the system)")


def require_openvino() -> None:
    require_tools()
    if not import_openvino().utils.get_cmake_path():
        missing("this OpenVINO has no CMake package (its wheels from PyPI have)")


def openvino_build(options: tuple[str, ...]) -> Path:
    """The library with OpenVINO, its programs and tests.

    The quick one is joined; the library on the stand-ins shows that each file compiles by itself.
    """
    joined = JOINED if options == QUICK and not os.environ.get("IRSDE_CPP_BUILD") else ()
    pack = packed_small()
    python = f"-DPython3_EXECUTABLE={sys.executable}"  # in whose packages CMake finds OpenVINO
    tests = ("-DIRSDE_BUILD_TESTS=ON", f"-DIRSDE_TEST_PACK={pack}")

    def make(folder: Path) -> None:
        configure(SOURCE, folder, python, *tests, *options, *joined)

    return _built("cpp", make, (*options, *joined), python, str(pack), versions("openvino"))


def stand_in_build(options: tuple[str, ...]) -> Path:
    """The library on stand-ins for TensorRT and CUDA, without OpenVINO."""

    def make(folder: Path) -> None:
        configure(SOURCE / "tests" / "stand_in", folder / "stand_in")
        run(tool("cmake"), "--install", folder / "stand_in", "--prefix", folder / "root")
        roots = (f"-D{name}={folder / 'root'}" for name in ("TensorRT_ROOT", "CUDAToolkit_ROOT"))
        backends = ("-DIRSDE_WITH_OPENVINO=OFF", "-DIRSDE_WITH_TENSORRT=ON")
        configure(SOURCE, folder / "build", *roots, *backends, *options)

    return _built("cpp-tensorrt", make, options) / "build"


def _built(name: str, make: Callable[[Path], None], options: tuple[str, ...], *parts: str) -> Path:
    if fixed := os.environ.get("IRSDE_CPP_BUILD"):
        folder = Path(fixed) / "-".join((name, sha256("\0".join(options).encode()).hexdigest()[:8]))
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        return folder
    tools = [run(tool(program), "--version").stdout for program in ("cmake", "g++")]
    environment = [os.environ.get(variable, "") for variable in ("IRSDE_CPP_FLAGS", "CFLAGS", "CXXFLAGS", "CC", "CXX")]
    return made_once(name, make, SOURCE, KERNELS.parent, str(SOURCE), *tools, *environment, *options, *parts)
