"""Temporaries that killed processes leave are cleared by the next run, and those of living processes never."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from irsde_deploy.system import files
from irsde_deploy.system.files import write_atomically, write_folder_atomically
from irsde_deploy.system.temporaries import ABANDONED, clear_leftovers, repair, temporary_beside

HOLDER = """
import sys, time
from pathlib import Path
from irsde_deploy.system.files import write_atomically, write_folder_atomically
path = Path(sys.argv[1])
with write_atomically(path) as file, write_folder_atomically(path.with_suffix(".pack")) as folder:
    file.write_bytes(b"half")
    (folder / "card.json").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing a file and a folder beside `path`."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if re.search(r"-\d+-\d+\.[0-9a-f]{14}\.(part|old)$", path.name)]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    with holder(tmp_path / "a.png"), holder(tmp_path / "b.png") as living:
        with holder(tmp_path / "d.png") as killed:
            killed.kill()
            killed.wait()
            assert len(temporaries(tmp_path)) == 6
        (tmp_path / ".somebody.part").write_bytes(b"not ours")
        with write_atomically(tmp_path / "c.png") as file:
            file.write_bytes(b"whole")
        kept = temporaries(tmp_path)
        assert sorted(name[:5] for name in kept) == [".a.pa", ".a.pn", ".b.pa", ".b.pn"]
        assert sum(f"-{living.pid}-" in name for name in kept) == 2
    assert (tmp_path / ".somebody.part").exists()
    assert (tmp_path / "c.png").read_bytes() == b"whole"


def test_another_process_of_the_same_number_is_not_the_one_that_wrote(tmp_path: Path) -> None:
    mine = temporary_beside(tmp_path / "a.png")
    before = mine.name.split(".")
    place, pid, start = before[3].split("-")
    earlier = mine.with_name(mine.name.replace(f"-{start}.", f"-{int(start) - 1}."))
    for path in (mine, earlier):
        path.write_bytes(b"")
    clear_leftovers(tmp_path)
    assert (pid, temporaries(tmp_path)) == (str(os.getpid()), [mine.name])
    assert len(place) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="the name of a process is in /proc")
def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    comm = Path("/proc/self/comm")
    before, mine = comm.read_text(), temporary_beside(tmp_path / "a.png").name
    try:
        comm.write_text("a) S 1 2 (")
        named = temporary_beside(tmp_path / "a.png").name
    finally:
        comm.write_text(before)
    assert named.split(".")[3] == mine.split(".")[3], "place, number and start"


def test_what_was_moved_out_of_the_way_is_no_leftover(tmp_path: Path) -> None:
    """It is all that there is of a folder whose replacement was cut short, until that is written again."""
    old = temporary_beside(tmp_path / "pack", "old").name
    start = old.split(".")[2].rpartition("-")[2]
    left = tmp_path / old.replace(f"-{start}.", f"-{int(start) - 1}.")
    left.mkdir()
    clear_leftovers(tmp_path)
    assert left.exists()
    repair(tmp_path / "pack2")
    assert left.exists(), "of another folder"
    repair(tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_killed_process_that_nobody_has_waited_for_is_no_more(tmp_path: Path) -> None:
    with holder(tmp_path / "a.png") as killed:
        killed.kill()
        while Path(f"/proc/{killed.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        clear_leftovers(tmp_path)
        assert temporaries(tmp_path) == []


def test_what_a_hidden_process_of_another_user_writes_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, signal: int) -> None:
        raise PermissionError

    mine = temporary_beside(tmp_path / "a.png").name
    hidden = mine.replace(f"-{os.getpid()}-", "-4194304999-")  # no process has such a number
    (tmp_path / hidden).write_bytes(b"")
    with monkeypatch.context() as asked:
        asked.setattr(os, "kill", refused)
        clear_leftovers(tmp_path)
    assert temporaries(tmp_path) == [hidden]


@pytest.mark.parametrize(
    ("age", "of_folder", "stays"),
    [
        (ABANDONED - 60, ABANDONED - 60, True),
        (ABANDONED + 60, ABANDONED + 60, False),
        (60, ABANDONED + 60, True),
        (ABANDONED + 60, 60, True),
    ],
)
def test_what_comes_from_another_machine_goes_after_a_day(
    tmp_path: Path, age: int, of_folder: int, stays: bool
) -> None:
    mine = temporary_beside(tmp_path / "a.png").name
    place = mine.split(".")[3].partition("-")[0]
    foreign = tmp_path / mine.replace(place, "0123abcd")
    foreign.mkdir()
    (foreign / "model.onnx").write_bytes(b"")
    for path, seconds in ((foreign / "model.onnx", age), (foreign, of_folder)):
        os.utime(path, 2 * (time.time() - seconds,))
    clear_leftovers(tmp_path)
    assert foreign.exists() == stays


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("\N{LATIN SMALL LETTER O WITH DIAERESIS}" * 125 + ".png")
    with write_atomically(path) as file:
        file.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def written(path: Path, text: str, replaced: bool = True) -> str:
    """Write a folder with one file, and read that again."""
    with write_folder_atomically(path, replaced) as folder:
        (folder / "file").write_text(text)
    return (path / "file").read_text()


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_whole(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:  # as on systems where two names cannot be exchanged in one step
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    assert written(tmp_path / "pack", "first", replaced=False) == "first"
    assert written(tmp_path / "pack", "second") == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


@pytest.mark.skipif(sys.platform != "linux", reason="two names are exchanged in one step on Linux alone")
def test_two_folders_change_names_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    assert files._exchanged(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "other").exists()
    assert (tmp_path / "other" / "one").exists()
    assert not files._exchanged(tmp_path / "one", tmp_path / "missing")


def test_a_kill_between_two_renames_is_repaired_by_the_next_run(tmp_path: Path) -> None:
    for name in ("pack", "pack2"):
        written(tmp_path / name, name)
        old = temporary_beside(tmp_path / name, "old").name
        start = old.split(".")[2].rpartition("-")[2]
        (tmp_path / name).rename(tmp_path / old.replace(f"-{start}.", f"-{int(start) - 1}."))
    with pytest.raises(files.OutputFileError, match="exists already"):
        written(tmp_path / "pack", "new", replaced=False)
    assert (tmp_path / "pack" / "file").read_text() == "pack"
    assert written(tmp_path / "pack2", "new") == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack", "pack2"]
