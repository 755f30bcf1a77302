"""What a range table is of: everything that ranges depend on, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_quantisable import small_quantisable

from irsde_deploy.calibration.data import CalibrationData, Entry
from irsde_deploy.calibration.layers import Layer
from irsde_deploy.calibration.manifest import CalibrationSettings
from irsde_deploy.calibration.range_table import RangeTable, graph_sha256, table_key

MODEL, CARD = small_quantisable()
LAYERS = [Layer("one", ("h1",)), Layer("two", ("h3",))]
ENTRY = Entry("a", Path("LQ/a.png"), Path("GT/a.png"), "0" * 64, "1" * 64)
SETTINGS = CalibrationSettings("mean", (90, 30), states=12)


def key_of(
    entries: tuple[Entry, ...] = (ENTRY,), layers: list[Layer] = LAYERS, card: dict[str, Any] | None = None,
    graph: str | None = None, **settings: Any,
) -> str:  # fmt: skip
    data = CalibrationData(("LQ", "GT"), entries)
    card_of = replace(CARD, **card or {})
    return table_key(graph or graph_sha256(MODEL), card_of, layers, data, replace(SETTINGS, **settings))


@pytest.mark.parametrize(
    "change",
    [
        {"entries": (replace(ENTRY, name="b"),)},
        {"entries": (replace(ENTRY, lq_sha256="2" * 64),)},
        {"entries": (replace(ENTRY, gt_sha256="2" * 64),)},
        {"entries": (ENTRY, replace(ENTRY, name="b"))},
        {"layers": LAYERS[:1]},
        {"graph": graph_sha256(small_quantisable(0.3)[0])},
        {"card": {"sde": replace(CARD.sde, max_sigma=30)}},
        {"card": {"margin": 8}},
        {"card": {"multiple_of": 8}},
        {"card": {"pad_mode": "zero"}},
        {"timesteps": (90, 31)},
        {"sampler": "ddim"},
        {"seed": 1},
        {"crop": 64},
        {"debias": True},
        {"clip": True},
    ],
)
def test_what_ranges_depend_on_is_in_their_key(change: dict[str, Any]) -> None:
    assert key_of(**change) != key_of()


@pytest.mark.parametrize(
    "change",
    [
        {"entries": (replace(ENTRY, lq=Path("elsewhere/a.png")),)},
        {"layers": LAYERS[::-1]},
        {"card": {"steps": 7}},
        {"method": "entropy"},
        {"states": 24},
        {"rest": "fp16"},
        {"psnr_budget": 40.0},
    ],
)
def test_what_they_do_not_depend_on_is_not(change: dict[str, Any]) -> None:
    assert key_of(**change) == key_of()


@pytest.mark.parametrize(
    ("stop", "wanted", "serves"),
    [
        ("given", {"states": 12}, True),
        ("given", {"states": 24}, False),
        ("mse converged, or 2048", {"states": 12}, True),
        ("mse converged, or 2048", {"states": None}, True),
        ("mse converged, or 2048", {"states": None, "method": "minmax"}, False),
        ("mse converged, or 2048", {"states": None, "most_states": 64}, False),
        ("given", {"states": None}, False),
    ],
)
def test_a_table_serves_whoever_would_measure_the_same(stop: str, wanted: dict[str, Any], serves: bool) -> None:
    table = RangeTable("k", 12, stop, True, (), {})
    assert table.serves("k", replace(SETTINGS, **wanted)) == serves
    assert not table.serves("l", replace(SETTINGS, **wanted))
