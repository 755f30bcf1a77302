"""The work folder beside a video: who may use it, what in it is ours, and what to do where there is no room."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from hostile import hostile_json, not_utf8  # noqa: E402
from videos import SD, YUV420, identity, planes_of, read_planes, restore, stopping_at, write_video  # noqa: E402

from irsde_deploy.errors import InputFileError, OutputFileError  # noqa: E402
from irsde_deploy.video.pieces import PieceEncoder  # noqa: E402
from irsde_deploy.video.work_folder import WorkFolder  # noqa: E402

PROGRAM = [sys.executable, "-m", "irsde_deploy"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD))


@pytest.fixture
def cut_off(source: Path, tmp_path: Path) -> Path:
    """The work folder of a run that was interrupted: two whole segments of two frames."""
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1)
    return tmp_path / ".out.mp4.irsde"


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_a_second_run_of_one_output_touches_nothing(option: list[str], small_onnx: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD, 16, 32))
    target, before = tmp_path / "out.mp4", {}
    command = [*PROGRAM, "run", "--engine", small_onnx, source, "-o", target, "--segment", 0.1, "--steps", 1, *option]
    second: list[subprocess.CompletedProcess[str]] = []

    def meanwhile(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        if numbers[0] == 5:
            time.sleep(0.3)  # what comes before is encoded
            before.update(_contents(tmp_path))
            second.append(subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60))
            assert _contents(tmp_path) == before
        return identity(pictures, numbers)

    restore(source, target, meanwhile, segment=0.1)
    assert second[0].returncode == 1
    assert second[0].stderr.endswith("out.mp4: another run is writing this file: wait for its end, or stop it\n")
    assert len(read_planes(target)) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_bit_that_has_turned_is_found(source: Path, cut_off: Path, tmp_path: Path) -> None:
    content = bytearray((cut_off / "000000.mp4").read_bytes())
    content[content.index(b"mdat") + 200] ^= 1
    (cut_off / "000000.mp4").write_bytes(content)
    with pytest.raises(InputFileError, match=r"000000.mp4: is damaged, and .*: pass `overwrite` to begin anew$"):
        restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)


def test_what_is_relied_on_is_on_the_disk_first(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece before what describes it, both before the next, and the output before the pieces go."""
    flushed: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.lstrip(".")[:10])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    restore(source, tmp_path / "out.mp4", segment=0.2)
    assert [name.partition(".")[0] for name in flushed] == ["000000", "000000", "000001", "000001", "out"]
    assert flushed[0] == flushed[2].replace("1", "0") == "000000.mp4"


def test_what_a_folder_is_known_by_goes_last(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    unlink = Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == ".out.mp4.irsde" and path.exists():
            gone.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    restore(source, tmp_path / "out.mp4", segment=0.1)
    assert [name for name in gone if name.endswith(".json")][-2:] == ["finished.json", "manifest.json"]
    assert gone.index("finished.json") > gone.index("000003.mp4")


def test_a_replaced_segment_is_found(source: Path, cut_off: Path, tmp_path: Path) -> None:
    (cut_off / "000000.mp4").write_bytes((cut_off / "000001.mp4").read_bytes())  # it has as many packets
    with pytest.raises(InputFileError, match=r"000000.mp4: is damaged, and .*: pass `overwrite` to begin anew$"):
        restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)
    restore(source, tmp_path / "out.mp4", segment=0.1, overwrite=True)
    assert not cut_off.exists()


@pytest.mark.parametrize("content", ["photo.jpg", "manifest.json"])
@pytest.mark.parametrize("option", [{}, {"overwrite": True}, {"resume": True}])
def test_a_foreign_folder_of_that_name_stays(
    content: str, option: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / ".out.mp4.irsde"
    foreign.mkdir()
    (foreign / content).write_text('{"mine": 1}')
    with pytest.raises(OutputFileError, match=r"\.out\.mp4\.irsde: is not irsde-deploy's, .*: move it away$"):
        restore(source, tmp_path / "out.mp4", **option)
    assert _contents(foreign) == {content: b'{"mine": 1}'}


def test_a_link_of_that_name_is_refused(source: Path, cut_off: Path, tmp_path: Path) -> None:
    elsewhere = cut_off.rename(tmp_path / "elsewhere")
    cut_off.symlink_to(elsewhere)
    before = _contents(elsewhere)
    for option in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputFileError, match="is not irsde-deploy's"):
            restore(source, tmp_path / "out.mp4", segment=0.1, **option)
    assert _contents(elsewhere) == before


def test_what_somebody_has_put_into_the_folder_stays(source: Path, cut_off: Path, tmp_path: Path) -> None:
    (cut_off / "notes.txt").write_text("mine")
    (cut_off / "manifest.json").write_text("{")  # damaged, so that --overwrite is what helps
    with pytest.raises(InputFileError, match="pass `overwrite`"):
        restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)
    restore(source, tmp_path / "out.mp4", segment=0.1, overwrite=True)
    assert _contents(cut_off) == {"notes.txt": b"mine"}


def test_hostile_files_in_a_work_folder_are_one_sentence(cut_off: Path, tmp_path: Path) -> None:
    """What describes a piece, and what says which partial file is ours to delete."""
    folder, about = WorkFolder(tmp_path / "out.mp4"), cut_off / "000001.json"
    good = json.loads(about.read_text())
    assert [len(piece.times) for piece in folder.resume(folder.settings)] == [2, 2]
    for content, words in hostile_json(good, "retimed"):
        about.write_bytes(content)
        with pytest.raises(InputFileError, match=rf"000001\.json: .*({words}).*: pass .*overwrite.* to begin anew$"):
            folder.resume(folder.settings)
    for change, words in (
        ({"times": []}, "it has no times"),
        ({"times": [[0, 2**62]]}, "its times are beyond 62 bits"),
        ({"times": [[0, True]]}, r"times\[0\]\[1\] must be a whole number, not True"),
        ({"times": [[0]]}, r"times\[0\] must be a list of 2 entries, not \[0\]"),
        ({"file": [1]}, "file must be a list of 2 entries"),
    ):
        about.write_text(json.dumps({**good, **change}))
        with pytest.raises(InputFileError, match=rf"is damaged, and cannot be resumed from \(.*{words}"):
            folder.resume(folder.settings)
    (tmp_path / "out.partial.mp4").write_bytes(b"somebody's")
    folder.note_partial(tmp_path / "out.partial.mp4")
    note = json.loads((cut_off / "partial.json").read_text())
    changes = ({"name": 3}, {"state": [1.5, 2]}, {"state": None}, {"more": 1})
    for content in (not_utf8(note), b"[" * 9999, *(json.dumps({**note, **change}).encode() for change in changes)):
        (cut_off / "partial.json").write_bytes(content)
        folder.remove_partial()
        assert folder.discardable
    assert (tmp_path / "out.partial.mp4").exists()
    (cut_off / "partial.json").write_text(json.dumps(note))
    folder.remove_partial()
    assert not (tmp_path / "out.partial.mp4").exists()


def test_runs_that_are_refused_leave_no_folder(source: Path, cut_off: Path, tmp_path: Path) -> None:
    before = sorted(_contents(tmp_path))
    with pytest.raises(OutputFileError, match="an earlier run was interrupted"):
        restore(source, tmp_path / "out.mp4", segment=0.1)
    assert sorted(_contents(tmp_path)) == before
    manifest = json.loads((cut_off / "manifest.json").read_text())
    assert manifest["segment"] == 2


def test_a_folder_in_which_nothing_was_begun_goes_and_another_stays(cut_off: Path, tmp_path: Path) -> None:
    for target, stays in ((tmp_path / "other.mp4", False), (tmp_path / "out.mp4", True)):
        work = WorkFolder(target)
        work.claim()
        assert work.folder.is_dir()
        work.release()
        assert work.folder.exists() == stays


def test_a_full_disk_is_told_with_what_helps(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise av.error.OSError(errno.ENOSPC, "No space left on device", "file:/somewhere/else.part")

    advice = r"out.mp4: cannot be written \(No space left on device\): free some space there, then `resume` continues"
    with monkeypatch.context() as joining:
        joining.setattr("irsde_deploy.video.muxing.mux", full)
        with pytest.raises(OutputFileError, match=advice):
            restore(source, tmp_path / "out.mp4", segment=0.1)
    with monkeypatch.context() as encoding:
        encoding.setattr(PieceEncoder, "_mux", full)
        with pytest.raises(OutputFileError, match=advice.replace("out.mp4", r"\.trial\.part")):
            restore(source, tmp_path / "other.mp4", segment=0.1)
    progress = restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)
    assert (progress.resumed, progress.frames) == (8, 0)
    assert len(read_planes(tmp_path / "out.mp4")) == 8
