"""A copy of the repository in which one fault after another is written, tried and taken back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .mutant import Mutant

LONGEST = 600  # seconds; a mutant that runs on is noticed, too
CAUGHT, SURVIVED, HUNG = "caught", "SURVIVED", "hung"


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
        seen = self._python("-c", "import irsde_deploy; print(irsde_deploy.__file__)").stdout.strip()
        if Path(seen).parent.parent != self.root.resolve():
            raise RuntimeError(f"the copy's tests would import {seen}")

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether tests pass as things are: what a mutant's failure means is clear only then."""
        return self._pytest(tests)[0] == 0

    def attempt(self, mutant: Mutant) -> Outcome:
        """Write the fault, run its tests until one fails, and take it back."""
        start = time.monotonic()
        before = mutant.apply(self.root)
        try:
            code, output = self._pytest(mutant.tests)
        except subprocess.TimeoutExpired:
            return Outcome(mutant, HUNG, "", time.monotonic() - start)
        finally:
            (self.root / mutant.file).write_text(before)
        verdict = SURVIVED if code == 0 else CAUGHT
        return Outcome(mutant, verdict, _first_failure(output), time.monotonic() - start)

    def _pytest(self, tests: tuple[str, ...]) -> tuple[int, str]:
        done = self._python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *tests)
        return done.returncode, done.stdout

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python in the copy, alone in a process group, of which nothing is left when the time is over."""
        environment = os.environ | {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "IRSDE_CPP_BUILD": str(self.root.parent / "cpp-build"),  # where a fault is one file to compile
        }
        command = [sys.executable, *arguments]
        with subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=LONGEST)
            finally:
                with suppress(ProcessLookupError):  # most often nothing is left
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, output)


def _first_failure(output: str) -> str:
    """The test that failed, from pytest's summary."""
    failed = [line.split(" - ")[0] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" ", 1)[1] if failed else ""
