"""Runs that end after their output is there, outputs that are replaced, and names as long as names can be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("av")

from videos import SD, YUV420, planes_of, read_planes, restore, stopping_at, write_video

from irsde_deploy.errors import InputFileError, OutputFileError
from irsde_deploy.video.work_folder import WorkFolder, clear_finished

FRAMES = 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", planes_of(FRAMES, YUV420, SD))


@pytest.fixture
def target(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output whose run was killed before it could clear up."""
    with monkeypatch.context() as killed:
        killed.setattr(WorkFolder, "clear", lambda _: None)
        restore(source, tmp_path / "out.mp4", segment=0.1)
    assert (tmp_path / ".out.mp4.irsde" / "finished.json").exists()
    return tmp_path / "out.mp4"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_resuming_what_has_ended_clears_up(source: Path, target: Path, tmp_path: Path) -> None:
    content = target.read_bytes()
    state = restore(source, target, stopping_at(0), segment=0.1, resume=True)
    assert (state.resumed, state.frames) == (FRAMES, 0)
    assert target.read_bytes() == content
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(
    "left", [["finished.json", "manifest.json"], ["000002.json", "finished.json", "manifest.json"]]
)
def test_so_it_does_where_half_was_cleared_up(left: list[str], source: Path, target: Path, tmp_path: Path) -> None:
    for path in (tmp_path / ".out.mp4.irsde").iterdir():
        if path.name not in left:
            path.unlink()
    assert restore(source, target, stopping_at(0), segment=0.1, resume=True).resumed == FRAMES
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_other_runs_clear_up_and_leave_the_output(source: Path, target: Path, tmp_path: Path) -> None:
    content = target.read_bytes()
    with pytest.raises(OutputFileError, match=r"out.mp4: exists already: pass `overwrite` to replace it$"):
        restore(source, target, segment=0.1)
    assert target.read_bytes() == content
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_one_that_is_skipped_is_cleared_up(target: Path, tmp_path: Path) -> None:
    clear_finished(target)
    assert names_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_an_output_that_somebody_has_changed_since_is_theirs(source: Path, target: Path, tmp_path: Path) -> None:
    target.write_bytes(b"my own")
    clear_finished(target)
    assert ".out.mp4.irsde" in names_in(tmp_path)
    with pytest.raises(OutputFileError, match="out.mp4: exists already, and the run to resume has not made it"):
        restore(source, target, segment=0.1, resume=True)
    assert target.read_bytes() == b"my own"


def test_replacing_an_output_is_continued_without_saying_so_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"the old one")
    with pytest.raises(KeyboardInterrupt):
        restore(source, target, stopping_at(5), segment=0.1, overwrite=True)
    assert target.read_bytes() == b"the old one"
    assert restore(source, target, segment=0.1, resume=True).resumed == 4
    assert len(read_planes(target)) == FRAMES


def test_but_not_where_it_is_another_now(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"the old one")
    with pytest.raises(KeyboardInterrupt):
        restore(source, target, stopping_at(5), segment=0.1, overwrite=True)
    target.write_bytes(b"a new one of somebody's")
    with pytest.raises(OutputFileError, match="out.mp4: exists already, and the run to resume has not made it"):
        restore(source, target, segment=0.1, resume=True)
    assert target.read_bytes() == b"a new one of somebody's"


@pytest.mark.parametrize("name", ["n" * 251 + ".mp4", "ü" * 125 + "n.mp4", "n" * 245 + ".mp4"])
def test_names_as_long_as_names_can_be(name: str, source: Path, tmp_path: Path) -> None:
    assert 249 <= len(os.fsencode(name)) <= 255
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / name, stopping_at(5), segment=0.1)
    partial = next(path for path in tmp_path.iterdir() if path.name.endswith(".partial.mp4"))
    assert len(read_planes(partial)) == 5
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / name, stopping_at(7), segment=0.1, resume=True)
    assert len(read_planes(partial)) == 7
    assert restore(source, tmp_path / name, segment=0.1, resume=True).resumed == 6
    assert names_in(tmp_path) == sorted(["in.mp4", name])


def test_long_names_that_differ_at_their_end_have_folders_of_their_own(tmp_path: Path) -> None:
    one, other = (WorkFolder(tmp_path / f"{'n' * 250}{k}.mp4").folder for k in "12")
    assert one.name != other.name
    assert {len(os.fsencode(one.name)), len(os.fsencode(other.name))} == {255}
    assert WorkFolder(tmp_path / "short.mp4").folder.name == ".short.mp4.irsde"


@pytest.mark.parametrize("change", [{"retimed": -1}, {"times": [[0, -5], [40, 40]]}])
def test_a_piece_that_is_described_with_nonsense_is_refused(
    change: dict[str, object], source: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.mp4", stopping_at(5), segment=0.1)
    about = tmp_path / ".out.mp4.irsde" / "000000.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | change))
    with pytest.raises(InputFileError, match=r"000000.json: is damaged, .*: pass `overwrite` to begin anew$"):
        restore(source, tmp_path / "out.mp4", segment=0.1, resume=True)
