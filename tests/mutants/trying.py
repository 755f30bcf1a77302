"""A copy of the repository in which one fault after another is written, tried and taken back.

Each try is a process forked from one that has imported the libraries, but nothing of ours: PyTorch and the others take
longer to import than most faults take to be noticed.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .mutant import Mutant

LONGEST = 600  # seconds; a mutant that runs on is noticed, too
CAUGHT, SURVIVED, HUNG = "caught", "SURVIVED", "hung"
IMPORTED_ONCE = (
    "numpy", "scipy.stats", "cv2", "PIL.Image", "onnx", "onnxruntime", "onnxscript", "torch", "av",
    "safetensors", "cloup", "yaml", "msgspec", "pytest",
)  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}  # as tests/conftest.py: read at their imports


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    verdict: str
    by: str  # the test that noticed
    seconds: float


class Copy:
    """The files that git knows or would add, in a folder of their own, with shared/ beside them as it was."""

    def __init__(self, root: Path, folder: Path):
        self.root = folder / "copy"
        self.output = folder / "output.txt"
        self.tried = 0
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (root / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, self.root / name)
        if (root.parent / "shared").exists():
            (folder / "shared").symlink_to((root.parent / "shared").resolve())

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether tests pass as things are: what a mutant's failure means is clear only then."""
        return self._pytest(tests) == 0

    def attempt(self, mutant: Mutant) -> Outcome:
        """Write the fault, run its tests until one fails, and take it back."""
        start = time.monotonic()
        path = self.root / mutant.file
        written = path.stat().st_mtime
        before = mutant.apply(self.root)
        self.tried += 1
        if path.suffix == ".py":  # bytecode is kept by time and size: no two faults of one file have the same second
            os.utime(path, times=(written, written + self.tried))
        try:
            code = self._pytest(mutant.tests)
        finally:
            path.write_text(before)
            if path.suffix == ".py":  # C++ is compiled again for what is newer
                os.utime(path, times=(written, written))
        verdict = {0: SURVIVED, None: HUNG}.get(code, CAUGHT)
        return Outcome(mutant, verdict, _first_failure(self.output.read_text()), time.monotonic() - start)

    def _pytest(self, tests: tuple[str, ...]) -> int | None:
        """Its exit code; None where it ran on. Nothing of its process group is left then."""
        arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
        context = _forked_after_imports()
        process = context.Process(target=_test, args=(self.root, self.output, arguments, dict(os.environ)))
        process.start()
        try:
            process.join(LONGEST)
            return process.exitcode
        finally:
            with suppress(ProcessLookupError):  # most often nothing is left
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def _forked_after_imports() -> multiprocessing.context.ForkServerContext:
    os.environ.update(ENVIRONMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in IMPORTED_ONCE if find_spec(name.split(".")[0])])
    return context


def _test(root: Path, output: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """In the forked process: pytest in the copy, alone in a process group."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), stream)
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    os.environ["PYTHONPATH"] = str(root)
    os.environ["IRSDE_CPP_BUILD"] = str(root.parent / "cpp-build")  # where a fault is one file to compile
    sys.path.insert(0, str(root))
    import pytest

    import irsde_deploy

    if Path(irsde_deploy.__file__).parent.parent != root.resolve():
        raise RuntimeError(f"the copy's tests would import {irsde_deploy.__file__}")
    sys.exit(pytest.main(arguments))


def _first_failure(output: str) -> str:
    """The test that failed, from pytest's summary."""
    failed = [line.split(" - ")[0] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" ", 1)[1] if failed else ""
