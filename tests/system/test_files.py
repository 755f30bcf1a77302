"""Files checked before they are read, and outputs that take nothing's place unasked."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from pathlib import Path

import pytest

from irsde_deploy.errors import DiskFullError, InputFileError, InvalidValueError, OutputFileError
from irsde_deploy.system import files
from irsde_deploy.system.files import (
    file_sha256,
    is_sha256,
    not_writable,
    require_new,
    require_output,
    require_readable,
    require_writable,
    told_of,
    write_atomically,
    write_folder_atomically,
)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_an_output_has_the_mode_that_the_users_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_atomically(tmp_path / "a.png") as temporary:
            temporary.write_bytes(b"whole")
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


def test_an_output_is_there_whole_or_as_it_was_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "er" / "a.png"
    with write_atomically(path) as temporary:
        temporary.write_bytes(b"first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as temporary:
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_what_the_system_refuses_inside_names_the_output(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    sentence = r"a\.png: cannot be written \(No space .*\): free some space there"
    with pytest.raises(DiskFullError, match=sentence), write_atomically(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
    with pytest.raises(InputFileError, match="^b.png: no such file$"), write_atomically(path):
        raise InputFileError("b.png: no such file")
    with pytest.raises(InvalidValueError, match=f"^{re.escape(str(path))}: too wide$"), write_atomically(path) as part:
        raise InvalidValueError(f"{part}: too wide")
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(not_writable(path, OSError(number, "full")), DiskFullError)
    assert not isinstance(not_writable(path, OSError(errno.EIO, "broken")), DiskFullError)


def test_errors_of_other_files_are_left_alone(tmp_path: Path) -> None:
    error = InputFileError("b.png: no such file")
    with pytest.raises(InputFileError) as raised, told_of(tmp_path / "a.png", tmp_path / ".a.part"):
        raise error
    assert raised.value is error


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)  # as where names cannot be exchanged in one step
    with write_folder_atomically(tmp_path / "pack") as folder:
        (folder / "card").write_text("old")
    replacing = write_folder_atomically(tmp_path / "pack", replaced=True)
    with pytest.raises(OutputFileError, match="pack: cannot be written"), replacing as folder:
        folder.rmdir()  # the new one is gone when the old one was moved out of the way
    assert (tmp_path / "pack" / "card").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_link_or_a_file_is_no_folder_to_replace(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("link", "file", "nowhere"):
        replacing = write_folder_atomically(tmp_path / name, replaced=True)
        with pytest.raises(OutputFileError, match=f"{name}: exists already"), replacing:
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "nowhere", "real"]


def test_a_checksum_is_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192 + b"end"  # two blocks and a rest
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    good = "0123456789abcdef" * 4
    assert [is_sha256(text) for text in (good, good.upper(), good[1:], good + "\n", "")] == [True] + 4 * [False]


def test_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "a.ONNX"
    require_output(path, ".onnx", overwrite=False)
    with pytest.raises(InvalidValueError, match=r"a\.ONNX: a plan must end in \.plan"):
        require_output(path, ".plan", overwrite=True, what="a plan")
    path.touch()
    with pytest.raises(OutputFileError, match="exists already: pass `overwrite` to replace it"):
        require_output(path, ".onnx", overwrite=False)
    require_new(path, overwrite=True)
    with pytest.raises(OutputFileError, match="is a folder; give the name of a file"):
        require_writable(tmp_path)
    with pytest.raises(OutputFileError, match="is not an ordinary file"):
        require_writable(Path(os.devnull))


def test_what_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("none", "no such file"), (".", "is a folder"), ("empty", "the file is empty")):
        with pytest.raises(InputFileError, match=words):
            require_readable(tmp_path / name)
    with pytest.raises(InputFileError, match="is not an ordinary file"):
        require_readable(tmp_path / "pipe")
