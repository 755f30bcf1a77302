"""What can go wrong, in words a user can act on.

Every message says what was wrong, what was expected and what to do, and names settings as Python does, between
backticks (`noise_level`); the command line makes options of them (`cli/wording.py`). Each class also inherits the
built-in exception that a Python caller would expect, and carries the exit code of the command line.
"""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class IrsdeError(Exception):
    """Base class of all errors raised on purpose by irsde-deploy."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())  # sentences quote files, which may hold what moves a terminal's cursor


class InvalidValueError(IrsdeError, ValueError):
    """A setting or an array is outside what is allowed."""

    exit_code = 2


class InputFileError(IrsdeError, OSError):
    """A file cannot be read, or is not what its name promises."""


class OutputFileError(IrsdeError, OSError):
    """A result cannot be written where it was asked for."""


class DiskFullError(OutputFileError):
    """There is no room for a result: nothing else that is written would find any, so work on many files ends."""


class CheckpointError(IrsdeError, ValueError):
    """Weights do not fit any known network, are incomplete, or are not finite."""


class EngineError(IrsdeError, RuntimeError):
    """An engine file cannot be loaded or fails while it runs."""


class OutOfMemoryError(EngineError, MemoryError):
    """There is not enough memory for an evaluation: smaller pictures, batches or tiles may fit."""


class NotFiniteError(EngineError):
    """The restored picture has NaN or infinite values: the weights or the engine are damaged, or never trained."""


class ParityError(IrsdeError, AssertionError):
    """Two implementations that must agree do not."""

    exit_code = 3


class MissingPackageError(IrsdeError, ImportError):
    """An optional package is needed and not installed, or a device is not there."""

    exit_code = 5


class Interrupted(Exception):
    """Ctrl-C or a signal, in a command; click would answer a KeyboardInterrupt with an empty line on stderr."""


def refuse(rules: Iterable[tuple[bool, str]], kind: type[IrsdeError] = InvalidValueError) -> None:
    """Raise an error with the sentence of the first rule whose condition holds.

    Args:
        rules: (what must not be, the sentence to say then). A generator is asked no further than that, so that each
            rule may rely on the ones before it.
        kind: class of the error.
    """
    for broken, sentence in rules:
        if broken:
            raise kind(sentence)


def evaluation_failure(library: str, shape: tuple[int, ...], error: BaseException) -> EngineError:
    """The error for what a library raised in an evaluation.

    Args:
        library: its name, for people.
        shape: of x.
        error: what it raised.

    Returns:
        OutOfMemoryError where its words say that memory ran out, else EngineError.
    """
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"{library} has not enough memory for an input of {shape}: use tiles, smaller ones, or a smaller batch"
        )
    return EngineError(f"{library} failed at input size {shape}: {reason(error)}")


def require_memory(library: str, name: str, error: BaseException) -> None:
    """Raise OutOfMemoryError where a library could not open a file for want of memory, by the error that it raised."""
    if is_out_of_memory(error):
        raise OutOfMemoryError(f"{name}: {library} has not enough memory to open it") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's own words say that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    return any(sign in words for sign in _OUT_OF_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether the system, or we, say that a disk or the user's share of it is full."""
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _DISK_FULL)


def system_words(error: OSError, name: object) -> str:
    """What the system refused, as a sentence; `name` is of what it was about, where the error does not say it."""
    found = str(error.filename or name).removeprefix("file:")  # as FFmpeg is given names
    return one_line(f"{found}: {error.strerror or error}")


def defect_words(error: BaseException) -> str:
    """What to say of an error that nobody has foreseen."""
    found = f"{type(error).__name__}: {reason(error)}"
    return one_line(f"internal error, please report it ({found}); IRSDE_DEBUG=1 shows where")


_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # not every system has quotas
_OUT_OF_MEMORY = ("out of memory", "insufficient memory", "alloc", "can't start new thread", "failed to map segment")
"""What libraries' messages say where memory ran out: "bad_alloc", "failed to allocate"; a thread needs a stack, and a
library that is loaded needs addresses."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_MUTE = ("Exception from", "Check '", "FrontEnd API failed with", "Loading input model")
"""How those lines of OpenVINO's errors begin that say where and not why."""
_SOURCE = re.compile(
    r"(?:\b[A-Za-z]:)?[\\/][^\s:]*\.(?:cc|cpp|cu|cuh|h|hpp):\d+ (?:.*?\)(?: const)?(?: \[with [^\]]*\])?(?: |$))?"
    r"|\b\w+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ \S+ "
)
"""The same in ONNX Runtime's: a file and line of its C++, and the signature of the function there."""


def reason(error: BaseException) -> str:
    """A library's error in a few words, for a message of one sentence: its first line, or its type if that is mute."""
    if isinstance(error, KeyError) and not isinstance(error, IrsdeError):  # its words are the key alone
        return f"there is no {one_line(str(error))[:100]}" if str(error) else "something is missing"
    lines = [line for line in str(error).strip().splitlines() if not line.startswith(_MUTE)]
    if not lines or lines[0].isdigit():
        return type(error).__name__
    return " ".join(_SOURCE.sub(" ", lines[0]).split())[:160].rstrip(". ")


def one_line(text: str) -> str:
    """A text without control characters: names that come out of files may hold line ends, or a terminal's commands."""
    return _CONTROL.sub(" ", text)


@contextmanager
def requires_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import inside the block into one sentence: what needs the package, and how to install it."""
    try:
        yield
    except MissingPackageError:
        raise
    except ImportError as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{purpose}: not enough memory to load a library: {reason(error)}") from None
        package = (error.name or "a package").partition(".")[0]  # what is installed, not the module inside it
        raise MissingPackageError(
            f"{purpose} needs {package}, which cannot be imported: {install_command(extra)}"
        ) from None


def install_command(extra: str | None = None) -> str:
    """The command that installs this package again, with an extra, from where it came from.

    That is a source tree, a wheel or archive, a repository, or else an index; as pip has noted it (PEP 610). No public
    index has irsde-deploy.
    """
    brackets = f"[{extra}]" if extra else ""
    tree = Path(__file__).parent.parent
    if (tree / "pyproject.toml").is_file():
        return f"{_pip()} install -e {_quoted(str(tree) + brackets)}"
    return f"{_pip()} install {_quoted(_requirement(brackets))}"


def _requirement(brackets: str) -> str:
    """What pip takes for the installed package with an extra, as its `direct_url.json` says."""
    import importlib.metadata
    import json
    import urllib.parse
    import urllib.request

    try:
        origin = json.loads(importlib.metadata.distribution("irsde-deploy").read_text("direct_url.json") or "{}")
        url = str(origin.get("url", ""))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        origin, url = {}, ""
    path = Path(urllib.request.url2pathname(urllib.parse.urlparse(url).path))
    if url.startswith("file:") and path.exists():
        return f"{path}{brackets}"
    if "vcs_info" in origin:
        url = f"{origin['vcs_info'].get('vcs', 'git')}+{url}@{origin['vcs_info'].get('commit_id', 'HEAD')}"
    if url and not url.startswith("file:"):
        return f"irsde-deploy{brackets} @ {url}"
    return f"irsde-deploy{brackets}"


def _pip() -> str:
    """The pip of the Python that runs: by its name alone where a shell would find it under that."""
    import shutil
    import sys

    found = shutil.which("pip")
    if found is None or Path(found).parent != Path(sys.executable).parent:
        return f"{shlex.quote(sys.executable)} -m pip"
    return "pip"


def _quoted(text: str) -> str:
    """A text as one word of a shell, between quotes as people write them even where none are needed."""
    quoted = shlex.quote(text)
    return quoted if quoted != text else f"'{text}'"
