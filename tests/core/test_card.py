"""The card survives its JSON unchanged, and nothing but a complete, known card is read."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard, plan_steps
from irsde_deploy.core.card import require_fallback_of
from irsde_deploy.errors import InvalidValueError


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        network="ConditionalNAFNet",
        settings={"width": 16, "enc_blk_nums": [1, 2], "form": "latent"},
        channels=4,
        multiple_of=4,
        pad_mode="zero",
        sde=MeanRevertingSDE(50, 100, "cosine", 0.005),
        task="dehaze",
        value_range=None,
        checkpoint_sha256="ab" * 32,
        tool_version="0.1.0",
    )


def test_json_round_trip_is_exact_and_fits_a_plan(card: ModelCard) -> None:
    text = card.to_json()
    assert ModelCard.from_json(text) == card
    assert ModelCard.from_json(text).to_json() == text
    assert json.loads(text)["sde"] == {
        "kind": "mean-reverting",
        "max_sigma": 50,
        "T": 100,
        "schedule": "cosine",
        "eps": 0.005,
    }
    assert len(text) + len("irsde-card:") <= 4095, "a TensorRT network's name holds no more"


def test_cards_travel_between_processes(card: ModelCard) -> None:
    assert pickle.loads(pickle.dumps(card)) == card
    assert hash(copy.deepcopy(card)) == hash(card)


def test_the_same_network_in_pixels_keeps_its_range(card: ModelCard) -> None:
    pixel = ModelCard.from_dict({**card.to_dict(), "value_range": [0.0, 1.0]})
    assert pixel.value_range == (0.0, 1.0)
    assert pixel != card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"pad_mode": "wrap"}, "pad_mode"),
        ({"channels": 0}, "channels"),
        ({"channels": 257}, "channels must be from 1 to 256"),
        ({"multiple_of": 0}, "multiple_of must be from 1 to 4096"),
        ({"multiple_of": 4097}, "multiple_of must be from 1 to 4096"),
        ({"precision": "fp64"}, "precision must be one of"),
        ({"task": "de\ud800rain"}, "a text in it is no Unicode"),
        ({"channels": "3"}, "in the model card, channels must be a whole number, not '3': export the model again"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"steps": 101}, "steps must be"),
        ({"t0": 0}, "t0 must be"),
        ({"t0": 101}, "t0 must be"),
        ({"t0": True}, "t0 must be a whole number or null, not True"),
        ({"t0": 9, "steps": 10}, "steps must be"),
        ({"colour": "BGR"}, "are RGB"),
        ({"value_range": [-1, 1]}, "range 0..1"),
        ({"value_range": ["a"]}, "value_range must be a list of 2 entries, not ..a.."),
        ({"value_range": ["a", 1]}, r"value_range.0. must be a number, not 'a'"),
        *(({"calibrated": span, "precision": "int8"}, "first and the last") for span in ([9, 30], [101, 9], [9, 0])),
        ({"calibrated": [9]}, "calibrated must be a list of 2 entries"),
        ({"calibrated": ["9", 4]}, r"calibrated.0. must be a whole number, not '9'"),
        ({"calibrated": [9.5, 2]}, r"calibrated.0. must be a whole number, not 9.5"),
        ({"calibrated": 9}, "calibrated must be a list or null, not 9"),
        ({"calibrated": [90, 10]}, "a card of fp32 has none"),
        ({"sampler": "magic"}, "sampler must be"),
        (
            {"colour_space": "sRGB"},
            "the unknown field 'colour_space': export .* or use the irsde-deploy it was made with",
        ),
        ({"sde": {"kind": "diffusion"}}, "kind 'diffusion'"),
        ({"sde": [1]}, "kind None"),
        ({"sde": {"kind": "mean-reverting", "max_sigma": 10}}, "the model card's SDE lacks T"),
        ({"sde": {"kind": "denoising", "max_sigma": 1, "T": 9, "schedule": "linear", "x": 1}}, "the unknown field 'x'"),
        ({"sde": {"kind": "denoising", "max_sigma": True, "T": 9, "schedule": "linear"}}, "max_sigma must be a number"),
        ({"sde": {"kind": "denoising", "max_sigma": 1, "T": 9.0, "schedule": "linear"}}, "T must be a whole number"),
        (
            {"sde": {"kind": "mean-reverting", "max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 2}},
            "eps",
        ),
    ],
)
def test_cards_that_cannot_be_trusted_are_refused(card: ModelCard, change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ModelCard.from_dict({**card.to_dict(), **change})


def test_the_first_timestep_is_the_cards_unless_the_user_says(card: ModelCard) -> None:
    late = ModelCard.from_json(replace(card, t0=80, steps=4, sampler="mean").to_json())
    assert late.plan().table.t.tolist() == plan_steps(card.sde, "mean", 4, t0=80).t.tolist()
    assert late.plan(t0=100).table.t[0] == 100
    assert len(late.plan(sampler="euler")) == 80
    assert len(late.plan(quality="best", t0=7)) == 7, "a preset bends to fewer timesteps"
    before = {key: value for key, value in card.to_dict().items() if key != "t0"}  # cards written before there was one
    assert ModelCard.from_dict(before) == card


@pytest.mark.parametrize(
    ("sampler", "quality", "expected"),
    [(None, None, "euler"), ("ddim", None, "ddim"), (None, "best", "sde-2m"), (None, "draft", "mean")],
)
def test_the_sampler_in_force(card: ModelCard, sampler: str | None, quality: str | None, expected: str) -> None:
    own = replace(card, sampler="euler", steps=100)
    steps = None if quality or sampler is None else 4
    found = own.plan(sampler=sampler, steps=steps, quality=quality)
    assert found.sampler == expected
    named = own.plan(sampler=expected, steps=len(found))
    assert found.table.a.tolist() == named.table.a.tolist()


def test_a_quality_and_a_sampler_exclude_each_other(card: ModelCard) -> None:
    with pytest.raises(InvalidValueError, match="leave out one"):
        card.plan(sampler="mean", quality="best")
    with pytest.raises(InvalidValueError, match="quality must be one of"):
        card.plan(quality="perfect")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 10_000, '{"network": "X"}'])
def test_text_that_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="card"):
        ModelCard.from_json(text)


def test_a_card_has_65536_characters_at_most(card: ModelCard) -> None:
    longest = card.to_json().ljust(65_536)
    assert ModelCard.from_json(longest) == card
    with pytest.raises(InvalidValueError, match="the model card has at most 65536 characters, not 65537"):
        ModelCard.from_json(longest + " ")


def test_the_limits_themselves_are_taken(card: ModelCard) -> None:
    widest = replace(card, channels=256, multiple_of=4096, margin=256, precision="int8", calibrated=(9, 9))
    assert ModelCard.from_json(widest.to_json()) == widest
    assert replace(card, calibrated=(100, 1), precision="int8").calibrated == (100, 1)


def test_a_cards_settings_are_its_own(card: ModelCard) -> None:
    given = {"enc_blk_nums": [1, 2]}
    own = replace(card, settings=given)
    given["enc_blk_nums"].append(3)
    assert own.settings == {"enc_blk_nums": [1, 2]}


def test_what_nobody_chooses_is_the_balanced_preset(card: ModelCard) -> None:
    assert (card.sampler, card.steps, card.t0) == ("mean", 10, None)
    assert (card.plan().sampler, len(card.plan())) == ("mean", 10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "ConditionalUNet"),
        ("sde", MeanRevertingSDE(50, 100, "cosine", 0.01)),
        ("channels", 3),
        ("pad_mode", "reflect"),
        ("margin", 8),
        ("checkpoint_sha256", "cd" * 32),
    ],
)
def test_a_fallback_is_of_the_same_model(card: ModelCard, name: str, value: object) -> None:
    lowered = replace(card, precision="fp16", task="another", tool_version="0.2.0")
    require_fallback_of(lowered, card)
    with pytest.raises(InvalidValueError, match=f"the fallback is of another model: its {name} is "):
        require_fallback_of(lowered, replace(card, **{name: value}))


def test_a_fallback_is_in_fp32(card: ModelCard) -> None:
    with pytest.raises(InvalidValueError, match="the fallback is mixed itself"):
        require_fallback_of(card, replace(card, precision="mixed"))


def test_timesteps_outside_of_the_calibration_are_named(card: ModelCard) -> None:
    calibrated = replace(card, precision="int8", calibrated=(69, 16))
    assert ModelCard.from_json(calibrated.to_json()) == calibrated
    assert calibrated.uncalibrated(np.array([100, 70, 69, 40, 16, 15])) == [100, 70, 15]
    assert card.uncalibrated([100, 1]) == []
    assert "calibrated" not in card.to_dict(), "older readers refuse fields that they do not know"


def test_a_margin_is_written_where_there_is_one(card: ModelCard) -> None:
    """Beside the padding, where the C library looks for it; a card without is byte for byte what it always was."""
    assert card.margin == 0
    assert '"pad_mode":"zero","sde":' in card.to_json()
    wide = replace(card, margin=16)
    assert '"pad_mode":"zero","margin":16,"sde":' in wide.to_json()
    assert ModelCard.from_json(wide.to_json()) == wide
    assert list(ModelCard.from_json(card.to_json()).to_dict()) == list(card.to_dict())


@pytest.mark.parametrize(
    ("margin", "message"), [(-1, "margin must be from 0 to 256, not -1"), (257, "0 to 256"), (1.5, "whole")]
)
def test_margins_are_bounded(card: ModelCard, margin: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ModelCard.from_dict({**card.to_dict(), "margin": margin})
