"""The attack: damaged files given one by one to a process, which is watched; what became of them, as a table."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .kinds import KINDS, Kind
from .worker import Answer, make_damaged

TESTS = Path(__file__).parents[1]
PATIENCE = 120
"""Seconds after which a file counts as one that hangs its reader, whatever its kind."""


@dataclass
class Figures:
    """What became of the files of one kind.

    Attributes:
        outcomes: how many were accepted, refused, faults.
        slowest, most: seconds and MiB of the worst file.
        faults: number of a file -> what was wrong.
    """

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0
    most: float = 0
    faults: dict[int, str] = field(default_factory=dict)
    _alike: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, answer: Answer) -> None:
        """Count a file."""
        self.outcomes[answer.outcome] += 1
        self.slowest, self.most = max(self.slowest, answer.seconds), max(self.most, answer.mib)
        if answer.outcome == "fault":
            self.faults[number] = answer.what

    def is_new(self, answer: Answer) -> bool:
        """Whether a fault is not like those before it, as far as its words tell."""
        alike = re.sub(r"\S*[\d/'\"(]\S*", "#", answer.what)[:60] + answer.where[-200:-80]
        self._alike[alike] += 1
        return self._alike[alike] <= 1

    @property
    def row(self) -> str:
        """As a row of the table."""
        counts = [self.outcomes.total(), *(self.outcomes[name] for name in ("accepted", "refused", "fault"))]
        return f"| {self.kind} | {' | '.join(map(str, counts))} | {self.slowest:.2f} s | {self.most:.0f} MiB |"


HEADER = "| kind | files | accepted | refused | faults | slowest | most memory |\n|---|---|---|---|---|---|---|"


def table(figures: list[Figures]) -> str:
    """All kinds as a Markdown table, with their sums."""
    whole = Figures("all")
    for entry in figures:
        whole.outcomes += entry.outcomes
        whole.slowest, whole.most = max(whole.slowest, entry.slowest), max(whole.most, entry.most)
    return "\n".join([HEADER, *(entry.row for entry in [*figures, whole])])


class Worker:
    """The process that reads, started anew whenever a file has ended it.

    Args:
        folder: an absolute path; everything is inside.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("home", "cache", "work", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def __call__(self, kind: str, seed: int, number: int) -> Answer:
        """Have a damaged file read."""
        process = self._running()
        assert process.stdin is not None
        began = time.perf_counter()
        try:
            process.stdin.write(f"{kind}\t{seed}\t{number}\n".encode())
            process.stdin.flush()
            line = self._line()
        except BrokenPipeError:
            line = b""
        if line:
            return Answer(**json.loads(line))
        seconds = time.perf_counter() - began
        self.close()
        end = process.returncode
        if end == 1:
            raise RuntimeError(f"the attack itself failed: {(self.folder / 'stderr').read_text()[-3000:]}")
        if end == -signal.SIGKILL and seconds >= PATIENCE:
            return Answer("fault", f"not done after {PATIENCE} s", seconds, 0)
        name = signal.Signals(-end).name if end and end < 0 else f"exit code {end}"
        return Answer("fault", f"the process ended with {name}: {self._last_words()}", seconds, 0)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            os.close(self._answers)
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._answers, theirs = os.pipe()
            folder = self.folder
            words = os.environ | {
                "HOME": str(folder / "home"),
                "XDG_CACHE_HOME": str(folder / "cache"),
                "TMPDIR": str(folder / "tmp"),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
            }
            command = [sys.executable, "-m", "fuzz.worker", str(folder), str(theirs)]
            with (folder / "stderr").open("wb") as stderr:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=stderr, stderr=stderr, env=words, pass_fds=[theirs]
                )
            os.close(theirs)
        return self._process

    def _line(self) -> bytes:
        """The answer; empty where the process has ended or does not answer."""
        assert self._process is not None
        parts = b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._answers, selectors.EVENT_READ)
            while not parts.endswith(b"\n"):
                if not waiting.select(PATIENCE):
                    self._process.kill()
                    return b""
                part = os.read(self._answers, 1 << 16)
                if not part:
                    return b""
                parts += part
        return parts

    def _last_words(self) -> str:
        for name in ("printed", "stderr"):
            with contextlib.suppress(OSError):
                said = (self.folder / name).read_text(errors="replace").strip()
                if said:
                    return said[-300:]
        return "without a word"


def attack(
    worker: Worker, kind: Kind, seed: int, seconds: float, files: int | None = None, kept: Path | None = None
) -> Figures:
    """Give damaged files of a kind to the worker until the time is over, or so many are done.

    Args:
        worker: that reads them.
        kind: of the files.
        seed: of the damage; file `k` of a kind and seed is always the same.
        seconds: that it may take.
        files: how many at most.
        kept: folder where files that show a fault are kept.
    """
    figures = Figures(kind.name)
    end = time.monotonic() + seconds
    for number in _numbers(files):
        if time.monotonic() >= end:
            break
        answer = worker(kind.name, seed, number)
        figures.add(number, answer)
        if answer.outcome == "fault" and figures.is_new(answer):
            print(
                f"{kind.name}: {answer.what}\n    {answer.where[-1500:].replace(chr(10), chr(10) + '    ')}", flush=True
            )
            print(f"    again: {command(kind.name, seed, number)}", flush=True)
            if kept is not None:
                _keep(worker.folder, kept / f"{kind.name.replace(' ', '-')}-{seed}-{number}")
    return figures


def _numbers(files: int | None) -> Iterator[int]:
    number = 0
    while files is None or number < files:
        yield number
        number += 1


def _keep(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if (folder / "damaged").exists():
        shutil.copytree(folder / "damaged", target, symlinks=True)


def command(kind: str, seed: int, number: int) -> str:
    """What makes and reads a damaged file once more."""
    return f"make fuzz KIND={kind.replace(' ', '-')} SEED={seed} NUMBER={number}"


__all__ = ["KINDS", "Figures", "Worker", "attack", "command", "make_damaged", "table"]
