"""A small share of the attack: some files of every kind, of a seed that stays; the whole is `make fuzz`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fuzz.attack import Worker, attack, table
from fuzz.kinds import KINDS
from fuzz.worker import answer, make_damaged

FEW = {"packs": 25}
"""Files of a kind where a test is not slow and they are not 15: fewer packs are all refused."""
FILES = {"commands": 20, "packs": 25, "metadata": 30, "yaml": 30, "toml": 30, "training runs": 30}
"""Files of a kind, where a test is slow and they are not 40."""
SEED = 17


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    process = Worker(tmp_path_factory.mktemp("fuzz").resolve())
    yield process
    process.close()


@pytest.mark.parametrize("more", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "more"])
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_in_a_sentence_or_read(name: str, more: bool, worker: Worker) -> None:
    if name in ("packs", "commands"):
        pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    files = FILES.get(name, 40) if more else FEW.get(name, 15)
    figures = attack(worker, KINDS[name], SEED, 60, files)
    assert figures.faults == {}
    assert figures.outcomes["refused"] > 3 or name == "metadata"
    assert figures.outcomes["accepted"] > 0


def test_the_same_numbers_make_the_same_file(worker: Worker) -> None:
    def bytes_of(kind: str, seed: int, number: int) -> list[bytes]:
        path = make_damaged(worker.folder, kind, seed, number)
        return [file.read_bytes() for file in sorted(path.parent.rglob("*")) if file.is_file()]

    for kind in ("pictures", "y4m", "yaml"):
        once = [bytes_of(kind, 3, number) for number in range(20)]
        assert once == [bytes_of(kind, 3, number) for number in range(20)]
        assert once != [bytes_of(kind, 4, number) for number in range(20)]
        assert len({bytes(b"".join(files)) for files in once}) > 15


# -- what the attack would see, if it were there ------------------------------------------------------------------


def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object, seconds: float) -> tuple[str, str]:
    """What becomes of a file whose reader does something."""
    from dataclasses import replace

    for name in ("home", "work"):
        (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.setitem(KINDS, "yaml", replace(KINDS["yaml"], read=read, most_seconds=seconds, most_mib=100))
    found = answer(tmp_path, "yaml", 0, 0)
    return found.outcome, found.what


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import os
    import time

    from irsde_deploy.errors import InputFileError

    def fail(error: Exception) -> object:
        raise error

    def busy(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    kept = []
    cases = (
        (lambda path, out: None, "accepted", ""),
        (lambda path, out: fail(InputFileError("not that")), "refused", "not that"),
        (lambda path, out: fail(KeyError("x")), "fault", "KeyError: 'x'"),
        (lambda path, out: fail(RecursionError()), "fault", "RecursionError: "),
        (lambda path, out: fail(InputFileError("x" * 451)), "fault", "a sentence of 451 characters"),
        (lambda path, out: os.write(2, b"libpng error"), "fault", "something was printed: 'libpng error'"),
        (lambda path, out: busy(0.6), "fault", "s, where 0.5 are the most"),
        (lambda path, out: kept.append(np.ones(30_000_000)), "fault", "MiB, where 100 are the most"),
        (lambda path, out: (out / ".x.part").write_text(""), "fault", "a temporary file was left"),
        (lambda path, out: (tmp_path / "home" / "intel").mkdir(), "fault", "written to the home folder: intel"),
        (lambda path, out: path.write_text("mine"), "fault", "the input's folder has changed"),
    )
    for read, outcome, words in cases:
        found = judged(tmp_path, monkeypatch, read, 0.5 if "0.5" in words else 60)
        assert found[0] == outcome, words
        assert words in found[1]
        kept.clear()
    assert capfd.readouterr().err == ""


def test_a_process_that_dies_is_a_fault_and_the_next_file_is_read(worker: Worker, monkeypatch) -> None:
    import os
    import signal

    assert worker("toml", 0, 0).outcome != "fault"
    os.kill(worker._process.pid, signal.SIGSEGV)  # as a native library would
    found = worker("toml", 0, 1)
    assert found.outcome == "fault"
    assert "SIGSEGV" in found.what
    figures = attack(worker, KINDS["toml"], 0, 60, 2)
    assert figures.outcomes.total() == 2
    assert figures.row in table([figures])
