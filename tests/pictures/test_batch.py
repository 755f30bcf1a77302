"""Many pictures in turn: which are restored together, what is written and told, what a broken one does to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irsde_deploy.errors import DiskFullError, EngineError, InputFileError
from irsde_deploy.pictures.batch import Outcome, Tally, in_turn, restore_files
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.formats.metadata import Metadata
from irsde_deploy.pictures.planning import Job, plan_jobs
from irsde_deploy.system.files import not_writable

RNG = np.random.default_rng(0)


def test_loops_of_links_are_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "y.png")
    (tmp_path / "y.png").symlink_to(tmp_path / "x.png")
    (outcome,) = restore_files(lambda p: p, plan_jobs([str(photos / "a.png")], tmp_path / "x.png"))
    assert outcome.error is None, "the link is replaced, as by any writer"
    with pytest.raises(InputFileError, match="no such file"):
        plan_jobs([str(tmp_path / "y2.png")], tmp_path / "out")


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


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_batch_is_as_large_as_was_asked_for(tmp_path: Path, batch: int) -> None:
    (tmp_path / "in").mkdir()
    for k in range(5):
        cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), np.full((4, 4, 3), k, np.uint8))
    seen: list[list[int]] = []

    def restore(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures[:, 0, 0, 0].tolist())
        return pictures

    outcomes = list(restore_files(restore, plan_jobs([str(tmp_path / "in")], tmp_path / "out"), batch))
    assert seen == [list(range(5))[at : at + batch] for at in range(0, 5, batch)]
    assert [outcome.job.source.name for outcome in outcomes] == [f"{k}.png" for k in range(5)]


def test_what_is_beside_the_colours_comes_through_and_losses_and_notes_are_told(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (8, 9, 1), dtype=np.uint8).repeat(3, 2)
    text = Metadata(chunks=((b"tEXt", b"Title\0A picture"),))
    write_picture(tmp_path / "grey.png", Picture(grey, grey=True, metadata=text))
    content = (tmp_path / "grey.png").read_bytes()
    (tmp_path / "grey.png").write_bytes(content[:-12])  # without IEND
    write_picture(tmp_path / "alpha.png", Picture(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8), alpha=grey[:, :, 0]))
    inputs = [str(tmp_path / name) for name in ("alpha.png", "grey.png")]
    kept = list(restore_files(lambda pictures: pictures, plan_jobs(inputs, tmp_path / "out"), batch=2))
    np.testing.assert_array_equal(read_picture(tmp_path / "out" / "alpha.png").alpha, grey[:, :, 0])
    written = read_picture(tmp_path / "out" / "grey.png")
    assert (written.grey, written.metadata) == (True, text)
    note = "its end is missing (no IEND), and its pixels are whole"
    assert [(outcome.lost, outcome.notes) for outcome in kept] == [((), ()), ((), (note,))]
    lossy = list(restore_files(lambda pictures: pictures, plan_jobs(inputs, tmp_path / "out", ".jpg"), batch=2))
    assert [outcome.lost for outcome in lossy] == [("its alpha channel",), ("its text",)]


def test_what_cannot_be_written_is_not_restored(tmp_path: Path) -> None:
    write_picture(tmp_path / "wide.png", Picture(np.zeros((1, 16_384, 3), np.uint8)))
    restored: list[np.ndarray] = []
    (outcome,) = restore_files(
        lambda pictures: restored.append(pictures) or pictures,
        plan_jobs([str(tmp_path / "wide.png")], tmp_path / "out.webp"),
    )
    assert "out.webp: .webp holds sides of up to 16383 pixels, not 16384" in str(outcome.error)
    assert restored == []


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
    assert [outcome.job.source.name for outcome in outcomes] == ["a.png", "b.jpg", "c.PNG"]
    assert [outcome.error for outcome in outcomes][:2] == [None, None]
    assert "c.PNG: not enough memory" in str(outcomes[2].error)


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
