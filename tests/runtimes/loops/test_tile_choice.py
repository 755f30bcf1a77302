"""Which ways to evaluate a picture are tried, and in which order, by memory and by what an engine takes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from lazy_driver import CARD, LazyDriver, Mixing, MixingOnDevice

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.runtimes.device.engine import PaddedShape
from irsde_deploy.runtimes.loops import tile_choice
from irsde_deploy.runtimes.loops.footprint import bytes_per_pixel, loop_bytes
from irsde_deploy.runtimes.loops.tile_choice import choices

NAFNET = replace(CARD, network="ConditionalNAFNet", settings={"width": 10})


def way(side: int, overlap: int = 64) -> Tiling:
    return Tiling.of(side, overlap)


def test_tiles_become_smaller_and_never_stay_as_they_are() -> None:
    """Down to those that overlap by half of themselves."""
    engine = Mixing(CARD)
    assert choices(engine, (1, 256, 200, 3), 192) == [way(192), way(128)]
    assert choices(engine, (1, 256, 200, 3), 256, 96) == [way(256, 96), way(192, 96)]
    assert choices(engine, (1, 256, 200, 3), "auto") == [None, way(192), way(128)]
    assert choices(engine, (1, 256, 200, 3), None) == [None]


@pytest.mark.parametrize("batch", [1, 3])
def test_memory_is_counted_to_the_byte(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """The network's for each pixel of each padded picture, the loop's for each value."""
    engine, shape = Mixing(NAFNET), (batch, 500, 504, 3)
    needed = 400 * batch * 512 * 512 + 44 * batch * 500 * 504 * 3
    for missing, first in ((0, None), (1, way(384))):
        monkeypatch.setattr(tile_choice, "available_memory", lambda left=missing: (needed - left) / tile_choice.SHARE)
        assert choices(engine, shape, "auto")[0] == first


def test_where_nothing_fits_the_smallest_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_choice, "available_memory", lambda: 1000)
    assert choices(Mixing(NAFNET), (1, 500, 500, 3), "auto") == [way(128)]


class Choosy(MixingOnDevice):
    """Takes sides up to a limit, as a plan does."""

    limit = 0

    def takes(self, shape: PaddedShape) -> bool:
        return max(shape) <= self.limit


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels with")
def test_what_an_engine_takes_is_tried_and_all_where_it_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words say then what it takes. Memory of the host counts where the device is the host."""
    engine = Choosy(LazyDriver(), NAFNET)
    everything = [None, way(384), way(256), way(192), way(128)]
    for limit, expected in ((512, everything), (256, everything[2:]), (1, everything)):
        engine.limit = limit
        assert choices(engine, (1, 500, 500, 3), "auto") == expected
    monkeypatch.setattr(tile_choice, "available_memory", lambda: 1000)
    assert choices(engine, (1, 500, 500, 3), "auto") == [way(128)]
    monkeypatch.setattr(Choosy, "host", None)
    assert choices(engine, (1, 500, 500, 3), "auto") == everything, "a GPU has memory of its own"


@pytest.mark.parametrize(
    ("network", "settings", "expected"),
    [
        ("ConditionalNAFNet", {"width": 16}, 640), ("ConditionalUNet", {"nf": 64}, 15360),
        ("another", {"nf": 64}, None), ("ConditionalUNet", {"width": 64}, None), ("ConditionalUNet", {"nf": "6"}, None),
        ("ConditionalUNet", {"nf": 0}, None), ("ConditionalUNet", {"nf": 6.5}, None),
    ],
)  # fmt: skip
def test_what_a_pixel_takes_follows_the_networks_width(network: str, settings: dict, expected: int | None) -> None:
    card: ModelCard = replace(CARD, network=network, settings=settings)
    assert bytes_per_pixel(card) == expected
    assert loop_bytes((2, 3, 5, 3)) == 44 * 90
