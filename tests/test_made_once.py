"""What tests keep on disk is made once, and anew when anything changes that it depends on."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import made_once
import pytest

made: list[Path] = []


def slowly(folder: Path) -> None:
    time.sleep(0.05)  # long enough for a second thread to come meanwhile
    made.append(folder)
    (folder / "result").write_text("whole")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_once, "CACHE", tmp_path / "cache")
    made.clear()


def test_every_part_counts_and_the_same_is_made_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("1")

    def entry(text: str = "torch 2.13") -> Path:
        return made_once.made_once("thing", slowly, source, text)

    first = entry()
    assert (entry(), len(made)) == (first, 1)
    assert (first / "result").read_text() == "whole"
    assert entry("torch 2.14") != first
    (source / "a.py").write_text("2")
    changed = entry()
    (source / "a.py").rename(source / "b.py")
    renamed = entry()
    assert (len({first, changed, renamed}), len(made)) == (3, 4)


def test_two_at_once_make_it_once_and_what_was_broken_off_is_made_again() -> None:
    with ThreadPoolExecutor(2) as pool:
        entries = set(pool.map(lambda _: made_once.made_once("thing", slowly), range(2)))
    (entry,) = entries
    assert len(made) == 1
    entry.with_suffix(".whole").unlink()
    (entry / "half").touch()
    assert made_once.made_once("thing", slowly) == entry
    assert (len(made), sorted(path.name for path in entry.iterdir())) == (2, ["result"])


def test_old_entries_go_and_those_in_use_stay() -> None:
    entries = [made_once.made_once("thing", slowly, str(k)) for k in range(made_once.KEPT + 2)]
    assert all(entry.exists() for entry in entries)
    day_ago = time.time() - made_once.IN_USE - 9
    for k, entry in enumerate(entries):
        os.utime(entry.with_suffix(".whole"), (day_ago + k, day_ago + k))
    made_once.made_once("thing", slowly, "another")
    assert [entry.exists() for entry in entries] == [False, False, False, True, True]
