"""Packs, in Python and in the C library under sanitizers: both must refuse the same, or neither."""

from __future__ import annotations

import atexit
import os
import resource
import selectors
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
from damaged_packs import known

from irsde_deploy.embedding.pack import cpp_folder, write_pack
from irsde_deploy.embedding.selftest import selftest
from irsde_deploy.errors import IrsdeError

from .. import damage, values
from ..formats.protobuf import PROTOBUF
from ..worker import ESCAPES
from .kind import Kind, Wrong, require

HERE = Path(__file__).parents[1]
_FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
_MISMATCH, _OK = 8, 0  # of irsde_status
_PATIENCE = 60
"""Seconds that the C library may take for a pack."""
_ARRAYS = ("reference_input.npy", "reference_noise.npy", "reference_output.npy")


def build_folder() -> Path | None:
    """Where the C library and its checker are built, if somebody has asked for that (`IRSDE_FUZZ_BUILD`)."""
    found = os.environ.get("IRSDE_FUZZ_BUILD")
    return Path(found) if found else None


def build(folder: Path) -> Path:
    """Build the C library with sanitizers, and the program that checks packs with it.

    Raises:
        RuntimeError: there is no compiler, CMake or OpenVINO package for it, or the build fails.
    """
    import openvino.utils

    cmake = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
    source, program = cpp_folder(), folder / "selftests"
    options = ["-DIRSDE_BUILD_EXAMPLES=OFF", f"-DOpenVINO_DIR={openvino.utils.get_cmake_path()}"]
    options += [f"-DCMAKE_C_FLAGS={_FLAGS}", f"-DCMAKE_CXX_FLAGS={_FLAGS}", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    link = [f"-L{folder}", "-lirsde", f"-Wl,-rpath,{folder}", "-o", str(program)]
    _run([cmake, "-S", str(source), "-B", str(folder), *options])
    _run([cmake, "--build", str(folder), "--target", "irsde"])
    _run(["gcc", *_FLAGS.split(), f"-I{source / 'include'}", str(HERE / "selftests.c"), *link])
    return program


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _unlimited() -> None:
    """Address sanitizer reserves terabytes of addresses; its own option limits what is used of them."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


class _Checker:
    """The C program, at work until it crashes."""

    def __init__(self, program: Path, log: Path) -> None:
        self._log = log
        words = os.environ | {
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:hard_rss_limit_mb=6000",
            "TBB_ENABLE_SANITIZERS": "1",  # OpenVINO's threads library opens others in a way that sanitizers refuse
        }
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=words,
                preexec_fn=_unlimited,
            )
        atexit.register(self.close)

    def __call__(self, folder: Path) -> tuple[int, str]:
        """(status, sentence) of a pack; Wrong where the program crashes, hangs, or a sanitizer complains."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{folder}\n".encode())
        stdin.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(stdout, selectors.EVENT_READ)
            if not waiting.select(_PATIENCE):
                self._stop()
                raise Wrong(f"the C library is not done after {_PATIENCE} s")
        line = stdout.readline().decode("utf-8", "replace").rstrip("\n")
        if not line:
            self._stop()
            report = self._log.read_text(errors="replace")
            at = max(0, report.find("ERROR"), report.find("runtime error") - 100)
            raise Wrong(f"the C library crashed: {report[at : at + 600]}")
        status, _, sentence = line.partition(" ")
        return int(status), sentence

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()

    def _stop(self) -> None:
        global _checker
        self.close()
        _checker = None


_checker: _Checker | None = None


def _in_c(folder: Path) -> tuple[int, str] | None:
    """What the C library says of a pack; None where it has not been built."""
    global _checker
    built = build_folder()
    if built is None:
        return None
    if _checker is None:
        _checker = _Checker(built / "selftests", built / f"selftests-{os.getpid()}.log")
    return _checker(folder)


def _make(folder: Path) -> None:
    from small_network import write_small_network

    from irsde_deploy.core.sampling import Sampling

    engine = write_small_network(folder / "small.onnx")
    for name, sampling in (
        ("a", Sampling(sampler="sde-2m", steps=3, seed=5)),
        ("b", Sampling(sampler="mean", steps=2)),
    ):
        write_pack(engine, folder / name, sampling, (5, 7))
    engine.unlink()


_WORDS = (
    "0x0.0p+0",
    "-0x0.0p+0",
    "0x1p+0",
    "0x1.p+0",
    "0x1.8p+1",
    "0x1.0000000000001p-1074",
    "0x1p+1023",
    "0x1p+2000",
    "0x1p+2001",
    "0x1.fffffffffffffffp+0",
    "0X1P+0",
    "0x1p0",
    "+0x1p+0",
    "nan",
    "inf",
    "1.5",
    "0x1.9p+99",
    "-1",
    "007",
    "0",
    "1",
    "+1",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "100000000000000000000",
    "",
    "\u0661",
    "\u00e9",
    "\x7f",
    "\x85",
    "\u2028",
    "\x1b[2J",
    "\xa0",
    "a\tb",
    "x" * 801,
    "\u00e9" * 401,
)


def _spoil_steps(rng: Random, text: bytes) -> bytes:
    lines = text.decode().split("\n")
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            del lines[k]
            lines = lines or [""]
        elif kind == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[k])
        elif kind == 2:
            lines.insert(k, rng.choice(("", "# x", "x 1", "end", "step", "step 1", " ", "\r", "\0", "task \u00e9")))
        else:
            words = lines[k].split(" ")
            words[rng.randrange(len(words))] = rng.choice(_WORDS)
            lines[k] = " ".join(words)
    made = "\n".join(lines).encode()
    return damage.spoil(rng, made) if rng.random() < 0.2 else made


def _spoil_array(rng: Random, data: bytes) -> bytes:
    head, body = data[:128], data[128:]
    kind = rng.randrange(4)
    if kind == 0:
        return damage.spoil(rng, data)
    if kind == 1:
        return damage.spoil(rng, head) + body
    if kind == 2:
        values_ = np.frombuffer(body, "<f4").copy()
        values_[rng.randrange(len(values_))] = rng.choice((np.nan, np.inf, 1e30, -5, 2, 0))
        return head + values_.tobytes()
    words = ((b"'<f4'", b"'>f4'"), (b"False", b"True "), (b"(", b"["), (b" 'shape'", b" 'Shape'"), (b", }", b"}  "))
    return head.replace(*rng.choice(words)) + body


def _damage(rng: Random, good: Path, target: Path) -> Path:
    made = target / "pack"
    shutil.copytree(good / rng.choice("ab"), made)
    kind = rng.randrange(12)
    if kind < 5:
        path, spoil = made / "steps.txt", _spoil_steps
    elif kind < 8:
        path, spoil = made / "card.json", values.spoil_json
    elif kind < 10:
        path, spoil = made / rng.choice(_ARRAYS), _spoil_array
    else:
        path, spoil = made / "engine.onnx", PROTOBUF.spoil
    path.write_bytes(spoil(rng, path.read_bytes()))
    if path.name == "engine.onnx" and rng.random() < 0.5:  # else it is refused for its size or its hash
        known(made)
    return made


def _read(path: Path, outputs: Path) -> None:
    """Test it in Python and in C; they must come to the same end, unless only the engine's own library decides."""
    del outputs
    error: IrsdeError | None = None
    try:
        selftest(path).require(path)
    except IrsdeError as found:
        error = found
    ours = _OK if error is None else error.exit_code
    theirs = _in_c(path)
    if theirs is not None:
        status, sentence = theirs
        end = {_OK: 0, _MISMATCH: 3}.get(status, 1)
        said = sentence.replace(str(path), "PACK")
        require(not ESCAPES.search(sentence), f"the C library says what cannot be printed: {said!r}")
        if ours and not end and "engine.onnx: not an ONNX model (" in str(error):
            raise error  # type: ignore[misc]  # onnx's checker, which Python asks before OpenVINO, is not there in C
        mine = str(error).replace(str(path), "PACK")
        require(end == ours, f"C ends with {status} ({said[:150]}), Python with {ours} ({mine[:150]})")
    if error is not None:
        raise error


PACKS = Kind("packs", _make, _damage, _read, most_seconds=70, most_mib=1500, weight=2)
