"""A plan travels in a checkpoint, and nothing but a whole one is read again; settings are read as people write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import changed, hostile_json

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.errors import CheckpointError, InvalidValueError
from irsde_deploy.training.plan import DataPlan, TrainingPlan, initial_network
from irsde_deploy.training.run_folder import read_run
from irsde_deploy.training.settings import TrainingSettings, training_settings

CARD = ModelCard("ConditionalNAFNet", {"width": 8}, 3, 4, "zero", MeanRevertingSDE(30, 20, "cosine", 0.02), steps=3)
DATA = DataPlan("/clean", degradation={"kind": "rain", "layers": [1, 4]}, hold_out=("a", "b"), noise_level=25)
PLAN = TrainingPlan(CARD, TrainingSettings(milestones=(5, 9), learning_rate=1), DATA)


def test_a_plan_comes_back_as_it_was_written() -> None:
    text = PLAN.to_json()
    assert TrainingPlan.from_dict(json.loads(text)).to_json() == text
    assert TrainingPlan.from_dict(json.loads(text), iterations=7).settings.iterations == 7
    assert '"noise_level": 25,' in text


@pytest.mark.parametrize("whole", ["data.side", "settings.batch"])
def test_hostile_plans_are_one_sentence(whole: str, tmp_path: Path) -> None:
    good = json.loads(PLAN.to_json())
    for content, words in hostile_json(good, whole):
        torch.save({"training": {"plan": content.decode()}, "weights": {}}, tmp_path / "last.pt")
        with pytest.raises((InvalidValueError, CheckpointError), match=words) as raised:
            TrainingPlan.from_dict(read_run(tmp_path)[0])
        assert len(str(raised.value)) < 700


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("data", None, "data must be an object .names with values., not None"),
        (
            "data.colour",
            "red",
            "data in the checkpoint's training plan has the unknown field 'colour': start a new run",
        ),
        ("data.gt", None, "in the checkpoint's training plan, data.gt must be text, not None"),
        ("data.gt", "", "folders and pictures must have names"),
        ("data.gt", "a\0b", "folders and pictures must have names"),
        ("data.hold_out", "a", "data.hold_out must be a list, not 'a'"),
        ("data.degradation", {"kind": "snow"}, "degradation must be one of rain"),
        ("data.degradation", {}, "degradation must be one of rain"),
        ("data.noise_level", 256, "the noise level must be above 0 and at most 255, not 256"),
        ("data.noise_level", True, "data.noise_level must be a number, not True"),
        ("data.validation_lq", "/v", "validation folders must be like the training's"),
        ("data.validation_gt", "/v", "held out .`hold_out`. or in folders .`validation_gt`., not both"),
        ("card", [], "the model card must be an object"),
        ("card.sde", {}, "SDE is of kind None"),
        ("settings", [], "settings must be an object"),
        ("settings.batch", "4", "settings.batch must be a whole number, not '4'"),
        ("settings.batch", 0, "batch must be from 1 to 65536, not 0"),
        ("settings.speed", 3, "the unknown field 'speed': start a new run from its weights with `init`"),
        ("settings.patch", 18, "patch must be a multiple of 4"),
    ],
)
def test_plans_of_another_form(where: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        TrainingPlan.from_dict(changed(json.loads(PLAN.to_json()), where, value))


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("card.network", "Another", "Another is not a score network that can be run"),
        ("card.settings", {"width": 8}, "ConditionalNAFNet cannot be built with"),
        (
            "card.settings",
            {"width": 8, "enc_blk_nums": ["x"], "middle_blk_num": 1, "dec_blk_nums": [1]},
            "cannot be built",
        ),
    ],
)
def test_plans_of_networks_that_there_are_not(where: str, value: Any, words: str) -> None:
    plan = TrainingPlan.from_dict(changed(json.loads(PLAN.to_json()), where, value))
    with pytest.raises(CheckpointError, match=words):
        initial_network(plan, None)


def test_settings_may_be_text() -> None:
    given = {"learning_rate": "5e-4", "batch": 1e1, "iterations": "1e5", "milestones": "10", "seed": str(2**63 - 1)}
    read = training_settings({**given, "flip": False, "loss": "l2"}, "training")
    assert (read.learning_rate, read.batch, read.iterations, read.milestones) == (5e-4, 10, 100_000, (10,))
    assert (read.seed, read.flip, read.loss) == (2**63 - 1, False, "l2")
    assert training_settings({"milestones": ["10", "2e1"]}, "training").milestones == (10, 20)
    assert json.dumps(training_settings({"learning_rate": 1}, "training").learning_rate) == "1.0"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("batch", "1.5", "in training, batch must be a whole number, not '1.5'"),
        ("batch", True, "batch must be a whole number, not True"),
        ("batch", float("inf"), "batch must be a finite number, not inf"),
        ("batch", 10**400, "batch is a whole number beyond 64 bits"),
        ("batch", 70_000, "in training: batch must be from 1 to 65536, not 70000"),
        ("ema", "nan", "ema must be a finite number, not nan"),
        ("flip", 1, "flip must be true or false, not 1"),
        ("flip", "yes", "flip must be true or false, not 'yes'"),
        ("loss", 1, "loss must be text, not 1"),
        ("loss", "l3", "in training: loss must be one of l1, l2, not 'l3'"),
        ("milestones", [2, "x"], r"milestones\[1\] must be a whole number, not 'x'"),
        ("milestones", [True], r"milestones\[0\] must be a whole number, not True"),
        ("milestones", None, r"milestones\[0\] must be a whole number, not None"),
        ("milestones", [0, 3], "milestones must be above 0 and increase"),
    ],
)
def test_settings_of_another_type_or_size(name: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        training_settings({name: value}, "training")
