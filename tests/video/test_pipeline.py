"""The three-stage pipeline: order, bounds, errors, interrupts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from irsde_deploy.video.pipeline import in_batches, run_pipeline


def test_everything_arrives_in_order() -> None:
    results: list[int] = []
    run_pipeline(range(50), lambda n: n * n, results.append)
    assert results == [n * n for n in range(50)]


@pytest.mark.parametrize("slow", ["work", "sink"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_slow_stage_holds_the_source_back(slow: str, depth: int) -> None:
    taken, most, done = 0, 0, 0

    def source() -> Iterator[int]:
        nonlocal taken, most
        for n in range(30):
            taken += 1
            most = max(most, taken - done)
            yield n

    def work(n: int) -> int:
        time.sleep(0.003 if slow == "work" else 0)
        return n

    def sink(n: int) -> None:
        nonlocal done
        time.sleep(0.003 if slow == "sink" else 0)
        done += 1

    run_pipeline(source(), work, sink, depth)
    bound = 2 * depth + 3  # two queues, and one item in each stage's hands
    assert done == 30
    assert most <= bound


def test_the_stages_work_at_the_same_time() -> None:
    inside = threading.Barrier(3, timeout=10)  # passes only if all three stages wait at it at once

    def meeting(n: int) -> int:
        if n == 0:
            inside.wait()
        return n

    def source() -> Iterator[int]:
        yield 0
        yield 1
        inside.wait()
        yield 2

    run_pipeline(source(), lambda n: meeting(n - 1) + 1, lambda n: meeting(n) and None)


def test_an_error_of_the_source_comes_after_what_was_before_it() -> None:
    results: list[int] = []

    def source() -> Iterator[int]:
        yield from range(5)
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        run_pipeline(source(), lambda n: n, results.append)
    assert results == list(range(5))
    assert [*_until_torn(in_batches(source(), 2))] == [[0, 1], [2, 3], [4]]


def _until_torn(batches: Iterator[list[int]]) -> Iterator[list[int]]:
    with pytest.raises(ValueError, match="torn"):
        yield from batches


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_work_lets_the_sink_finish_and_closes_the_source(error: type[BaseException]) -> None:
    results, closed = [], threading.Event()

    def source() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            closed.set()

    def work(n: int) -> int:
        if n == 7:
            raise error
        return n

    def sink(n: int) -> None:
        time.sleep(0.01)
        results.append(n)

    with pytest.raises(error):
        run_pipeline(source(), work, sink)
    assert results == list(range(7))
    assert closed.wait(1)


def test_an_error_of_the_sink_ends_a_source_that_waits_for_ever() -> None:
    never = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        never.wait(20)

    def sink(n: int) -> None:
        raise BrokenPipeError

    started = time.monotonic()
    with pytest.raises(BrokenPipeError):
        run_pipeline(source(), lambda n: n, sink, patience=0.1)
    assert time.monotonic() - started < 5
    never.set()


def test_an_error_of_the_sink_ends_work_that_waits_for_room() -> None:
    """The first item is with the sink, the second before it; the third finds no room when the sink fails."""
    third, raised = threading.Event(), list[type[BaseException]]()

    def work(n: int) -> int:
        if n == 2:
            third.set()
        return n

    def sink(n: int) -> None:
        third.wait(10)
        raise BrokenPipeError

    def run() -> None:
        try:
            run_pipeline(range(9), work, sink, depth=1)
        except BrokenPipeError as error:
            raised.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert raised == [BrokenPipeError]


def test_batches_can_be_left_in_the_middle() -> None:
    batches = in_batches(range(9), 2)
    assert next(batches) == [0, 1]
    batches.close()


def test_a_sink_that_never_returns_does_not_hold_an_interrupt_up() -> None:
    never = threading.Event()

    def work(n: int) -> int:
        if n == 2:
            raise KeyboardInterrupt
        return n

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(range(9), work, lambda n: never.wait(20) and None, depth=1, patience=0.1)
    assert time.monotonic() - started < 5
    never.set()


def test_no_thread_stays() -> None:
    before = set(threading.enumerate())
    run_pipeline(range(5), lambda n: n, lambda n: None)
    assert set(threading.enumerate()) <= before
