"""A lock file is held by one process at a time, however the processes end, and not by being there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from irsde_deploy.errors import OutputFileError
from irsde_deploy.system.locks import LockFile

HOLDER = """
import sys, time
from pathlib import Path
from irsde_deploy.system.locks import LockFile
lock = LockFile(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


@contextmanager
def _holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate(timeout=20)


def _open_files() -> int:
    """How many files this process has open; 0 where nobody says."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_run_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    lock = LockFile(path)
    with _holder(path) as holder:
        assert not lock.acquire()
        assert not lock.held
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=20)
        assert path.exists()
        assert lock.acquire()
    assert not LockFile(path).acquire()
    lock.release(remove=True)
    assert not path.exists()
    assert LockFile(path).acquire()


def test_a_lock_that_another_has_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "folder" / "lock")
    lock.claim("taken")
    other = LockFile(lock.path)
    before = _open_files()
    for _ in range(3):
        with pytest.raises(OutputFileError, match="^another run is at work$"):
            other.claim("another run is at work")
        other.release(remove=True)
    assert _open_files() == before
    assert lock.held
    assert lock.path.exists(), "whoever does not hold it does not remove it"
    lock.release()
    other.claim("taken")
    with pytest.raises(OutputFileError, match="lock: cannot be written"):
        LockFile(lock.path / "lock").claim("taken")


def test_a_lock_that_was_let_go_keeps_its_file_unless_it_is_to_go(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock")
    lock.release(remove=True)  # not ours: nothing happens
    assert lock.acquire()
    lock.release()
    assert lock.path.exists()
    assert LockFile(lock.path).acquire()


@pytest.mark.skipif(sys.platform == "win32", reason="there, open files cannot be removed")
def test_two_never_hold_it_while_it_is_made_and_removed(tmp_path: Path) -> None:
    """Four threads take it, look whether they are alone, and remove it, its folder too."""
    path, inside, most, taken = tmp_path / "folder" / "lock", [0], [0], [0]
    counting = threading.Lock()

    def work() -> None:
        for _ in range(300):
            lock = LockFile(path)
            if not lock.acquire():
                continue
            with counting:
                inside[0] += 1
                taken[0] += 1
                most[0] = max(most[0], inside[0])
            path.stat()  # lets other threads run
            with counting:
                inside[0] -= 1
            lock.release(remove=True)
            with suppress(OSError):  # another has come
                path.parent.rmdir()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert taken[0] > 100


def test_where_the_file_system_knows_no_locks_everybody_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.lock_descriptor", unknown)
    assert LockFile(tmp_path / "lock").acquire()
    assert LockFile(tmp_path / "lock").acquire()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"):
        LockFile(tmp_path / "lock").acquire()
    assert not (tmp_path / "elsewhere").exists()
