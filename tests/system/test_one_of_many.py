"""One failed input of many: a sentence that names it; what concerns all of them passes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from irsde_deploy.errors import DiskFullError, EngineError, InputFileError, InvalidValueError, OutputFileError
from irsde_deploy.system.one_of_many import Failed, attempted, those_that_work

PATH = Path("in/a.png")


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def work() -> None:
        raise error from cause

    return work


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputFileError("b.png: the picture is damaged"), "b.png: the picture is damaged"),
        (EngineError("ONNX Runtime failed"), "in/a.png: ONNX Runtime failed"),
        (InvalidValueError("in/a.png: too small"), "in/a.png: too small"),
        (OSError(errno.EIO, "Input/output error"), "in/a.png: Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied", "c.png"), "c.png: Permission denied"),
        (MemoryError(), "in/a.png: not enough memory for this"),
        (RuntimeError("std::bad_alloc"), "in/a.png: not enough memory for this"),
    ],
)
def test_a_failure_is_a_sentence_that_names_the_file(error: Exception, sentence: str) -> None:
    failed = attempted(raising(error), PATH, "for this")
    assert isinstance(failed, Failed)
    assert (failed.sentence, failed.error) == (sentence, error)


@pytest.mark.parametrize(
    ("error", "cause", "passes"),
    [
        (BrokenPipeError(), None, BrokenPipeError),
        (DiskFullError("b.png: the disk is full"), None, DiskFullError),
        (OSError(errno.ENOSPC, "No space left"), None, OSError),
        (KeyboardInterrupt(), None, KeyboardInterrupt),
        (ImportError("numpy failed"), KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(3), None, SystemExit),
    ],
)
def test_what_concerns_all_passes(error: BaseException, cause: BaseException | None, passes: type) -> None:
    with pytest.raises(passes):
        attempted(raising(error, cause), PATH)


def test_an_interrupt_within_an_error_that_was_made_of_it_passes() -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("the library failed")  # noqa: B904 (without a cause, as libraries do)

    with pytest.raises(KeyboardInterrupt):
        attempted(work, PATH)


def test_those_that_work_are_given_and_the_others_told() -> None:
    bad = EngineError("failed")
    told: list[str] = []
    works = [(Path("a"), lambda: 1), (Path("b"), raising(bad)), (Path("c"), lambda: 3)]
    assert those_that_work(works, told.append, "left out") == [1, 3]
    assert told == ["b: failed: left out"]
    with pytest.raises(EngineError) as raised:
        those_that_work([(Path("b"), raising(bad)), (Path("d"), raising(OutputFileError("d")))], told.append, "")
    assert raised.value is bad
    assert len(told) == 1, "what is raised is not told, too"
    assert those_that_work([], told.append, "") == []
