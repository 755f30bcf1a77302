"""Which samples each process takes in which iteration, and what an interrupt does to the iteration at hand."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from irsde_deploy import MeanRevertingSDE
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.training.data import TrainingSamples
from irsde_deploy.training.iterations import batches, interrupts_noted
from irsde_deploy.training.processes import Process
from irsde_deploy.training.settings import TrainingSettings

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)


def numbers(start: int, process: Process, stop_at: int | None = None) -> list[list[int]]:
    """The samples of each batch that is left, of 4 samples each, in a run of 5 iterations."""
    samples = TrainingSamples([], 8, SDE, 0)  # type: ignore[arg-type] # none of them is read
    sampler = batches(samples, TrainingSettings(iterations=5, batch=4), start, process, stop_at=stop_at).batch_sampler
    assert sampler is not None
    made = list(sampler)
    assert len(made) == len(sampler)  # type: ignore[arg-type]
    return made


def test_a_batch_is_the_same_samples_in_any_number_of_processes() -> None:
    alone = numbers(3, Process())
    assert alone == [[12, 13, 14, 15], [16, 17, 18, 19]]
    first, second = (numbers(3, Process(rank, 2)) for rank in (0, 1))
    assert [one + other for one, other in zip(first, second, strict=True)] == alone


def test_a_run_stops_where_it_is_asked_to_or_at_its_end() -> None:
    assert len(numbers(1, Process(), stop_at=2)) == 1
    assert len(numbers(1, Process(), stop_at=9)) == 4


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a batch of 4 cannot be shared equally by 3 processes"):
        numbers(0, Process(0, 3))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_first_interrupt_is_noted_a_second_one_does_what_it_did_before(name: str) -> None:
    number = getattr(signal, name)
    heard = []
    before = signal.signal(number, lambda signum, frame: heard.append(signum))
    mine = signal.getsignal(number)
    try:
        with interrupts_noted() as noted:
            assert not noted.is_set()
            os.kill(os.getpid(), number)
            assert (noted.is_set(), heard) == (True, [])
            os.kill(os.getpid(), number)
            assert heard == [number]
        assert signal.getsignal(number) is mine
        with interrupts_noted():
            pass
        assert signal.getsignal(number) is mine, "where none came, too"
    finally:
        signal.signal(number, before)


def test_a_thread_trains_without_hearing_of_interrupts() -> None:
    noted = []

    def work() -> None:
        with interrupts_noted() as event:
            noted.append(event.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [False]
