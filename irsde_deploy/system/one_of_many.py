"""What one failed input of many does to the others: nothing.

Whatever is done with many pictures, videos, pairs or calibration pictures is done through `attempted`, which turns
anything that one of them makes code raise into a sentence. Only what concerns all of them passes: an interrupt, a
reader of our output that has gone, and a full disk, for which every one that follows would be restored in vain.

Training alone stops at a picture that cannot be read, saved and to be resumed: each of its samples follows from the
seed and the pictures, and with another in that one's place a resumed run would not be the one that was begun.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import IrsdeError, defect_words, is_disk_full, is_out_of_memory, system_words

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """What went wrong with one of many.

    Attributes:
        sentence: that names the file.
        error: what was raised.
    """

    sentence: str
    error: Exception


def attempted(work: Callable[[], Result], path: Path, memory_for: str = "for it") -> Result | Failed:
    """Do something with one of many files, and return what came of it.

    Args:
        work: what is done.
        path: of the file, for the sentence where it fails.
        memory_for: what there was not enough memory for, where an error of memory does not say it.

    Raises:
        KeyboardInterrupt: an interrupt, whatever a library has made of it. BrokenPipeError: nobody reads our output.
        OSError: a disk is full (DiskFullError, or as the system says it).
    """
    try:
        return work()
    except BrokenPipeError:
        raise
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        if is_disk_full(error):
            raise
        sentence = _sentence(error, path, memory_for)
        if sentence is None:
            if os.environ.get("IRSDE_DEBUG"):
                raise
            sentence = f"{path}: {defect_words(error)}"
        return Failed(sentence, error)


def those_that_work(
    works: Iterable[tuple[Path, Callable[[], Result]]], on_note: Callable[[str], None], left_out: str
) -> list[Result]:
    """Do something with each of many files, and leave out those with which it fails.

    Args:
        works: of each file its path, and what is done with it.
        on_note: is told of each that is left out, by a sentence.
        left_out: how that sentence ends, such as "left out of the calibration".

    Returns:
        What came of the others, at least one.

    Raises:
        Exception: what the first one raised, where every one fails; and what `attempted` lets pass.
    """
    results, failures = [], []
    for path, work in works:
        result = attempted(work, path)
        if isinstance(result, Failed):
            failures.append(result)
        else:
            results.append(result)
    if failures and not results:
        raise failures[0].error
    for failed in failures:
        on_note(f"{failed.sentence}: {left_out}")
    return results


def _sentence(error: Exception, path: Path, memory_for: str) -> str | None:
    """What went wrong with a file; None where nobody has foreseen it."""
    if isinstance(error, IrsdeError) and str(error):
        if isinstance(error, OSError) or str(error).startswith(str(path)):
            return str(error)
        return f"{path}: {error}"  # engines do not know files
    if isinstance(error, OSError) and not isinstance(error, IrsdeError):
        return system_words(error, path)
    if is_out_of_memory(error):
        return f"{path}: not enough memory {memory_for}"
    return None


def _is_interrupt(error: BaseException) -> bool:
    """Whether an error is what a library has made of an interrupt."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return False
