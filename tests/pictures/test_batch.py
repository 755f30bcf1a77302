"""Which inputs become which outputs, and what a broken one does to the others (nothing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irsde_deploy.errors import EngineError, InputFileError, OutputFileError
from irsde_deploy.pictures.batch import Outcome, Tally, in_turn, restore_files
from irsde_deploy.pictures.planning import Job, plan_jobs, still_to_do, without_existing

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
    (photos / "a.jpg").write_bytes(b"")
    with pytest.raises(OutputFileError, match=r"a\.jpg.*a\.png.* would all become|a\.png.*a\.jpg.* would all become"):
        plan_jobs([str(photos)], tmp_path / "out", ".png")


def test_loops_of_links_are_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "y.png")
    (tmp_path / "y.png").symlink_to(tmp_path / "x.png")
    (outcome,) = restore_files(lambda p: p, plan_jobs([str(photos / "a.png")], tmp_path / "x.png"))
    assert outcome.error is None, "the link is replaced, as by any writer"
    with pytest.raises(InputFileError, match="no such file"):
        plan_jobs([str(tmp_path / "y2.png")], tmp_path / "out")


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
        "system": OSError(28, "No space left on device", "file:/full/disk"),
        "nameless": OSError("odd"),
        "short": ("was cut short",),
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
        "/full/disk: No space left on device",
        "nameless: odd",
        None,
        None,
    ]
    tally = Tally(skipped=2)
    for outcome in outcomes:
        tally.add(outcome)
    assert (tally.written, tally.failed, tally.skipped) == (1, 5, 2)


def test_a_reader_that_has_gone_ends_all() -> None:
    def restore(job: Job) -> Outcome:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        list(in_turn(restore, [Job(Path("a"), Path("out"))]))
