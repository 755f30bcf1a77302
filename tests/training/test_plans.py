"""A plan travels in a checkpoint, and nothing but a whole one is read again; settings are read as people write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import changed, hostile_json

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.errors import CheckpointError, InvalidValueError
from irsde_deploy.export.sources import SettingsSource
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.training.plan import DataPlan, TrainingPlan, initial_network, make_plan
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


def test_every_number_has_its_limits_and_the_limits_themselves_are_allowed() -> None:
    limits = {
        "start_share": (0, 0.9), "iterations": (1, 10**9), "batch": (1, 65_536), "patch": (8, 4096),
        "learning_rate": (0, 10), "beta1": (0, 0.999999), "beta2": (0, 0.999999), "weight_decay": (0, 10),
        "warmup": (0, 10**9), "min_learning_rate": (0, 10), "gamma": (0, 1), "ema": (0, 0.9999999),
        "clip_norm": (0, 1e9), "seed": (0, 2**63 - 1), "margin": (0, 256), "validate_every": (1, 10**9),
        "save_every": (1, 10**9), "log_every": (1, 10**9),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        for value in (low, high):
            assert getattr(TrainingSettings(**{name: value}), name) == value
        for value in (low - 1e-9, high + (1 if isinstance(high, int) else 1e-9 * max(1, high))):
            with pytest.raises(InvalidValueError, match=f"{name} must be from "):
                TrainingSettings(**{name: value})


def test_learning_rates_of_every_scheme() -> None:
    constant = TrainingSettings(scheme="constant", learning_rate=1.0, warmup=2, milestones=(3, 4), iterations=10)
    assert [constant.learning_rate_at(i) for i in (0, 1, 5, 9)] == [0.5, 1, 1, 1]
    low = TrainingSettings(learning_rate=1e-7, min_learning_rate=1e-3, warmup=0, iterations=10)
    assert [low.learning_rate_at(i) for i in (0, 5, 10)] == [1e-7] * 3, "it never rises"
    cosine = TrainingSettings(learning_rate=1.0, min_learning_rate=0.2, warmup=0, iterations=10)
    assert [cosine.learning_rate_at(i) for i in (0, 5, 10, 15)] == pytest.approx([1, 0.6, 0.2, 0.2])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise_level": 0}, "the noise level must be above 0"),
        ({"side": 15}, "the validated side must be from 16 to 4096, not 15"),
        ({"side": 4097}, "from 16 to 4096, not 4097"),
        ({"lq": "/data/../clean"}, "/clean: is given for clean and for degraded pictures"),
        ({"lq": "/lq", "validation_gt": "/v"}, "validation folders must be like the training's"),
        ({"lq": "/lq", "validation_lq": "/v"}, "validation folders must be like the training's"),
    ],
)
def test_data_that_does_not_fit_itself(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        DataPlan("/clean", **changes)


def test_a_run_writes_into_no_folder_that_it_reads(tmp_path: Path) -> None:
    folders = {"gt": "a", "lq": "b", "validation_gt": "c", "validation_lq": "d"}
    data = DataPlan(**{name: str(tmp_path / folder) for name, folder in folders.items()}, noise_level=255, side=4096)
    for folder in folders.values():
        for output in (tmp_path / folder, tmp_path / folder / "run"):
            with pytest.raises(InvalidValueError, match="whose pictures are read: choose another folder"):
                data.require_outside(output)
    data.require_outside(tmp_path / "ab")


def small_pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        write_picture(folder / f"p{number:02d}.png", Picture(np.full((4, 4, 3), number, np.uint8)))
    return folder


@pytest.mark.parametrize(
    ("count", "held"), [(2, [0]), (10, [0]), (11, [0, 10]), (80, list(range(0, 80, 10))), (90, list(range(0, 90, 12)))]
)
def test_what_is_held_out_is_not_trained_on(count: int, held: list[int], tmp_path: Path) -> None:
    training, validation = DataPlan(str(small_pictures(tmp_path, count))).open()
    assert list(validation.names) == [f"p{number:02d}" for number in held]
    assert list(training.names) == [f"p{number:02d}" for number in range(count) if number not in held]


def test_pictures_to_hold_out_are_named_with_or_without_suffix(tmp_path: Path) -> None:
    folder = str(small_pictures(tmp_path, 4))
    training, validation = DataPlan(folder, hold_out=("p03.png", "p01")).open()
    assert (list(training.names), list(validation.names)) == (["p00", "p02"], ["p01", "p03"])
    with pytest.raises(InvalidValueError, match="has no picture called p07 to hold out"):
        DataPlan(folder, hold_out=("p01", "p07.png")).open()
    with pytest.raises(InvalidValueError, match="4 picture.s. are too few to train on and hold some out"):
        DataPlan(folder, hold_out=("p00", "p01", "p02", "p03")).open()
    training, validation = DataPlan(folder, validation_gt=str(small_pictures(tmp_path / "v", 1))).open()
    assert (len(training.names), list(validation.names)) == (5, ["p00"])  # the folder below is of the training's


def test_a_fingerprint_is_of_all_pictures_trained_on_or_held_out(tmp_path: Path) -> None:
    data = DataPlan(str(small_pictures(tmp_path, 4)))
    known = data.fingerprinted(*data.open())
    assert known.fingerprinted(*known.open()) == known
    others = replace(data, validation_gt=str(small_pictures(tmp_path.with_name(f"{tmp_path.name}v"), 2)))
    apart = others.fingerprinted(*others.open())
    (Path(apart.validation_gt or "") / "p01.png").unlink()
    with pytest.raises(InvalidValueError, match="are not those that the run started with"):
        apart.fingerprinted(*apart.open())
    for number in (3, 0):  # trained on, held out
        path = tmp_path / f"p{number:02d}.png"
        path.rename(tmp_path / "p99.png")
        with pytest.raises(InvalidValueError, match="are not those that the run started with"):
            known.fingerprinted(*known.open())
        (tmp_path / "p99.png").rename(path)


NETWORK = ("ConditionalNAFNet", {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]})
SDE = {"max_sigma": 30, "T": 20, "schedule": "cosine", "eps": 0.02}


def test_the_most_binding_source_of_a_setting_counts() -> None:
    first = SettingsSource("`opt` o.yml", SDE, NETWORK, training={"batch": 3, "patch": 32})
    second = SettingsSource("`recipe` r", {"margin": 9}, binding=False, training={"batch": 5, "seed": 7, "ema": 0.5})
    made = make_plan([first, second], DataPlan("/clean", degradation={"kind": "rain"}), {"ema": 0.25}, None)
    assert (made.settings.batch, made.settings.patch, made.settings.seed, made.settings.ema) == (3, 32, 7, 0.25)
    assert (made.settings.margin, made.card.margin) == (9, 9)
    for line in ("batch = 3 (from `opt` o.yml)", "seed = 7 (from `recipe` r)", "ema = 0.25 (from flag)"):
        assert line in made.origins
    assert "degradation = kind rain" in made.origins
    assert made.card.checkpoint_sha256 == ""
    said = make_plan([first, second], DataPlan("/clean", degradation={"kind": "rain"}), {"margin": 3}, None)
    assert (said.settings.margin, said.card.margin) == (3, 3)


def test_a_plan_that_fits_no_model_is_refused() -> None:
    rain = DataPlan("/clean", degradation={"kind": "rain"})
    with pytest.raises(InvalidValueError, match="which network shall be trained"):
        make_plan([SettingsSource("s", SDE)], rain, {}, None)
    wide = ("ConditionalNAFNet", {**NETWORK[1], "img_channel": 4})
    with pytest.raises(InvalidValueError, match="training works on RGB pictures, and this network on 4-channel arrays"):
        make_plan([SettingsSource("s", SDE, wide)], rain, {}, None)
    with pytest.raises(InvalidValueError, match="and this network on 3-channel latents"):
        make_plan([SettingsSource("s", {**SDE, "form": "latent"}, NETWORK)], rain, {}, None)
    denoising = {"kind": "denoising", "max_sigma": 75, "T": 20}
    with pytest.raises(InvalidValueError, match="start_share is for mean-reverting SDEs"):
        make_plan([SettingsSource("s", denoising, NETWORK)], DataPlan("/clean"), {"start_share": 0.1}, None)
    with pytest.raises(InvalidValueError, match="at most 75"):
        make_plan([SettingsSource("s", denoising, NETWORK)], DataPlan("/clean", noise_level=80), {}, None)
    with pytest.raises(InvalidValueError, match="makes its own noise"):
        make_plan([SettingsSource("s", denoising, NETWORK)], DataPlan("/clean", lq="/lq"), {}, None)
    with pytest.raises(InvalidValueError, match="patch must be a multiple of 2 for this network, not 33: use 32"):
        make_plan([SettingsSource("s", SDE, NETWORK)], rain, {"patch": 33}, None)


def test_first_weights_are_those_of_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        settings = TrainingSettings(patch=16, seed=seed)
        network = initial_network(TrainingPlan(card, settings, DATA), None)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    card = ModelCard("ConditionalNAFNet", NETWORK[1], 3, 2, "zero", CARD.sde, steps=3)
    assert torch.equal(weights(5), weights(5))
    assert not torch.equal(weights(5), weights(6))
