"""The margin that training chooses: by the errors at the border, and what becomes of the choice."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_pictures import write_photographs
from torch import Tensor, nn

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.export.sources import SettingsSource
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.pictures.metrics import RING
from irsde_deploy.training import session
from irsde_deploy.training.margins import CANDIDATES, MarginError, cheapest_sufficient, measured_until_good
from irsde_deploy.training.plan import DataPlan, TrainingPlan, make_plan
from irsde_deploy.training.processes import Process
from irsde_deploy.training.run import train
from irsde_deploy.training.run_folder import RunFolder, read_run
from irsde_deploy.training.validation import Example, margin_error, validate, validate_margins

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)
CARD = ModelCard("broken at the border", {}, 3, 1, "zero", SDE, sampler="mean", steps=2)
TINY = {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}


class BrokenAtTheBorder(nn.Module):
    """A network that restores by `clean` what is more than `reach` pixels from the border, and else is off by 0.25.

    Args:
        clean: the clean picture (1, C, H, W) that it knows; a margin around it is told by the size of x.
        reach: width in pixels of the border where it goes wrong.
    """

    def __init__(self, clean: Tensor, reach: int) -> None:
        super().__init__()
        self.clean, self.reach = clean, reach

    def forward(self, x: Tensor, mu: Tensor, t: Tensor) -> Tensor:
        margin = (x.shape[2] - self.clean.shape[2]) // 2
        clean = nn.functional.pad(self.clean, [margin] * 4, mode="reflect") if margin else self.clean
        error = torch.full_like(x, 0.25)
        error[:, :, self.reach : -self.reach, self.reach : -self.reach] = 0.02
        a, sigma = float(SDE.a[int(t[0])]), float(SDE.sigma[int(t[0])])
        return (x - mu - a * (clean + error - mu)) / sigma


def examples_and_network(reach: int) -> tuple[list[Example], nn.Module]:
    gt = np.random.default_rng(0).uniform(0.2, 0.6, (1, 3, 80, 80)).astype(np.float32)
    return [Example("a", np.clip(gt + 0.1, 0, 1), gt)], BrokenAtTheBorder(torch.from_numpy(gt), reach)


@pytest.mark.parametrize(("reach", "expected"), [(1, 8), (8, 8), (9, 16), (20, 32)])
def test_the_cheapest_margin_that_mends_the_border_is_chosen(reach: int, expected: int) -> None:
    """What a network spoils to a known depth, a margin as wide mends; wider ones are not even tried."""
    examples, network = examples_and_network(reach)
    found = validate_margins(lambda card: validate(network, card, examples, 25), CARD, None)
    assert found is not None
    results, margins = found
    assert margins.chosen.margin == expected
    assert [error.margin for error in margins.errors] == [m for m in CANDIDATES if m <= expected]
    assert margins.chosen.ring == pytest.approx(0.02 * 255, abs=0.3)
    depth = min(reach, RING)
    area = (80**2 - (80 - 2 * depth) ** 2) / (80**2 - 64**2)
    assert margins.errors[0].ring == pytest.approx((0.25 * area + 0.02 * (1 - area)) * 255, abs=0.5)
    assert results[0].after > 30, "what is kept is what was restored with the chosen margin"


def test_a_margin_that_was_said_is_the_only_one_measured() -> None:
    examples, network = examples_and_network(8)
    found = validate_margins(lambda card: validate(network, card, examples, 25), CARD, 4)
    assert found is not None
    assert [error.margin for error in found[1].errors] == [4]
    assert found[1].chosen.ring > 2 * found[1].chosen.interior


def test_the_choice_from_known_errors() -> None:
    def chosen(*rings: float) -> int:
        errors = [MarginError(margin, ring, 10.0) for margin, ring in zip(CANDIDATES, rings, strict=True)]
        return cheapest_sufficient(errors).margin

    assert chosen(69, 20, 11, 10.9) == 16, "as good as the interior, to a tenth of it"
    assert chosen(69, 40, 30.9, 30) == 16, "none is: then what is no worse than the best, to a twentieth"
    assert chosen(30.9, 31, 31, 30) == 0, "none helps: then none is wanted"
    assert chosen(11, 10, 10, 10) == 0
    errors = [MarginError(margin, 50.0 / (1 + margin), 10.0) for margin in CANDIDATES]
    assert measured_until_good(lambda margin: errors[CANDIDATES.index(margin)]) == errors[:2]
    assert measured_until_good(lambda margin: None if margin else errors[0]) is None


def test_examples_without_an_interior_tell_nothing() -> None:
    small = [Example("s", np.zeros((1, 3, 16, 16), np.float32), np.zeros((1, 3, 16, 16), np.float32))]
    network = BrokenAtTheBorder(torch.zeros(1, 3, 16, 16), 3)
    results = validate(network, CARD, small, 25)
    assert results is not None
    assert results[0].interior is None
    assert margin_error(0, results).as_good


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def plan(photographs: Path, said: int | None = None, **settings: object) -> TrainingPlan:
    values = {"max_sigma": 30, "T": 20, "schedule": "cosine", "eps": 0.02, "steps": 2}
    if said is not None:
        values["margin"] = said
    source = SettingsSource("test", values, ("ConditionalNAFNet", TINY), binding=False)
    data = DataPlan(str(photographs), degradation={"kind": "rain"}, side=32)
    few = {"batch": 2, "patch": 16, "iterations": 4, "validate_every": 2, "save_every": 1, **settings}
    return make_plan([source], data, few, None)


def test_the_chosen_margin_is_in_checkpoints_log_and_memory(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 at the first validation, 8 at the second; between them, and in a resumed run, it is the latest one's."""
    rings = {2: (90.0, 80.0, 9.0, 9.0), 4: (90.0, 9.0, 9.0, 9.0)}
    whole = session.validate_margins

    def known(restored_with: object, card: ModelCard, margin: int | None) -> object:
        found = whole(restored_with, card, 0)
        assert found is not None
        errors = [MarginError(m, ring, 10.0) for m, ring in zip(CANDIDATES, rings[next(turn)], strict=True)]
        return found[0], session.Margins.of(errors)

    turn = iter([2, 4])
    monkeypatch.setattr(session, "validate_margins", known)
    run = tmp_path / "run"
    told: list[str] = []
    train(plan(photographs), run, Process(), stop_at=3, on_progress=lambda state: told.append(str(state.margins)))
    assert margin_of(run / "last.pt") == margin_of(run / "best.pt") == 16
    saved, state = read_run(run)
    assert state["tally"]["margin"] == 16
    train(TrainingPlan.from_dict(saved), run, Process(), resumed=state)
    assert margin_of(run / "last.pt") == 8
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["psnr"]]
    assert [(row["margin"], row["ring"], row["interior"], row["ring_0"]) for row in rows] == [
        ("16", "9", "10", "90"),
        ("8", "9", "10", "90"),
    ]
    assert told[1].startswith("mean error of 255 at the border: margin 0: ring 90.0, interior 10.0; margin 8: ")
    assert told[1].endswith(": margin 16")
    sheet = read_picture(run / "samples" / "0000002.png").rgb
    assert sheet[:20].max() > 200, "a line of text above the pictures"


def margin_of(path: Path) -> int:
    card = read_checkpoint(path).card
    assert card is not None
    return card.margin


@pytest.mark.parametrize("how", ["recipe or flag", "set"])
def test_a_margin_that_is_said_is_kept(how: str, photographs: Path, tmp_path: Path) -> None:
    made = plan(photographs, said=12) if how != "set" else plan(photographs, margin=12)
    train(made, tmp_path / "run", Process())
    assert margin_of(tmp_path / "run" / "last.pt") == 12
    assert TrainingPlan.from_dict(read_run(tmp_path / "run")[0]).settings.margin == 12
    with pytest.raises(InvalidValueError, match="margin must be from 0 to 256, not 300"):
        plan(photographs, margin=300)


def test_an_initial_checkpoints_margin_is_measured_anew(photographs: Path, tmp_path: Path) -> None:
    """It stands until the first validation, and does not bind that."""
    train(plan(photographs, said=12), tmp_path / "first", Process())
    initial = read_checkpoint(tmp_path / "first" / "last.pt")
    data = DataPlan(str(photographs), degradation={"kind": "rain"}, side=32)
    again = make_plan([], data, {"batch": 2, "patch": 16, "iterations": 2, "validate_every": 2}, initial)
    assert (again.card.margin, again.settings.margin) == (12, None)


def test_the_log_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    lines = "iteration,loss,learning_rate,seconds,psnr\n50,0.2,0.001,3.5,\n100,0.1,0.001,7,21.5\n"
    (tmp_path / "log.csv").write_text(lines)
    rows = RunFolder.reopen(tmp_path, 100).rows
    assert [(row["loss"], row["psnr"], row["margin"]) for row in rows] == [(0.2, None, None), (0.1, 21.5, None)]


def test_cards_differ_by_the_margin_alone(photographs: Path) -> None:
    examples, network = examples_and_network(8)
    seen: list[ModelCard] = []

    def noted(card: ModelCard) -> object:
        seen.append(card)
        return validate(network, card, examples, 25)

    validate_margins(noted, CARD, None)  # type: ignore[arg-type]
    assert seen == [replace(CARD, margin=margin) for margin in (0, 8)]
