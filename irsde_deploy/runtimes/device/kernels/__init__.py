"""The kernels of the device loop: their source, what arguments they take, and how they are compiled.

One header serves every driver: NVRTC makes a cubin for the device at hand, the host's C++ compiler a shared library.
Both are kept in the user's cache, under the hash of all that went into them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ....errors import EngineError, MissingPackageError, install_command, reason, requires_extra
from ....system.cache import cache_folder
from ....system.files import write_atomically

SOURCE = Path(__file__).with_name("irsde_kernels.h")

_SIZE, _LAYOUT, _WINDOW = "iiiii", "qqqqii", "iiii"
_NETWORK_TYPES = ("f32", "f16")
_PICTURE_TYPES = ("u8", "u16", "f16", "f32")


def _signatures() -> dict[str, str]:
    """See `SIGNATURES`."""
    signatures = {"irsde_clear": "P", "irsde_to_half": "PP"}
    for io in _NETWORK_TYPES:
        signatures[f"irsde_start_{io}"] = "PPPPPP" + _SIZE
        signatures[f"irsde_step_{io}"] = "PPPPPPPPii" + _SIZE
        signatures[f"irsde_pad_{io}"] = "Pi" + _SIZE
        signatures[f"irsde_cut_{io}"] = "PP" + _WINDOW + _SIZE
        signatures[f"irsde_blend_{io}"] = "PPPP" + _WINDOW + _SIZE
    for picture in _PICTURE_TYPES:
        signatures[f"irsde_store_{picture}"] = "PPP" + _LAYOUT + _SIZE
        for io in _NETWORK_TYPES:
            signatures[f"irsde_load_{picture}_{io}"] = "PPP" + _LAYOUT + _SIZE
    return signatures


SIGNATURES: dict[str, str] = _signatures()
"""Kernel -> its arguments after the number of work items, a letter each: P pointer, i int, q long long."""

C_TYPES: dict[str, Any] = {"P": ctypes.c_void_p, "i": ctypes.c_int, "q": ctypes.c_longlong}
"""Letter of `SIGNATURES` -> the type of C."""

# A product and a sum that are fused round once where NumPy rounds twice; the numbers must be NumPy's.
GPU_OPTIONS = ("--std=c++17", "--fmad=false")
HOST_OPTIONS = ("-std=c++17", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++")


def cubin(compute_capability: tuple[int, int]) -> bytes:
    """The kernels for one GPU architecture, compiled by NVRTC (which needs no GPU) or taken from the cache."""
    with requires_extra("gpu", "compiling CUDA kernels"):
        from cuda.bindings import nvrtc
    try:
        _, *version = nvrtc.nvrtcVersion()
    except Exception as error:  # cuda-bindings has kinds of its own for a library that is not there
        raise MissingPackageError(f"NVRTC cannot be loaded ({reason(error)}): {install_command('gpu')}") from None
    options = (f"--gpu-architecture=sm_{compute_capability[0]}{compute_capability[1]}", *GPU_OPTIONS)
    path = _cached("nvrtc", *map(str, version), *options, suffix=".cubin")
    if not path.exists():
        code = _nvrtc(nvrtc, options)
        with write_atomically(path) as temporary:
            temporary.write_bytes(code)
    return path.read_bytes()


def host_library() -> Path:
    """The kernels as a shared library for the CPU, compiled by $CXX or g++, or taken from the cache."""
    compiler = os.environ.get("CXX") or "g++"
    found = shutil.which(compiler)
    if found is None:
        raise MissingPackageError(
            f"the host driver compiles its kernels with {compiler}, which is not there: install it, or set CXX"
        )
    path = _cached("host", sys.platform, os.path.realpath(found), *HOST_OPTIONS, suffix=".so")
    if not path.exists():
        with write_atomically(path) as temporary:
            command = [found, *HOST_OPTIONS, str(SOURCE), "-o", str(temporary)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise EngineError(f"{compiler} cannot compile the kernels: {_first_line(done.stderr)}")
            temporary.chmod(0o755)
    return path


def _nvrtc(nvrtc: Any, options: tuple[str, ...]) -> bytes:
    """Compile the kernels by NVRTC; the cubin."""
    error, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], [])
    (compiled,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if int(error) or int(compiled):
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size  # the binding writes into the bytes object, as C would into the memory that it is given
        nvrtc.nvrtcGetProgramLog(program, log)
        raise EngineError(f"NVRTC cannot compile the kernels ({compiled.name}): {_first_line(log.decode())}")
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    code = bytearray(size)
    nvrtc.nvrtcGetCUBIN(program, code)
    nvrtc.nvrtcDestroyProgram(program)
    return bytes(code)


def _cached(*parts: str, suffix: str) -> Path:
    """The file in the user's cache for kernels that are compiled by these means, whether it is there or not."""
    key = hashlib.sha256("\0".join(parts).encode() + SOURCE.read_bytes()).hexdigest()
    folder = cache_folder() / "kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # they are code: nobody else may put some there
    return folder / (key[:32] + suffix)


def _first_line(text: str) -> str:
    """The first line of a compiler's log that has an error, or all of a log that has none; at most 200 characters."""
    text = text.strip("\0 \n")
    for line in text.splitlines():
        if "error" in line:
            return line[:200]
    return text[:200]
