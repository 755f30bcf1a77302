"""Which inputs become which outputs: files, folders, patterns, links, and names that give way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irsde_deploy.errors import InputFileError, OutputFileError
from irsde_deploy.pictures.finding import is_video_name
from irsde_deploy.pictures.planning import Job, plan_jobs, still_to_do, without_existing


def pairs(inputs: list[str], output: Path, **options: Any) -> list[tuple[str, str]]:
    return [(job.source.name, str(job.target.relative_to(output))) for job in plan_jobs(inputs, output, **options)]


def test_a_folder_keeps_its_tree(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pairs([str(photos)], out) == [("a.png", "a.png"), ("b.jpg", "b.jpg"), ("c.PNG", "deep/er/c.PNG")]
    assert pairs([str(photos)], out, suffix=".png")[1:] == [("b.jpg", "b.png"), ("c.PNG", "deep/er/c.png")]


def test_globs_keep_the_tree_below_their_fixed_part(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pairs([f"{photos}/*.png"], out) == [("a.png", "a.png")]
    assert pairs([f"{photos}/**/*.[pP][nN][gG]"], out) == [("a.png", "a.png"), ("c.PNG", "deep/er/c.PNG")]


def test_an_output_inside_the_input_is_not_read_again(photos: Path) -> None:
    (photos / "out").mkdir()
    cv2.imwrite(str(photos / "out" / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert len(plan_jobs([str(photos)], photos / "out")) == 3


def test_one_input_may_name_its_output(photos: Path, tmp_path: Path) -> None:
    (job,) = plan_jobs([str(photos / "a.png")], tmp_path / "result.webp")
    assert job.target == tmp_path / "result.webp"
    (dotted,) = plan_jobs([f"{photos}/a.*"], tmp_path / "results.v2")
    assert dotted.target == tmp_path / "results.v2" / "a.png"
    (twice,) = plan_jobs([str(photos / "a.png"), f"{photos}/a.*"], tmp_path / "out")
    assert twice.target == tmp_path / "out" / "a.png", "an input named twice is one job"


def test_the_first_naming_of_a_picture_wins_and_links_keep_their_names(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ("c.PNG", "deep/er/c.PNG") in pairs([str(photos), str(photos / "deep" / "er" / "c.PNG")], out)
    (photos / "link.png").symlink_to(photos / "a.png")
    assert {("a.png", "a.png"), ("link.png", "link.png")} < set(pairs([str(photos)], out))


def test_what_cannot_be_planned_is_refused(photos: Path, tmp_path: Path) -> None:
    for inputs, output, error, message in [
        (["nowhere.png"], "out", InputFileError, "no such file"),
        ([f"{photos}/*.tiff"], "out", InputFileError, "no pictures there"),
        ([f"{photos}/*/../a.png"], "out", InputFileError, "only before its first wildcard"),
        ([str(photos)], "one.png", OutputFileError, "cannot hold 3 pictures"),
        ([""], "out", InputFileError, "an input is empty"),
        ([str(photos / "a.png")], "one.gif", OutputFileError, "neither the name of a picture"),
        ([str(photos)], photos / "notes.txt", OutputFileError, "is a file, and the pictures go into a folder"),
        ([str(photos / "a.png")], photos, OutputFileError, "is an input and would be replaced"),
        ([str(photos / "a.png")], photos / "a.png", OutputFileError, "is an input and would be replaced"),
    ]:
        with pytest.raises(error, match=message):
            plan_jobs(inputs, tmp_path / output)
    (photos / "deep" / "a.png").write_bytes(b"")
    for suffix in (None, ".webp"):
        with pytest.raises(OutputFileError, match=r"a\.png.*deep/a\.png would all become .*out/a\.\w+: restore them"):
            plan_jobs([str(photos / "a.png"), str(photos / "deep" / "a.png")], tmp_path / "out", suffix)


def test_a_link_to_an_input_is_that_input(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    for inputs, output in (([photos], "link"), ([photos / "a.png"], "link"), ([tmp_path / "link"], "photos")):
        with pytest.raises(OutputFileError, match="is an input and would be replaced: choose another output"):
            plan_jobs([str(path) for path in inputs], tmp_path / output)


def test_an_output_that_names_a_format_agrees_with_the_one_asked_for(photos: Path, tmp_path: Path) -> None:
    source = [str(photos / "a.png")]
    agreeing = {".jpg": ("o.jpg", "o.JPEG", "o.jfif"), ".tiff": ("o.tif", "o.TIFF"), ".png": ("o.PNG",)}
    for name, suffix in [(name, suffix) for suffix, names in agreeing.items() for name in names]:
        assert plan_jobs(source, tmp_path / name, suffix) == [Job(photos / "a.png", tmp_path / name)]
    for name, suffix in (("o.png", ".jpg"), ("o.jpg", ".png"), ("o.webp", ".tiff")):
        with pytest.raises(OutputFileError, match=f"contradicts the format {suffix[1:]}: leave one of the two out"):
            plan_jobs(source, tmp_path / name, suffix)
    (tmp_path / "folder.png").mkdir()
    assert plan_jobs(source, tmp_path / "folder.png")[0].target == tmp_path / "folder.png" / "a.png"


def test_a_folder_may_be_restored_into_itself_and_below(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    itself = plan_jobs(["photos"], Path("photos"), ".webp")
    assert [str(job.target) for job in itself] == ["photos/a.webp", "photos/b.webp", "photos/deep/er/c.webp"]
    for job in plan_jobs(["photos"], Path("photos/out")):
        job.target.parent.mkdir(parents=True, exist_ok=True)
        job.target.write_bytes(job.source.read_bytes())
    for output in ("photos/out", tmp_path / "photos" / "out"):
        assert len(plan_jobs(["photos"], Path(output))) == 3


def test_pictures_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [f"{k:02}.png" for k in np.random.default_rng(0).permutation(24)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    for text in (str(tmp_path), f"{tmp_path}/*", f"{tmp_path}/**/*.png"):
        assert [job.source.name for job in plan_jobs([text], tmp_path / "out")] == sorted(names)


def test_patterns_enter_hidden_folders_only_by_name(photos: Path, tmp_path: Path) -> None:
    (photos / ".thumbs").mkdir()
    (photos / ".thumbs" / "a.png").write_bytes(b"x")
    out = tmp_path / "out"
    assert pairs([f"{photos}/**/a.png"], out) == [("a.png", "a.png")]
    assert pairs([f"{photos}/.t*/a.png"], out) == [("a.png", ".thumbs/a.png")]
    with pytest.raises(InputFileError, match="no pictures there"):
        plan_jobs([f"{photos}/*/a.png"], out)


def test_where_there_are_videos_alone_it_is_said_how_they_are_given(tmp_path: Path) -> None:
    assert [is_video_name(name) for name in ("a.mp4", "A.MOV", "a.y4m", "a.png", "mp4")] == [True] * 3 + [False] * 2
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "CLIP.MP4").write_bytes(b"x")
    with pytest.raises(InputFileError, match=r"no pictures there .*: videos are given by their names, such as .*CLIP"):
        plan_jobs([str(tmp_path / "clips")], tmp_path / "out")


@pytest.mark.parametrize("kinds", [8, 9])
def test_no_more_than_eight_kinds_are_counted(photos: Path, tmp_path: Path, kinds: int) -> None:
    (photos / "notes.txt").unlink()
    for k in range(kinds):
        (photos / f"x.kind{k}").write_bytes(b"x")
    notes: list[str] = []
    plan_jobs([str(photos)], tmp_path / "out", None, notes.append)
    assert notes[0].count(": 1 .kind") + notes[0].count(", 1 .kind") == 8
    assert notes[0].endswith(", and others") == (kinds == 9)


def test_links_in_a_circle_end_and_give_each_picture_once(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "deep/three"):
        (photos / name).symlink_to(photos)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "four").symlink_to(tmp_path / "elsewhere")
    out = tmp_path / "out"
    assert pairs([f"{photos}/**/*.[pP][nN][gG]"], out) == [
        ("a.png", "a.png"),
        ("c.PNG", "deep/er/c.PNG"),
        ("d.png", "four/d.png"),
    ]
    assert pairs([f"{photos}/**/**/a.png"], out) == [("a.png", "a.png")]
    assert pairs([f"{photos}/*/a.png"], out) == [("a.png", "one/a.png")], "by whichever link it comes first"
    notes: list[str] = []
    plan_jobs([f"{photos}/*/*"], out, None, notes.append)
    words = "left out 1 file that is no picture that can be read: 1 .txt"
    assert notes == [f"{photos}/*/*: {words}"], "counted once as well"
    assert pairs([str(photos)], out) == [("a.png", "a.png"), ("b.jpg", "b.jpg"), ("c.PNG", "deep/er/c.PNG")]
    assert pairs([str(photos / "a.png"), str(photos / "one" / "a.png")], out) == [("a.png", "a.png")]


def test_patterns_match_as_a_shell_does(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert pairs([f"{photos}/*/*/*"], out) == [("c.PNG", "deep/er/c.PNG")]
    assert pairs([f"{photos}/**"], out)[-1] == ("c.PNG", "deep/er/c.PNG")
    assert pairs([f"{photos}/d*/er/c.PNG"], out) == [("c.PNG", "deep/er/c.PNG")]
    assert pairs([f"{photos}/[!b].*"], out) == [("a.png", "a.png")]
    monkeypatch.chdir(photos)
    assert pairs(["*.png", "**/*.PNG"], out) == [("a.png", "a.png"), ("c.PNG", "deep/er/c.PNG")]


def test_formats_that_are_not_written_become_png_and_give_way(photos: Path, tmp_path: Path) -> None:
    for name in ("a.bmp", "a.gif", "d.BMP", "e.jfif", "f.avif"):
        (photos / name).write_bytes(b"x")
    found = dict(pairs([str(photos)], tmp_path / "out"))
    assert found["a.bmp"] == "a.bmp.png", "the name is taken by a.png"
    assert found["a.gif"] == "a.gif.png"
    assert (found["d.BMP"], found["e.jfif"], found["f.avif"]) == ("d.png", "e.jfif", "f.png")
    (photos / "a.png").unlink()
    webp = dict(pairs([str(photos)], tmp_path / "out", suffix=".webp"))
    assert (webp["a.bmp"], webp["a.gif"], webp["e.jfif"]) == ("a.webp", "a.gif.webp", "e.webp")


def test_one_name_for_two_pictures_does_not_stop_a_folder(photos: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "p.jpe", "p.jfif", "q.jpg", "q.png", "q.jpg.png"):
        (photos / name).write_bytes(b"x")
    found = dict(pairs([str(photos)], tmp_path / "out", suffix=".png"))
    assert (found["a.png"], found["a.jpg"], found["b.jpg"]) == ("a.png", "a.jpg.png", "b.png")
    assert (found["p.jfif"], found["p.jpe"]) == ("p.png", "p.jpe.png")
    assert (found["q.png"], found["q.jpg.png"], found["q.jpg"]) == ("q.png", "q.jpg.png", "q.jpg.2.png")
    assert len(set(found.values())) == len(found) == 9


def test_what_is_left_out_is_counted_by_kind(photos: Path, tmp_path: Path) -> None:
    for name in ("x.heic", "y.HEIC", "deep/z.mp4", "deep/README", "k\x1b[31m"):
        (photos / name).write_bytes(b"x")
    notes: list[str] = []
    plan_jobs(
        [str(photos), f"{photos}/*.png", f"{photos}/x*", str(photos / "a.png")][:2],
        tmp_path / "out",
        None,
        notes.append,
    )
    expected = "left out 6 files that are no pictures that can be read: 2 without suffix, 2 .heic, 1 .mp4, 1 .txt"
    assert notes == [f"{photos}: {expected}"]
    with pytest.raises(InputFileError, match=r"no pictures there .*\(1 file .*: 1 .heic\)"):
        plan_jobs([f"{photos}/x*"], tmp_path / "out")


def test_what_is_no_file_is_counted_among_what_is_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "pipe.png")
    notes: list[str] = []
    plan_jobs([str(photos)], tmp_path / "out", None, notes.append)
    plan_jobs([f"{photos}/*.png"], tmp_path / "out", None, notes.append)
    words = "files that are no pictures that can be read"
    assert notes[0].startswith(f"{photos}: left out 3 {words}: ")
    assert notes[1] == f"{photos}/*.png: left out 2 {words}: 1 link that leads nowhere, 1 pipe or device"
    assert sorted(notes[0].split(": ")[-1].split(", ")) == ["1 .txt", "1 link that leads nowhere", "1 pipe or device"]


def test_what_is_still_to_do_where_outputs_exist(photos: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([str(photos)], tmp_path / "out")
    assert still_to_do(jobs, None) == jobs
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.jpg").symlink_to(tmp_path / "nowhere")  # a link that leads nowhere is there
    with pytest.raises(
        OutputFileError, match=r"b\.jpg: exists already: pass `overwrite` to replace or `skip_existing`"
    ):
        still_to_do(jobs, None)
    assert still_to_do(jobs, "overwrite") == jobs
    assert still_to_do(jobs, "skip") == without_existing(jobs) == [jobs[0], jobs[2]]
