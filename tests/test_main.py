"""The entry point: signals, and what becomes of each kind of error."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import click
import pytest
from commands import PROGRAM

from irsde_deploy import __main__ as program
from irsde_deploy import errors
from irsde_deploy.cli import cli
from irsde_deploy.errors import OutputFileError
from irsde_deploy.system.files import write_atomically, write_folder_atomically

KINDS = ("SIGINT", "SIGTERM", "SIGHUP")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals as they were, afterwards."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in KINDS}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("name", KINDS)
def test_every_signal_that_ends_a_program_is_an_interrupt_once(name: str) -> None:
    interrupts = program._Interrupts()
    assert not interrupts.received
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(getattr(signal, name))
    assert interrupts.received
    interrupts.ignore()
    for each in KINDS:
        signal.raise_signal(getattr(signal, each))


@pytest.mark.usefixtures("handlers")
def test_what_a_library_makes_of_an_interrupt_is_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy.core failed to import") from None

    def leave(code: int) -> None:
        seen.update(signal.getsignal(getattr(signal, name)) for name in KINDS)
        raise SystemExit(code)

    seen: set[object] = set()

    monkeypatch.setattr(cli, "main", interrupted)
    monkeypatch.setattr(program, "_leave_at_once", leave)
    with pytest.raises(SystemExit) as stop:
        program.main()
    assert stop.value.code == 130
    assert capfd.readouterr().err == "irsde-deploy: interrupted; finished files stay, none is half-written\n"
    assert seen == {signal.SIG_IGN}, "an impatient user's second Ctrl-C does not spoil the end"


@pytest.mark.usefixtures("handlers")
def test_what_other_threads_are_writing_when_an_interrupt_comes_is_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, interrupted = threading.Barrier(3), threading.Event()

    def write(write_beside: Callable[[Path], AbstractContextManager[Path]], name: str) -> None:
        with suppress(OutputFileError), write_beside(tmp_path / name) as temporary:
            assert temporary.exists()
            begun.wait(60)
            interrupted.wait(60)

    def command(**_: object) -> None:
        begun.wait(60)
        raise KeyboardInterrupt

    def leave(code: int) -> None:
        left.extend(tmp_path.iterdir())
        raise SystemExit(code)

    left: list[Path] = []
    monkeypatch.setattr(cli, "main", command)
    monkeypatch.setattr(program, "_leave_at_once", leave)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(write, write_atomically, "a.png")
        threads.submit(write, write_folder_atomically, "pack")
        with pytest.raises(SystemExit):
            program.main()
        interrupted.set()
    assert left == []


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (errors.InvalidValueError("no"), "irsde-deploy: no", 2),
        (errors.InputFileError("a.png: no"), "irsde-deploy: a.png: no", 1),
        (errors.ParityError("they differ"), "irsde-deploy: they differ", 3),
        (errors.MissingPackageError("it needs av"), "irsde-deploy: it needs av", 5),
        (errors.OutOfMemoryError("too large"), "irsde-deploy: too large", 1),
        (errors.Interrupted(), "irsde-deploy: interrupted; finished files stay, none is half-written", 130),
        (KeyboardInterrupt(), "irsde-deploy: interrupted; finished files stay, none is half-written", 130),
        (click.Abort(), "irsde-deploy: interrupted; finished files stay, none is half-written", 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "", 1),
        (OSError(errno.ENOSPC, "No space left", "a.png"), "irsde-deploy: a.png: No space left", 1),
        (OSError(errno.EIO, "alloc.png is damaged"), "irsde-deploy: output: alloc.png is damaged", 1),
        (
            RuntimeError("std::bad_alloc"),
            "irsde-deploy: not enough memory: use smaller pictures, `tile` 256 or a smaller `batch`",
            1,
        ),
        (
            MemoryError(),
            "irsde-deploy: not enough memory: use smaller pictures, `tile` 256 or a smaller `batch`",
            1,
        ),
        (
            ImportError("no", name="av.video"),
            "irsde-deploy: av.video cannot be imported: 'irsde-deploy doctor' says which command installs it",
            5,
        ),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            "irsde-deploy: not enough memory: use smaller pictures, `tile` 256 or a smaller `batch`",
            1,
        ),
        (
            ZeroDivisionError("division by zero"),
            "irsde-deploy: internal error, please report it (ZeroDivisionError: division by zero); IRSDE_DEBUG=1 "
            "shows where",
            70,
        ),
    ],
)
def test_each_kind_of_error_has_its_sentence_and_code(error: BaseException, sentence: str, code: int) -> None:
    assert program._explain(error) == (sentence, code)


@pytest.mark.usefixtures("handlers")
def test_a_defect_shows_where_it_is_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def defect(**_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli, "main", defect)
    monkeypatch.delenv("IRSDE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        program.main()
    assert stop.value.code == 70
    assert "(ZeroDivisionError: division by zero)" in capfd.readouterr().err
    monkeypatch.setenv("IRSDE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        program.main()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_an_output_that_takes_nothing_is_one_sentence(small_onnx: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "inspect", str(small_onnx)], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "irsde-deploy: output: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_what_a_library_printed_is_written_before_a_command_ends_well() -> None:
    """Python keeps it in a buffer, and would find no room for it after the exit code was settled."""
    code = (
        "from irsde_deploy import __main__ as program, cli\n"
        "cli.cli.main = lambda **_: print('by a library')\n"
        "program.main()"
    )
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, env=buffered
        )
    assert (done.returncode, done.stderr) == (1, "irsde-deploy: output: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: OUT OF MEMORY"), True),
        (RuntimeError("[ONNXRuntimeError] : Failed to allocate memory for 12 bytes"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("input has the wrong shape"), False),
    ],
)
def test_libraries_say_in_their_own_words_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert errors.is_out_of_memory(error) is expected
    kind = errors.OutOfMemoryError if expected else errors.EngineError
    assert type(errors.evaluation_failure("a library", (1, 3, 8, 8), error)) is kind


def test_a_missing_package_is_named_with_the_extra_that_has_it() -> None:
    for error, kind, sentence in (
        (
            ImportError("No module named 'matplotlib.figure'", name="matplotlib.figure"),
            errors.MissingPackageError,
            r"^a plot needs matplotlib, which .*\[export\]'?$",
        ),
        (
            ImportError("cannot allocate memory in static TLS block"),
            errors.OutOfMemoryError,
            "^a plot: not enough memory to load a library",
        ),
        (errors.MissingPackageError("no CUDA"), errors.MissingPackageError, "^no CUDA$"),
    ):
        with pytest.raises(kind, match=sentence), errors.requires_extra("export", "a plot"):
            raise error
