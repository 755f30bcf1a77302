"""What follows each iteration: rows of the log, validations, the best checkpoint, and what ends a run."""

from __future__ import annotations

import csv
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from sample_pictures import write_photographs

from irsde_deploy.errors import InvalidValueError, OutputFileError
from irsde_deploy.export.sources import SettingsSource
from irsde_deploy.training import session
from irsde_deploy.training.data import Batch, TrainingSamples
from irsde_deploy.training.plan import DataPlan, TrainingPlan, make_plan
from irsde_deploy.training.processes import Process
from irsde_deploy.training.run import Ending, train
from irsde_deploy.training.run_folder import RunFolder, read_run
from irsde_deploy.training.session import DivergedError, RunMemory
from irsde_deploy.training.trainer import Trainer

NETWORK = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
VALUES = {"max_sigma": 30, "T": 4, "schedule": "cosine", "eps": 0.02, "steps": 1, "margin": 0}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"), 2)


def plan(photographs: Path, iterations: int, **settings: object) -> TrainingPlan:
    source = SettingsSource("test", VALUES, ("ConditionalNAFNet", NETWORK), binding=False)
    data = DataPlan(str(photographs), degradation={"kind": "gaussian-noise"}, side=16)
    few = {"batch": 2, "patch": 8, "warmup": 3, "learning_rate": 1e-3, "validate_every": 100, "save_every": 100}
    return make_plan([source], data, {**few, "iterations": iterations, **settings}, None)


def log_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def iteration_of(path: Path) -> int:
    return int(read_run(path)[1]["iteration"])


def test_a_row_has_the_mean_loss_since_the_one_before_and_the_rate_of_its_iteration(
    photographs: Path, tmp_path: Path
) -> None:
    told: list[float] = []
    train(plan(photographs, 5, log_every=1), tmp_path / "each", Process())
    few = plan(photographs, 5, log_every=3)
    train(few, tmp_path / "third", Process(), on_progress=lambda progress: told.append(progress.loss))
    losses = [row["loss"] for row in log_of(tmp_path / "each")]
    rows = log_of(tmp_path / "third")
    assert [row["iteration"] for row in rows] == [3, 5], "the last iteration has a row, whatever its number"
    assert [row["loss"] for row in rows] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 2], rel=1e-6)
    assert told == pytest.approx([losses[0], sum(losses[:2]) / 2, sum(losses[:3]) / 3, losses[3], sum(losses[3:]) / 2])
    rates = [few.settings.learning_rate_at(iteration - 1) for iteration in (3, 5)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert "psnr" in rows[1], "and is validated"
    assert "psnr" not in rows[0]
    assert (tmp_path / "third" / "samples" / "0000005.png").exists()
    assert (iteration_of(tmp_path / "third"), iteration_of(tmp_path / "third" / "best.pt")) == (5, 5)


def test_the_best_validation_is_kept_through_worse_and_equal_ones_and_a_pause(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decibels = iter([20.0, 23.0, 21.0, 23.0, 22.0])
    monkeypatch.setattr(session, "mean_psnr", lambda results: next(decibels))
    folder = tmp_path / "run"
    every = plan(photographs, 5, validate_every=1)
    assert train(every, folder, Process(), stop_at=3) is Ending.STOPPED
    assert iteration_of(folder / "best.pt") == 2
    saved, state = read_run(folder)
    assert train(TrainingPlan.from_dict(saved), folder, Process(), resumed=state) is Ending.COMPLETE
    assert iteration_of(folder / "best.pt") == 2
    assert RunFolder(folder).best_validation() == (2, 23.0)
    assert [row["psnr"] for row in log_of(folder)] == [20, 23, 21, 23, 22]
    assert read_run(folder)[1]["tally"]["psnr"] == 22


def test_batches_are_of_the_samples_that_the_settings_ask_for(photographs: Path, tmp_path: Path) -> None:
    settings = {"flip": False, "start_share": 0.5, "seed": 9}
    opened = session.Session.open(plan(photographs, 8, **settings), tmp_path / "run", Process(), None, None, "cpu")
    samples = TrainingSamples(opened.pairs, 8, opened.plan.card.sde, 9, flip=False, rotate=True, start_share=0.5)
    loader = opened.loader(0, None)
    assert len(loader) == 8
    for number, given in enumerate(loader):
        for row, sample in enumerate((samples[2 * number], samples[2 * number + 1])):
            for name, value in sample._asdict().items():
                assert torch.equal(getattr(given, name)[row], value), name
    opened.folder.close()


def test_time_adds_up_over_the_processes_that_continue_a_run() -> None:
    memory = RunMemory(loss=6.0, count=4, seconds=100.0)
    assert memory.mean == 1.5
    assert RunMemory().mean == 0
    assert 100 <= memory.elapsed < 200
    state = memory.state()
    assert 100 <= state["seconds"] < 200
    assert "started" not in state
    late = RunMemory(seconds=50.0, started=memory.started - 1000)
    assert late.elapsed > 1050
    assert late.state()["seconds"] > 1050


def test_a_run_is_saved_every_so_many_iterations(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    saved: list[int] = []
    train(
        plan(photographs, 5, save_every=2), folder, Process(), on_progress=lambda _: saved.append(iteration_of(folder))
    )
    assert saved == [0, 2, 2, 4, 5], "at first, too: whatever happens, there is a checkpoint"


@pytest.mark.parametrize("how", ["loss", "averages"])
def test_a_run_that_diverges_keeps_its_last_checkpoint(
    how: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.step

    def step(self: Trainer, batch: Batch) -> float:
        loss = original(self, batch)
        if self.iteration < 4:
            return loss
        if how == "loss":
            return math.inf
        with torch.no_grad():
            next(self.averaged.parameters()).fill_(math.inf)
        return loss

    monkeypatch.setattr(Trainer, "step", step)
    folder = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"diverged at iteration 4; .*last\.pt holds iteration 2: start"):
        train(plan(photographs, 6, save_every=2), folder, Process())
    assert iteration_of(folder) == 2
    assert not (folder / "lock").exists()


@pytest.mark.parametrize(("at", "ending"), [(2, Ending.INTERRUPTED), (3, Ending.COMPLETE)])
def test_an_interrupt_in_the_last_iteration_leaves_a_complete_run(
    at: int, ending: Ending, photographs: Path, tmp_path: Path
) -> None:
    def interrupt(progress: session.TrainingProgress) -> None:
        if progress.iteration == at:
            os.kill(os.getpid(), signal.SIGINT)

    assert train(plan(photographs, 3), tmp_path / "run", Process(), on_progress=interrupt) is ending
    assert iteration_of(tmp_path / "run") == at


def test_nothing_is_begun_where_nothing_is_left_to_do(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(plan(photographs, 4), folder, Process(), stop_at=2)
    saved, state = read_run(folder)
    before = (folder / "last.pt").read_bytes()
    for stop_at in (1, 2):
        with pytest.raises(InvalidValueError, match="2 iterations are done: give a larger `stop_at`"):
            train(TrainingPlan.from_dict(saved), folder, Process(), resumed=state, stop_at=stop_at)
    for planned in (1, 2):
        with pytest.raises(InvalidValueError, match="2 iterations are done: give a larger `iterations`"):
            train(TrainingPlan.from_dict(saved, iterations=planned), folder, Process(), resumed=state)
    assert not (folder / "lock").exists()
    assert (folder / "last.pt").read_bytes() == before
    with pytest.raises(OutputFileError, match="holds a training run already: `resume`"):
        train(plan(photographs, 4), folder, Process())
