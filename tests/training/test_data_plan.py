"""Which pictures a new run trains on, of what was asked for and what options files and recipes offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.training.data_plan import choose_data

OPTIONS_FILE = {"gt": "/o/GT", "lq": "/o/LQ", "validation_gt": "/o/V", "validation_lq": "/o/W", "noise_level": 50}
RECIPE = {"degradation": {"kind": "rain", "length": [5, 9]}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"gt": "/o/GT", "lq": "/o/LQ", "validation_gt": "/o/V", "degradation": None, "noise_level": 50}),
        ({"noise_level": 15.0}, {"gt": "/o/GT", "noise_level": 15.0}),
        (
            {"gt": Path("/mine")},
            {"gt": "/mine", "lq": None, "validation_gt": None, "degradation": RECIPE["degradation"]},
        ),
        ({"gt": "/mine", "degradation": "rain"}, {"lq": None, "degradation": RECIPE["degradation"]}),
        ({"gt": "/mine", "degradation": "haze"}, {"lq": None, "degradation": {"kind": "haze"}}),
        ({"gt": "/mine", "degradation": {"kind": "rain"}}, {"degradation": {"kind": "rain"}}),
        ({"gt": "/mine", "lq": "/its"}, {"lq": "/its", "validation_lq": None, "degradation": None}),
        ({"gt": "/mine", "hold_out": ("a", "b"), "lq": None}, {"hold_out": ("a", "b"), "lq": None}),
    ],
)
def test_what_is_asked_for_goes_before_what_is_offered(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    chosen = choose_data(asked, [OPTIONS_FILE, RECIPE])
    assert {name: getattr(chosen, name) for name in expected} == expected


def test_the_first_offer_of_a_name_counts() -> None:
    chosen = choose_data({}, [{"noise_level": 15}, {**OPTIONS_FILE, "side": 64}])
    assert (chosen.noise_level, chosen.gt, chosen.side) == (15, "/o/GT", 64)


def test_folders_are_kept_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_data({"gt": Path("GT"), "lq": "LQ"}, []).lq == str(tmp_path / "LQ")


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"give degraded pictures \(`lq`\) or a `degradation`"):
        choose_data({"degradation": "rain"}, [OPTIONS_FILE])
    with pytest.raises(InvalidValueError, match="give a folder of clean ones: `gt` FOLDER"):
        choose_data({"lq": "/its"}, [RECIPE])
