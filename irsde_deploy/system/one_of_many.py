"""What one failed input of many does to the others: nothing.

Whatever is done with many pictures, videos, pairs or calibration pictures is done through `attempted`, which turns
anything that one of them makes code raise into a sentence. Only what concerns all of them passes: an interrupt, and a
reader of our output that has gone. A full disk does not: another output may fit, or go elsewhere.

Training alone stops at a picture that cannot be read, saved and to be resumed: each of its samples follows from the
seed and the pictures, and with another in that one's place a resumed run would not be the one that was begun.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import IrsdeError, is_out_of_memory, one_line, reason

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
    """
    try:
        return work()
    except BrokenPipeError:
        raise
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        sentence = _sentence(error, path, memory_for)
        if sentence is None:
            if os.environ.get("IRSDE_DEBUG"):
                raise
            found = one_line(f"{type(error).__name__}: {reason(error)}")
            sentence = f"{path}: internal error, please report it ({found}); IRSDE_DEBUG=1 shows where"
        return Failed(sentence, error)


def _sentence(error: Exception, path: Path, memory_for: str) -> str | None:
    """What went wrong with a file; None where nobody has foreseen it."""
    if isinstance(error, IrsdeError) and str(error):
        if isinstance(error, OSError) or str(error).startswith(str(path)):
            return str(error)
        return f"{path}: {error}"  # engines do not know files
    if isinstance(error, OSError) and not isinstance(error, IrsdeError):
        name = str(error.filename or path).removeprefix("file:")  # as FFmpeg is given names
        return f"{name}: {error.strerror or error}"
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
