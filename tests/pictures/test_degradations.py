"""Degradations: seeded, within range, and each with the effect that its formula says."""

from __future__ import annotations

import numpy as np
import pytest
from sample_pictures import photograph

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.pictures.degradations import DEGRADATIONS, degradation, degrade_picture, parameters_of


@pytest.fixture
def clean() -> np.ndarray:
    return (photograph(0, 96, 128) / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("kind", list(DEGRADATIONS))
def test_the_seed_decides_everything(kind: str, clean: np.ndarray) -> None:
    degrade, before = degradation(kind), clean.copy()
    one, again, other = degrade(clean, 3), degrade(clean, 3), degrade(clean, 4)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(clean, before)
    assert one.dtype == np.float32
    assert one.shape == clean.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert np.abs(one - clean).mean() > 1e-3
    if kind != "low-resolution":  # nothing in it is random
        assert np.abs(one - other).max() > 1e-3


def test_rain_only_adds_light_along_its_angle() -> None:
    dark = np.zeros((200, 200, 3), np.float32)
    rained = degradation("rain", {"angle": 20, "layers": 1, "length": 60, "width": 1.5, "coverage": 0.02})(dark, 1)
    assert rained.min() >= 0
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(rained[:, :, 0] - rained[:, :, 0].mean()))) ** 2
    y, x = np.mgrid[-100:100, -100:100]
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=spectrum.ravel())
    direction = np.linalg.eigh(covariance)[1][:, 1]  # energy lies across the streaks
    across = np.degrees(np.arctan2(direction[1], direction[0])) % 180
    assert abs(across - 160) < 3  # the streaks lean 20 degrees from the vertical


def test_haze_is_the_scattering_law() -> None:
    """At a constant depth the contrast shrinks by e^-density, towards the airlight."""
    left, right = np.full((40, 40, 3), 0.2, np.float32), np.full((40, 40, 3), 0.8, np.float32)
    degrade = degradation("haze", {"density": 1.0, "airlight": 0.9, "unevenness": 0})
    dark, bright = degrade(left, 5), degrade(right, 5)
    depth = np.linspace(1, 0.2, 40)
    np.testing.assert_allclose((bright - dark)[:, 0, 0], 0.6 * np.exp(-depth), rtol=1e-5)


def test_gaussian_noise_has_its_standard_deviation() -> None:
    grey = np.full((300, 300, 3), 0.5, np.float32)
    noise = degradation("gaussian-noise", {"sigma": 25})(grey, 0) - grey
    assert noise.std() * 255 == pytest.approx(25, rel=0.01)  # 270,000 samples: 0.14 % each standard error
    assert abs(noise.mean()) * 255 < 0.25


@pytest.mark.parametrize("kind", ["motion-blur", "defocus-blur"])
def test_blur_keeps_the_light_and_its_kernel_has_the_stated_size(kind: str) -> None:
    point = np.zeros((101, 101, 3), np.float32)
    point[50, 50] = 1
    blurred = degradation(kind, {"noise": 0, **({"length": 21, "angle": 0} if "motion" in kind else {"radius": 5})})(
        point, 0
    )[:, :, 0]
    assert blurred.sum() == pytest.approx(1, rel=1e-4)
    rows = np.flatnonzero(blurred.sum(axis=1) > 1e-6)
    assert rows[-1] - rows[0] + 1 == (21 if "motion" in kind else 11)


def test_low_resolution_keeps_what_a_quarter_of_the_pixels_can_hold() -> None:
    _, x = np.mgrid[0:128, 0:128].astype(np.float32)
    slow, fast = (np.repeat((0.5 + 0.4 * np.sin(2 * np.pi * x / period))[:, :, None], 3, axis=2) for period in (64, 4))
    degrade = degradation("low-resolution")
    inner = slice(16, -16)
    assert np.abs(degrade(slow, 0) - slow)[inner, inner].max() < 0.02
    assert degrade(fast, 0)[inner, inner].std() < 0.02


def test_masks_cover_what_was_asked(clean: np.ndarray) -> None:
    masked = degradation("mask", {"coverage": 0.3, "fill": 1.0})(clean, 2)
    changed = np.any(masked != clean, axis=2)
    assert 0.28 < changed.mean() < 0.6  # pixels that were white already do not count
    assert (masked[changed] == 1).all()


def test_sixteen_bits_stay_sixteen() -> None:
    pixels = (photograph(1).astype(np.uint16)) * 257
    hazy = degrade_picture(pixels, degradation("haze"), 0)
    assert hazy.dtype == np.uint16
    assert len(np.unique(hazy)) > 256


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("snow", {}, "must be one of rain, haze"),
        ("rain", {"depth": 3}, "rain has no parameter 'depth'"),
        ("rain", {"length": [60, 8]}, "a pair low, high from 1 to 500"),
        ("rain", {"length": -5}, "from 1 to 500"),
        ("rain", {"length": [1, 2, 3]}, "a pair"),
        ("low-resolution", {"scale": [2, 4]}, "must be a number from"),
        ("gaussian-noise", {"sigma": "loud"}, "0 to 255"),
        ("gaussian-noise", {"clip": 1}, "true or false"),
        ("gaussian-noise", {"sigma": float("nan")}, "0 to 255"),
    ],
)
def test_wrong_parameters_are_named(kind: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        degradation(kind, parameters)


def test_every_parameter_has_limits() -> None:
    for kind in DEGRADATIONS:
        for name, default in parameters_of(kind).items():
            degradation(kind, {name: default})
