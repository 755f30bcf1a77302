"""A run's folder: nothing in it is written over, its log is continued where the checkpoint is, its best one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.errors import CheckpointError, InputFileError, OutputFileError
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.training.run_folder import COLUMNS, RunFolder, read_run

CARD = ModelCard("ConditionalNAFNet", {"width": 8}, 3, 4, "zero", MeanRevertingSDE(30, 20, "cosine", 0.02), steps=3)


@pytest.mark.parametrize("name", ["best.pt", "log.csv", "curve.png", "samples"])
def test_what_another_run_left_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(OutputFileError, match=f"{name}: exists already, from another run"):
        RunFolder.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputFileError, match="is a file; a run needs a folder"):
        RunFolder.create(tmp_path / name)


def test_a_log_is_continued_from_its_checkpoint_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for iteration in (1, 1_234_567, 1_234_568):
        folder.log(iteration=iteration, loss=0.125 * iteration, learning_rate=3e-5, seconds=1.5)
    text = folder.log_file.read_text()
    assert text.splitlines()[:2] == [",".join(COLUMNS), "1,0.125,3e-05,1.5" + "," * (len(COLUMNS) - 4)]
    with folder.log_file.open("ab") as file:
        file.write(b"1234569,0.1\xc3")  # a row that was cut off, in half a character
    folder.close()
    again = RunFolder.reopen(tmp_path, 1_234_567)
    assert [row["iteration"] for row in again.rows] == [1, 1_234_567]
    assert again.log_file.read_text() == "".join(text.splitlines(keepends=True)[:3])
    again.log(iteration=1_234_568, loss=2.0, learning_rate=3e-5, seconds=2.0)
    assert again.log_file.read_text().count("iteration") == 1, "its head stands once"
    again.close()
    assert not (tmp_path / "lock").exists()


def test_the_best_validation_is_the_first_of_the_highest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.best_validation() is None
    folder.log(iteration=1, loss=1.0)
    assert folder.best_validation() is None
    for iteration, psnr in ((2, 20.0), (3, 25.0), (4, 25.0), (5, 22.0)):
        folder.log(iteration=iteration, psnr=psnr)
    folder.close()
    assert folder.best_validation() == (3, 25.0)


def test_a_curve_is_drawn_of_whatever_was_logged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    sizes = []
    for values in ({"loss": 0.0}, {"loss": 0.5}, {"psnr": 0.0}):
        folder.log(iteration=1 + len(sizes), **values)
        folder.write_curve()
        sizes.append((tmp_path / "curve.png").read_bytes())
    folder.close()
    assert len(set(sizes)) == 3, "a loss, and then a PSNR of 0 dB, are drawn"


def test_a_checkpoint_is_for_whoever_uses_it_and_for_whoever_resumes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    training = {"plan": '{"a": 1}', "weights": {"w": torch.zeros(1)}, "iteration": 3}
    folder.save(folder.best, CARD, {"w": torch.ones(1)}, training)
    used = read_checkpoint(folder.best)
    assert (used.card, used.weights["w"].tolist()) == (CARD, [1.0])
    plan, state = read_run(folder.best)
    assert (plan, state["iteration"], state["weights"]["w"].tolist()) == ({"a": 1}, 3, [0.0])
    assert state["averaged"]["w"].tolist() == [1.0]
    with pytest.raises(InputFileError, match=r"no training run to resume there \(looked for .*last\.pt\)"):
        read_run(tmp_path)
    torch.save({"weights": {}, "training": {"plan": {"a": 1}}}, folder.last)
    with pytest.raises(CheckpointError, match=r"last\.pt: holds no training state: start anew"):
        read_run(tmp_path)
