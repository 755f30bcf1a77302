"""Which videos become which outputs; rules that pictures have too are tested in tests/pictures/test_batch.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from irsde_deploy.errors import InputFileError, InvalidValueError, IrsdeError, OutputFileError
from irsde_deploy.video.planning import plan_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.avi", "b.mkv", "c.mp4", "c.partial.mp4", "p.png", "deep/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"any")
    return tmp_path


def planned(folder: Path, names: list[str], output: str) -> list[str]:
    jobs = plan_videos([str(folder / name) for name in names], folder / output)
    assert [job.source for job in jobs] == [folder / name for name in names]
    return [str(job.target.relative_to(folder)) for job in jobs]


def test_outputs_keep_their_names_and_a_container_that_is_written(folder: Path) -> None:
    assert planned(folder, ["a.mp4"], "out.webm") == ["out.webm"]
    assert planned(folder, ["a.mp4", "b.avi", "c.mp4"], "out") == ["out/a.mp4", "out/b.mkv", "out/c.mp4"]
    (folder / "E.MKV").write_bytes(b"any")
    assert planned(folder, ["E.MKV"], "out") == ["out/E.MKV"]
    (folder / "made.mp4").mkdir()
    assert planned(folder, ["a.mp4"], "made.mp4") == ["made.mp4/a.mp4"]


@pytest.mark.parametrize(
    ("names", "output", "kind", "message"),
    [
        (["missing.mp4"], "out.mp4", InputFileError, "missing.mp4: no such file"),
        (["deep"], "out.mp4", InputFileError, "deep: no such file"),
        (["a.mp4", "p.png"], "out", InvalidValueError, "is not a video: restore pictures and videos in calls of"),
        (["a.mp4", "c.mp4"], "out.mp4", OutputFileError, "one file cannot hold 2 videos: give a folder as `output`"),
        (["a.mp4", "a.mp4"], "out.mp4", OutputFileError, "one file cannot hold 2 videos"),
        (["a.mp4"], "out.gif", OutputFileError, "neither the name of a video (.mp4, .m4v, .mov, .mkv, .webm) nor"),
        (["a.mp4"], "p.png", OutputFileError, "is a file, and the videos go into a folder"),
        (["a.mp4", "deep/a.mp4"], "out", OutputFileError, "would all become"),
        (["b.avi", "b.mkv"], "out", OutputFileError, "would all become"),
        (["a.mp4"], "a.mp4", OutputFileError, "is an input and would be replaced"),
        (["b.avi", "b.mkv"], ".", OutputFileError, "would all become"),
        (["deep/a.mp4", "a.mp4"], ".", OutputFileError, "would all become"),
        (["c.mp4", "c.partial.mp4"], "out", OutputFileError, "c.partial.mp4: is what an interrupted run of"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    names: list[str], output: str, kind: type[IrsdeError], message: str, folder: Path
) -> None:
    with pytest.raises(kind) as error:
        planned(folder, names, output)
    assert message in str(error.value)


def test_an_output_whose_new_name_is_too_long_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["w" * 251 + end + ".ts" for end in "12"]
    for name in names:
        Path(name).write_bytes(b"x")
    targets = [job.target.name for job in plan_videos(names, Path("out"))]
    assert [len(name) for name in targets] == [255, 255]
    assert targets[0] != targets[1]


@pytest.mark.parametrize("suffix", ["vob", "asf", "3g2", "f4v", "qt", "mpe", "divx", "dv", "m2v", "h264", "mod", "OGM"])
def test_what_is_a_video_by_its_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film.{suffix}"
    path.write_bytes(b"x")
    assert plan_videos([str(path)], tmp_path / "out")[0].target == tmp_path / "out" / "film.mkv"
