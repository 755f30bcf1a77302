"""Verifying without an export: PyTorch's own engine against itself, with errors that are put in."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard, Restorer
from irsde_deploy.core.comparison import DIVERGENCE, Comparison, format_comparison
from irsde_deploy.core.pixels import to_network
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InvalidValueError, ParityError
from irsde_deploy.export.parity import Trajectory, compare_trajectories, reference_engine
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.networks.detection import NETWORKS
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.reports.parity import _allowed, format_trajectory, verify_engine, write_trajectory_csv
from irsde_deploy.runtimes.protocol import Engine
from irsde_deploy.system.files import file_sha256
from irsde_deploy.system.listener import Listener

SETTINGS = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1], "img_channel": 3}
THREE_STEPS = Sampling(sampler="mean", steps=3, seed=5)


class Off:
    """An engine that is off by a share of its values, or of those of batches alone."""

    name = "off"

    def __init__(self, engine: Engine, share: float, card: ModelCard | None = None, batches_alone: bool = False):
        self.engine, self.share, self.card, self.batches_alone = engine, share, card or engine.card, batches_alone

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        eps = self.engine(x, mu, t)
        return eps if self.batches_alone and len(x) == 1 else eps * np.float32(1 + self.share)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network of nine blocks' parts, random."""
    torch.manual_seed(0)
    network = NETWORKS["ConditionalNAFNet"](**SETTINGS)
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save({name: 0.15 * torch.randn_like(value) for name, value in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def engine(weights: Path) -> Engine:
    sde = MeanRevertingSDE(10, 100, "cosine", 0.005)
    sha256 = file_sha256(weights)
    card = ModelCard("ConditionalNAFNet", SETTINGS, 3, 2, "zero", sde, checkpoint_sha256=sha256)
    return reference_engine(card, read_checkpoint(weights))


Verify = Callable[..., tuple[Trajectory, list[str], list[str]]]


@pytest.fixture
def verify(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify an engine with some settings; gives the trajectory, the lines and the notes.

    Nothing is drawn, which takes a second each time: test_verify.py holds the plot against the command's.
    """
    monkeypatch.setattr("irsde_deploy.reports.parity.write_trajectory_plot", lambda *_: None)

    def verified(engine: Engine, **settings: object) -> tuple[Trajectory, list[str], list[str]]:
        lines: list[str] = []
        notes: list[str] = []
        listener = Listener(line=lines.append, note=notes.append)
        settings = {"sampling": THREE_STEPS, "against": weights, **settings}
        files = {"csv": tmp_path / "p.csv", "plot": tmp_path / "p.png"}
        return verify_engine(Restorer(engine), **files, **settings, listener=listener), lines, notes  # type: ignore[arg-type]

    return verified


def test_the_checkpoint_that_a_card_names_is_looked_at(engine: Engine, verify: Verify) -> None:
    """Of an engine that is PyTorch itself, every error is zero."""
    for sha256, noted in (("", False), (engine.card.checkpoint_sha256, False), ("0" * 64, True)):
        trajectory, lines, notes = verify(Off(engine, 0, replace(engine.card, checkpoint_sha256=sha256)))
        assert [note.endswith("(their SHA-256 differ)") for note in notes] == [True] * noted
        assert trajectory.t == [*engine.card.plan(THREE_STEPS).table.t.tolist(), 0]
        assert {step.max_abs for step in trajectory.steps} == {0}
        assert len(re.findall("^eps ", lines[0], re.MULTILINE)) == 4, "single evaluations are told as well"


@pytest.mark.parametrize("batches_alone", [True, False])
def test_what_is_out_of_tolerance_is_refused(engine: Engine, verify: Verify, batches_alone: bool) -> None:
    off = Off(engine, 0.002, batches_alone=batches_alone)
    with pytest.raises(ParityError, match=r"off differs from PyTorch: (eps|x_)"):
        verify(off, tolerance=0.1)
    if not batches_alone:
        with pytest.raises(ParityError, match=r"off differs from PyTorch: x_\d+ mean, 3 steps is off by .* 1e-06 is"):
            verify(Off(engine, 0.00001), tolerance=1e-6)


def test_int8_is_compared_along_its_trajectory_alone(engine: Engine, verify: Verify) -> None:
    first = int(engine.card.plan(THREE_STEPS).table.t[0])
    for calibrated, noted in (((first, 1), False), ((first - 1, 1), True)):
        card = replace(engine.card, precision="int8", calibrated=calibrated)
        trajectory, lines, notes = verify(Off(engine, 0.9, card, batches_alone=True))
        assert trajectory.passed
        assert not re.search("^eps ", lines[0], re.MULTILINE)
        assert [f"may be far off at t = {first}" in note for note in notes] == [True] * noted


def test_the_picture_that_is_given_is_compared_on(engine: Engine, verify: Verify, tmp_path: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    write_picture(tmp_path / "p.png", Picture(picture))
    off = Off(engine, 0.00001)
    found = verify(off, picture=tmp_path / "p.png")[0]
    expected = compare_trajectories(off, engine, THREE_STEPS, to_network(picture[None]))
    assert found.steps == expected.steps
    assert found.steps[-1].max_abs > 0
    assert verify(off)[0].steps != expected.steps
    latent = Off(engine, 0, replace(engine.card, value_range=None))
    with pytest.raises(InvalidValueError, match="this network works on 3-channel latents"):
        verify(latent, picture=tmp_path / "p.png")


def test_where_pytorch_diverges_is_told(engine: Engine, weights: Path, verify: Verify, tmp_path: Path) -> None:
    spoilt = {name: value * (1e9 if "ending" in name else 1) for name, value in torch.load(weights).items()}
    torch.save(spoilt, tmp_path / "w.pth")
    card = replace(engine.card, checkpoint_sha256="")
    wild = reference_engine(card, read_checkpoint(tmp_path / "w.pth"))
    trajectory, _, notes = verify(wild, against=tmp_path / "w.pth", sampling=replace(THREE_STEPS, sampler="ddim"))
    assert (len(trajectory.steps), notes) == (1, [DIVERGENCE])


def steps_of(count: int) -> Trajectory:
    steps = [Comparison(f"x_{count - k}", 0.2 * k, 0.1 * k, 0.3 * k, 60.0 - k, 10.0) for k in range(count + 1)]
    return Trajectory(steps, list(range(count, -1, -1)))


@pytest.mark.parametrize(
    ("count", "shown"), [(10, [9, 8, 6, 4, 2, 0]), (100, [99, 80, 60, 40, 20, 0]), (2, [2, 1, 0]), (1, [1, 0])]
)
def test_a_table_has_the_first_step_some_between_and_the_picture(count: int, shown: list[int]) -> None:
    trajectory = steps_of(count)
    lines = format_trajectory(trajectory).splitlines()
    assert lines[1:-1] == [format_comparison(trajectory.steps[count - t]) for t in shown]
    assert lines[-1] == f"largest error of any state: {count:.1f} times that after the first step"


def test_a_row_has_each_number_in_its_column(tmp_path: Path) -> None:
    write_trajectory_csv(steps_of(2), tmp_path / "p.csv")
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))
    assert rows == [
        ["t", "max_abs", "mean_abs", "relative", "psnr_db"],
        ["2", "0.0", "0.0", "0.0", "60.0"],
        ["1", "0.2", "0.1", "0.3", "59.0"],
        ["0", "0.4", "0.2", "0.6", "58.0"],
    ]


def test_what_is_allowed_is_drawn_as_an_absolute_error() -> None:
    assert _allowed(Comparison("x", 2.0, 1.0, 0.5, 30, 0.1)) == pytest.approx(0.4), "a tenth of the largest value, 4"
    assert np.isnan(_allowed(Comparison("x", 0, 0, 0, 99, 0.1)))
