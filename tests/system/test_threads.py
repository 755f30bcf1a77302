"""How many threads OMP_NUM_THREADS says."""

from __future__ import annotations

import os

import pytest

from irsde_deploy.system.threads import usable_threads, wanted_threads


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", 1), ("3", 3), ("256", 256), ("257", 256), ("999999999", 256), ("9999999999", 0), ("0", 0), ("", 0),
        ("4,2", 0), ("-1", 0), ("two", 0), ("1.5", 0),
    ],
)  # fmt: skip
def test_the_variable_counts_where_it_says_a_number(text: str, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert wanted_threads() == wanted
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_threads() == (wanted or processors)


def test_a_process_uses_the_processors_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert wanted_threads() == 0
    assert usable_threads() == 3
