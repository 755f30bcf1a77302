"""What long work tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from irsde_deploy.system.listener import SILENT, Advance, Listener


def test_trials_are_shown_in_percent_and_never_past_the_end() -> None:
    shown: list[tuple[int, str | None]] = []

    @contextmanager
    def progress(length: int, label: str) -> Iterator[Advance]:
        assert (length, label) == (100, "searching")

        def advance(position: int, text: str | None = None) -> None:
            shown.append((position, text))

        yield advance

    with Listener(progress=progress).trials("searching") as on_trial:
        for done, about in ((1, 3), (3, 3), (7, 6)):
            on_trial(done, about)
    assert shown == [(33, "1 of about 3 trials"), (100, "3 of about 3 trials"), (100, "7 of about 6 trials")]


def test_silence_is_the_default() -> None:
    SILENT.line("a")
    SILENT.note("b")
    with SILENT.progress(3, "c") as advance:
        advance(2, "d")
