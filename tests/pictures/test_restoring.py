"""A restorer that keeps to its settings: noise levels by picture, tiles by size, what it says of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard, Restorer
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import OutOfMemoryError
from irsde_deploy.pictures.noise_level import estimate_noise
from irsde_deploy.pictures.restoring import Restoring, settled_by

BLIND = ModelCard(
    "toy", {"conditional": False}, 3, 4, "zero", DenoisingSDE(75, 100, "cosine"), sampler="posterior", steps=4
)
KNOWING = ModelCard("toy", {}, 3, 4, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005), global_operators=False)
RNG = np.random.default_rng(8)


class Toy:
    """A network of three pixels' width, with memory for so many pixels."""

    name = "toy"

    def __init__(self, card: ModelCard, pixels: int = 10**9) -> None:
        self.card, self.pixels, self.calls = card, pixels, 0

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.calls += 1
        if x[0, 0].size > self.pixels:
            raise OutOfMemoryError("there is no memory left")
        return np.tanh(x + 0.5 * np.roll(x, 1, axis=3) - t[:, None, None, None] / 100).astype(np.float32)


@pytest.fixture
def noisy() -> np.ndarray:
    """Three pictures of their own noise levels, the middle one the noisiest."""
    levels = np.array([10, 40, 20])[:, None, None, None] / 255
    return np.clip(0.5 + levels * RNG.standard_normal((3, 32, 32, 3)), 0, 1).astype(np.float32)


def test_each_picture_of_a_batch_starts_at_its_own_level_with_its_own_noise(noisy: np.ndarray) -> None:
    restorer = Restorer(Toy(BLIND))
    restoring = Restoring(restorer, Sampling(steps=3))
    levels = [estimate_noise(picture) for picture in noisy]
    restored = restoring(noisy, frames=[4, 0, 7])
    for picture, frame, level, found in zip(noisy, [4, 0, 7], levels, restored, strict=True):
        np.testing.assert_array_equal(found, restorer(picture, steps=3, noise_level=level, frames=[frame]))
    assert restoring.levels == [min(levels), max(levels)] == [levels[0], levels[1]]
    np.testing.assert_array_equal(restoring(noisy)[2], restorer(noisy[2], steps=3, noise_level=levels[2]))


def test_a_level_that_was_said_is_kept(noisy: np.ndarray) -> None:
    restorer = Restorer(Toy(BLIND))
    said = Sampling(steps=2, noise_level=30)
    assert settled_by(said, restorer, noisy[0]) == said
    assert settled_by(Sampling(steps=2), restorer, noisy[0]).noise_level == estimate_noise(noisy[0])
    assert settled_by(Sampling(), Restorer(Toy(KNOWING)), noisy[0]) == Sampling()
    restoring = Restoring(restorer, said)
    np.testing.assert_array_equal(restoring(noisy), restorer(noisy, said))
    assert restoring.levels == []


def test_what_it_says_of_itself() -> None:
    blind = Restoring(Restorer(Toy(BLIND)), Sampling(quality="fast", seed=3))
    assert str(blind) == f"fast = {blind.sampler}, {blind.steps} steps, seed 3, noise level estimated"
    assert blind.about["noise_level"] == "estimated"
    assert "t0" not in blind.about
    assert blind.plan.table.t[0] == 100, "as many steps as any picture can get"
    given = Restoring(Restorer(Toy(BLIND)), Sampling(steps=1, noise_level=30, clip=True))
    assert str(given) == "posterior, 1 step, seed 0, noise level 30"
    assert given.about == {
        "sampler": "posterior", "quality": None, "seed": 0, "debias": False, "clip": True, "noise_level": 30,
        "steps": 1, "t0": int(given.plan.table.t[0]),
    }  # fmt: skip
    assert "noise_level" not in Restoring(Restorer(Toy(KNOWING)), Sampling()).about


def test_timesteps_outside_of_a_calibration_are_collected(noisy: np.ndarray) -> None:
    card = replace(BLIND, precision="int8", calibrated=(6, 4))
    restoring = Restoring(Restorer(Toy(card)), Sampling(steps=3))
    assert restoring.uncalibrated == set(), "nothing is visited yet"
    expected: set[int] = set()
    for picture in (noisy[1], noisy[0]):
        restoring(picture)
        visited = restoring.restorer.plan(steps=3, noise_level=estimate_noise(picture)).table.t
        expected |= {int(t) for t in visited if not 4 <= t <= 6}
    assert restoring.uncalibrated == expected != set()
    knowing = Restoring(Restorer(Toy(replace(KNOWING, precision="int8", calibrated=(50, 1)))), Sampling(steps=4))
    assert knowing.uncalibrated == {int(t) for t in knowing.plan.table.t if t > 50} != set()


def test_the_first_way_of_cutting_is_kept_size_by_size() -> None:
    engine = Toy(KNOWING, pixels=200 * 200)
    picture = RNG.random((260, 300, 3), dtype=np.float32)
    restoring = Restoring(Restorer(engine), Sampling(sampler="mean", steps=1, tile="auto", overlap=8))
    cut = restoring(picture)
    assert restoring.way((1, 260, 300, 3)) == Tiling(192, 8)
    engine.pixels = 10**9
    np.testing.assert_array_equal(restoring(picture[None])[0], cut)
    assert restoring.restorer.tiling == Tiling(192, 8)
    restoring(picture[:210, :210])
    assert restoring.restorer.tiling is None
    assert list(restoring.tilings) == [str(Tiling(192, 8))]
    engine.pixels = 150 * 150
    restoring(picture[:210, :210])
    assert list(restoring.tilings) == [str(Tiling(192, 8)), str(Tiling(128, 8))], "whole until now"


@pytest.mark.parametrize("tile", [None, 128])
def test_what_was_asked_for_is_not_tried_again_otherwise(tile: int | None) -> None:
    engine = Toy(KNOWING, pixels=50)
    restoring = Restoring(Restorer(engine), Sampling(sampler="mean", steps=1, tile=tile))
    restoring.way((1, 160, 200, 3))
    with pytest.raises(OutOfMemoryError):
        restoring(RNG.random((160, 200, 3), dtype=np.float32))
    assert engine.calls == 1, "what does not fit once is not tried a second time"
