"""Settings of sampling: what contradicts itself is refused at once, and a card makes one plan of the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import get_type_hints

import numpy as np
import pytest

from irsde_deploy import DenoisingSDE, MeanRevertingSDE, ModelCard, plan_steps
from irsde_deploy.core.presets import PRESETS
from irsde_deploy.core.sampling import Sampling, SamplingSettings
from irsde_deploy.errors import InvalidValueError

REVERTING = ModelCard(
    "ConditionalUNet", {}, 3, 8, "reflect", MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005)
)
DENOISING = ModelCard(
    "ConditionalUNet", {"conditional": False}, 3, 8, "reflect", DenoisingSDE(max_sigma=75, T=100, schedule="cosine")
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "magic"}, "sampler must be one of euler"),
        ({"quality": "perfect"}, "quality must be one of draft"),
        ({"quality": "fast", "sampler": "mean"}, "leave out one or the others"),
        ({"quality": "fast", "steps": 3}, "leave out one or the others"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"noise_level": 10.0, "t0": 5}, "leave it out where t0 is given"),
        ({"steps": 0}, "steps must be a whole number from 1, not 0"),
        ({"steps": True}, "steps must be a whole number from 1, not True"),
        ({"steps": [90, 10]}, "steps must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"clip": "no"}, "clip must be True or False, not 'no'"),
        ({"debias": None}, "debias must be True or False"),
        ({"tile": True}, "'auto' or None, not True"),
        ({"quality": ["fast"]}, "quality must be one of draft"),
        ({"t0": 0}, "t0 must be a whole number from 1"),
        ({"t0": 1.5}, "t0 must be a whole number from 1"),
        ({"tile": 64, "overlap": 1.5}, "^overlap must be a whole number, not 1.5$"),
        ({"noise_level": 0.0}, "noise_level must be a number above 0"),
        ({"noise_level": True}, "noise_level must be a number above 0"),
        ({"noise_level": float("nan")}, "noise_level must be a number above 0"),
        ({"noise_level": float("inf")}, "noise_level must be a number above 0"),
        ({"tile": 0}, "side must be"),
        ({"tile": "half"}, "'auto' or None"),
        ({"tile": 64, "overlap": 33}, "can overlap by 0 to 32"),
        ({"tile": "auto", "overlap": 1025}, "can overlap by 0 to 1024"),
    ],
)
def test_settings_that_cannot_be_are_refused_where_they_are_said(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]


def test_the_keywords_are_the_fields() -> None:
    assert get_type_hints(SamplingSettings) == get_type_hints(Sampling)


def test_the_limits_themselves_are_taken() -> None:
    assert Sampling(seed=2**64 - 1, tile=64, overlap=32).seed == 2**64 - 1
    assert Sampling(tile="auto", overlap=1024).overlap == 1024
    assert (Sampling(steps=1).steps, Sampling(t0=1).t0, Sampling(tile=1, overlap=0).tile) == (1, 1, 1)


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8])
def test_numpys_numbers_become_plain_ones(whole: type[np.integer]) -> None:
    """They could not be written as JSON, which manifests of videos and calibrations are."""
    given = Sampling(steps=whole(3), seed=whole(1), clip=np.bool_(True), tile=whole(64))  # type: ignore[arg-type]
    assert json.loads(json.dumps(asdict(given))) == asdict(Sampling(steps=3, seed=1, clip=True, tile=64))


def test_single_settings_change_a_sampling() -> None:
    base = Sampling(sampler="ddim", steps=7, seed=3)
    assert Sampling.of(base, steps=9) == Sampling(sampler="ddim", steps=9, seed=3)
    assert Sampling.of(base) is base
    assert Sampling.of(None, seed=1) == Sampling(seed=1)
    with pytest.raises(InvalidValueError, match="settings are given by name, such as sampler='mean'"):
        Sampling.of("ddim")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="leave out one"):
        Sampling.of(base, quality="fast")


@pytest.mark.parametrize("quality", [None, *PRESETS])
@pytest.mark.parametrize(("clip", "debias"), [(True, False), (False, True)])
def test_a_plan_has_the_cards_settings_where_none_are_given(quality: str | None, clip: bool, debias: bool) -> None:
    card = replace(REVERTING, sampler="ode-2m", steps=6, t0=90)
    plan = card.plan(quality=quality, clip=clip, debias=debias)
    made_of = ("ode-2m", 6) if quality is None else (PRESETS[quality].sampler, PRESETS[quality].steps)
    assert (plan.sampler, len(plan), plan.clip, plan.debias) == (*made_of, clip, debias)
    expected = plan_steps(card.sde, *made_of, debias=debias, t0=90)
    for name in ("t", "a", "c", "d", "s", "p", "r"):
        np.testing.assert_array_equal(getattr(plan.table, name), getattr(expected, name))


def test_settings_for_another_kind_of_model_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="give `noise_level`"):
        DENOISING.plan()
    with pytest.raises(InvalidValueError, match="leave it out for this model"):
        REVERTING.plan(noise_level=25)
    with pytest.raises(InvalidValueError, match="works on latents"):
        replace(REVERTING, value_range=None).plan(clip=True)
    assert DENOISING.plan(noise_level=25).table.t[0] == DENOISING.sde.timestep_of(25 / 255)  # type: ignore[union-attr]
    assert DENOISING.plan(t0=40).table.t[0] == 40


def test_a_low_noise_level_leaves_fewer_steps_than_were_asked_for() -> None:
    first = DENOISING.sde.timestep_of(1 / 255)  # type: ignore[union-attr]
    assert 1 <= first < 30
    assert len(DENOISING.plan(noise_level=1, steps=50)) == first
    with pytest.raises(InvalidValueError, match="steps must be from 1 to 5"):
        DENOISING.plan(t0=5, steps=50)


@pytest.mark.parametrize("sampler", ["euler", "posterior", "sde-2m"])
def test_the_clipped_columns_are_the_step_written_in_q(sampler: str) -> None:
    """With q = p y + r eps unclipped, a_clip y + k q must be a y + c eps."""
    table = REVERTING.plan(sampler=sampler, debias=sampler != "euler").table
    rng = np.random.default_rng(0)
    y, eps = rng.normal(size=(2, len(table)))
    q = table.p * y + table.r * eps
    plain = table.a * y + table.c * eps
    np.testing.assert_allclose(table.a_clip * y + table.k * q, plain, rtol=0, atol=1e-12 * np.abs(table.p).max())


def test_a_step_whose_q_does_not_depend_on_the_network_is_not_clipped() -> None:
    table = REVERTING.plan(sampler="mean", steps=3).table
    blind = replace(table, r=np.zeros(3), c=np.array([1.0, 2.0, 3.0]))
    assert blind.k.tolist() == [0, 0, 0]
    assert blind.a_clip.tolist() == table.a.tolist()
