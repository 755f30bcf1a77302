"""Which inputs become which outputs, and what a broken one does to the others (nothing)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irsde_deploy.errors import DiskFullError, EngineError, InputFileError, OutputFileError
from irsde_deploy.pictures.batch import Outcome, Tally, in_turn, restore_files
from irsde_deploy.pictures.planning import Job, plan_jobs, still_to_do, without_existing
from irsde_deploy.system.files import not_writable

RNG = np.random.default_rng(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/a.png, photos/b.jpg, photos/deep/er/c.PNG, and things that are no pictures."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for name, size in (("a.png", 16), ("b.jpg", 16), ("deep/er/c.png", 24)):
        cv2.imwrite(str(folder / name), RNG.integers(0, 256, (size, 20, 3), dtype=np.uint8))
    (folder / "deep" / "er" / "c.png").rename(folder / "deep" / "er" / "c.PNG")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


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


def test_loops_of_links_are_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "y.png")
    (tmp_path / "y.png").symlink_to(tmp_path / "x.png")
    (outcome,) = restore_files(lambda p: p, plan_jobs([str(photos / "a.png")], tmp_path / "x.png"))
    assert outcome.error is None, "the link is replaced, as by any writer"
    with pytest.raises(InputFileError, match="no such file"):
        plan_jobs([str(tmp_path / "y2.png")], tmp_path / "out")


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


def test_sixteen_and_eight_bit_pictures_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    kept = {}
    for name, dtype in (("a", np.uint8), ("b", np.uint16), ("c", np.uint16), ("d", np.uint8)):
        kept[name] = RNG.integers(0, 256, (8, 9, 3)).astype(dtype)
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), kept[name])
    seen: list[tuple[Any, int]] = []

    def restore(pictures: np.ndarray) -> np.ndarray:
        seen.append((pictures.dtype, len(pictures)))
        return pictures

    list(restore_files(restore, plan_jobs([str(tmp_path / "in")], tmp_path / "out"), batch=4))
    assert seen == [(np.uint8, 1), (np.uint16, 2), (np.uint8, 1)]
    for name, picture in kept.items():
        written = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, picture)


def test_neighbours_of_one_size_are_batched_in_order(photos: Path, tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    def invert(pictures: np.ndarray) -> np.ndarray:
        sizes.append(pictures.shape)
        return 255 - pictures

    jobs = plan_jobs([str(photos)], tmp_path / "out", ".png")
    outcomes = list(restore_files(invert, jobs, batch=4))
    assert sizes == [(2, 16, 20, 3), (1, 24, 20, 3)]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    for job in jobs:
        np.testing.assert_array_equal(cv2.imread(str(job.target)), 255 - cv2.imread(str(job.source)))


def test_a_broken_picture_is_reported_and_the_rest_goes_on(photos: Path, tmp_path: Path) -> None:
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:200])
    jobs = plan_jobs([str(photos)], tmp_path / "out")
    outcomes = {outcome.job.source.name: outcome.error for outcome in restore_files(lambda p: p, jobs, batch=3)}
    assert outcomes.pop("aa.png", "").startswith(f"{photos / 'aa.png'}: the picture is damaged")
    assert outcomes == {"a.png": None, "b.jpg": None, "c.PNG": None}
    assert not (tmp_path / "out" / "aa.png").exists()


def test_what_fails_as_a_batch_is_tried_alone(photos: Path, tmp_path: Path) -> None:
    def small_memory(pictures: np.ndarray) -> np.ndarray:
        if len(pictures) > 1:
            raise EngineError("out of memory")
        if pictures.shape[1] == 24:
            raise MemoryError
        return pictures

    outcomes = list(restore_files(small_memory, plan_jobs([str(photos)], tmp_path / "out"), batch=8))
    assert [outcome.error for outcome in outcomes][:2] == [None, None]
    assert "c.PNG: not enough memory" in str(outcomes[2].error)


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


def test_one_of_many_never_stops_the_others() -> None:
    failures: dict[str, Exception | tuple[str, ...]] = {
        "ours": InputFileError("ours: no video stream"),
        "mute": MemoryError(),
        "system": OSError(5, "Input/output error", "file:/bad/disk"),
        "nameless": OSError("odd"),
        "short": ("was cut short",),
        "unforeseen": TypeError("unexpected 'str'"),
        "recursive": RecursionError("maximum recursion depth exceeded"),
        "engine": EngineError("the engine failed"),
        "library": RuntimeError("std::bad_alloc"),
    }

    def restore(job: Job) -> Outcome:
        failure = failures.get(job.source.name, ())
        if isinstance(failure, Exception):
            raise failure
        return Outcome(job, missing=failure)

    outcomes = list(in_turn(restore, [Job(Path(name), Path("out")) for name in [*failures, "good"]]))
    assert [outcome.error for outcome in outcomes] == [
        "ours: no video stream",
        "mute: not enough memory for frames of this size",
        "/bad/disk: Input/output error",
        "nameless: odd",
        None,
        "unforeseen: internal error, please report it (TypeError: unexpected 'str'); IRSDE_DEBUG=1 shows where",
        "recursive: internal error, please report it (RecursionError: maximum recursion depth exceeded); "
        "IRSDE_DEBUG=1 shows where",
        "engine: the engine failed",
        "library: not enough memory for frames of this size",
        None,
    ]
    tally = Tally(skipped=2)
    for outcome in outcomes:
        tally.add(outcome)
    assert (tally.written, tally.failed, tally.skipped) == (1, 9, 2)


def _interrupted() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise ImportError("a library's word for it") from None


_FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt(), _FULL, not_writable(Path("a.png"), _FULL)])
def test_what_concerns_all_ends_all(error: BaseException) -> None:
    def restore(job: Job) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        list(in_turn(restore, [Job(Path("a"), Path("out"))]))


def test_a_full_disk_ends_all_and_leaves_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        if path.name.startswith(".b"):
            raise _FULL
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    out = tmp_path / "out"
    with pytest.raises(DiskFullError, match=r"b\.jpg: cannot be written \(No space left on device\): free some space"):
        list(restore_files(lambda pictures: pictures, plan_jobs([str(photos)], out)))
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["a.png"]


def test_an_interrupt_is_one_whatever_a_library_makes_of_it() -> None:
    def restore(job: Job) -> Outcome:
        _interrupted()
        return Outcome(job)

    with pytest.raises(KeyboardInterrupt):
        list(in_turn(restore, [Job(Path("a"), Path("out"))]))


@pytest.mark.parametrize("where", ["reading", "restoring", "writing"])
def test_nothing_that_one_picture_does_stops_the_others(
    photos: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from irsde_deploy.pictures import batch as batches

    def failing(work: Any, at: int) -> Any:
        def called(*arguments: Any) -> Any:
            if "b.jpg" in str(arguments[at]):
                raise AssertionError("nobody has foreseen this")
            return work(*arguments)

        return called

    def restore(pictures: np.ndarray) -> np.ndarray:
        if where == "restoring" and pictures.shape[1] == 24:
            raise AssertionError("nobody has foreseen this")
        return pictures

    if where != "restoring":
        name = {"reading": "read_picture", "writing": "write_picture"}[where]
        monkeypatch.setattr(batches, name, failing(getattr(batches, name), 0))
    outcomes = list(restore_files(restore, plan_jobs([str(photos)], tmp_path / "out"), batch=2))
    failed = [outcome for outcome in outcomes if outcome.failed]
    assert len(failed) == 1
    assert "(AssertionError: nobody has foreseen this)" in str(failed[0].error)
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 2
