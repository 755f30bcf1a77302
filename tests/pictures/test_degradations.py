"""Degradations: seeded, within range, and each with the effect that its formula says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sample_pictures import photograph

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.pictures.degradations import _LIMITS, DEGRADATIONS, degradation, degrade_picture, parameters_of


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


EFFECTS = [
    ("rain", {"textured": 0}, 3, [0.3994, 0.5165, 0.501, 0.4219, 0.2202]),
    ("rain", {"textured": 1}, 4, [0.4958, 0.6136, 0.6141, 0.5065, 0.2513]),
    ("rain", {"softness": 0, "layers": [2, 3]}, 5, [0.5576, 0.6856, 0.6671, 0.6078, 0.2693]),
    ("haze", {}, 3, [0.7733, 0.793, 0.7148, 0.6549, 0.1101]),
    ("haze", {}, 4, [0.7089, 0.7219, 0.7068, 0.6377, 0.0696]),
    ("shadow", {}, 3, [0.3757, 0.5161, 0.4135, 0.3911, 0.2227]),
    ("shadow", {}, 4, [0.342, 0.2643, 0.367, 0.2199, 0.1875]),
    ("motion-blur", {}, 3, [0.3761, 0.5163, 0.4837, 0.3894, 0.2097]),
    ("motion-blur", {}, 4, [0.3807, 0.5158, 0.4844, 0.3916, 0.1919]),
    ("defocus-blur", {}, 3, [0.3759, 0.516, 0.4844, 0.3902, 0.2129]),
    ("defocus-blur", {}, 4, [0.3775, 0.5156, 0.4838, 0.3881, 0.201]),
    ("gaussian-noise", {}, 3, [0.3717, 0.517, 0.4837, 0.3914, 0.2337]),
    ("gaussian-noise", {}, 4, [0.3701, 0.517, 0.4849, 0.3916, 0.2347]),
    ("jpeg", {}, 3, [0.3767, 0.5158, 0.4753, 0.3877, 0.214]),
    ("jpeg", {}, 4, [0.3759, 0.5149, 0.4844, 0.3887, 0.2149]),
    ("low-resolution", {"scale": 2.5}, 0, [0.3753, 0.516, 0.4845, 0.3902, 0.2132]),
    ("mask", {}, 3, [0.6436, 0.5457, 0.5923, 0.3911, 0.2721]),
    ("mask", {"fill": 0.5, "coverage": 0.2}, 4, [0.3568, 0.4917, 0.4893, 0.4012, 0.1813]),
]  # fmt: skip
"""Kind, parameters, seed, then means of single channels over quarters of the picture, and the standard deviation."""


@pytest.mark.parametrize(("kind", "parameters", "seed", "expected"), EFFECTS)
def test_training_samples_stay_as_they_were(
    clean: np.ndarray, kind: str, parameters: dict[str, object], seed: int, expected: list[float]
) -> None:
    """What was measured when each was written: models were trained with it, and committed pictures made."""
    degraded = degradation(kind, parameters)(clean, seed)
    quarters = degraded.reshape(2, 48, 2, 64, 3).mean((1, 3)).ravel()
    np.testing.assert_allclose([*quarters[[0, 4, 8, 11]], degraded.std()], expected, atol=3e-4)


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


@pytest.mark.parametrize("kind", ["motion-blur", "defocus-blur"])
def test_a_blurred_picture_has_a_sensors_noise(kind: str) -> None:
    grey = np.full((100, 100, 3), 0.5, np.float32)
    noise = degradation(kind, {"noise": 5})(grey, 0) - degradation(kind, {"noise": 0})(grey, 0)
    assert noise.std() * 255 == pytest.approx(5, rel=0.02)


def test_low_resolution_rounds_the_smaller_size() -> None:
    """Eleven pixels become three, not two: 2.75."""
    point = np.zeros((11, 11, 3), np.float32)
    point[:, 5] = 1
    whole = Image.fromarray(point[:, :, 0])
    small = whole.resize((3, 3), Image.Resampling.BICUBIC).resize((11, 11), Image.Resampling.BICUBIC)
    found = degradation("low-resolution", {"scale": 4})(point, 0)[:, :, 0]
    np.testing.assert_allclose(found, np.clip(np.asarray(small), 0, 1), atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 1, 3), (1, 9, 3), (1, 1, 3)])
def test_low_resolution_leaves_a_pixel_of_a_side_that_is_smaller_than_the_scale(shape: tuple[int, ...]) -> None:
    grey = np.full(shape, 0.25, np.float32)
    np.testing.assert_allclose(degradation("low-resolution", {"scale": 4})(grey, 0), grey, atol=1e-6)


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


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_every_parameter_has_limits(kind: str) -> None:
    for name, default in parameters_of(kind).items():
        degradation(kind, {name: default})
        if isinstance(default, bool):
            continue
        low, high = _LIMITS[name]
        ranged = isinstance(default, tuple) or name == "sigma"
        for value in (low, high, [low, high] if ranged else low):
            degradation(kind, {name: value})
        for value in (low - 0.01, high + 0.01, float("inf"), True, []):
            with pytest.raises(InvalidValueError, match=f"{name} of {kind} must be a number"):
                degradation(kind, {name: value})


def test_noise_that_is_not_clipped_is_beyond_the_picture_and_never_wraps_around() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    unclipped = degradation("gaussian-noise", {"sigma": 25, "clip": False})
    assert unclipped((white / np.float32(255)).astype(np.float32), 0).max() > 1.2
    noisy = degrade_picture(white, unclipped, 0).astype(int)
    assert noisy.min() > 100
    assert (noisy == 255).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_degraded_picture_is_rounded_in_its_own_type(dtype: type) -> None:
    white = np.iinfo(dtype).max
    pixels = np.full((8, 8, 3), round(0.2 * white), dtype)
    hazy = degrade_picture(pixels, degradation("haze", {"density": 1.0, "airlight": 0.9, "unevenness": 0}), 5)
    light = np.random.default_rng(5)
    light.uniform(0, 0), light.uniform(-1, 1, (4, 4)), light.uniform(1, 1), light.uniform(0.9, 0.9)
    through = np.exp(-np.linspace(1, 0.2, 8))[:, None]
    expected = pixels[:, 0] / white * through + 0.9 * light.uniform(0.97, 1.03, 3) * (1 - through)
    np.testing.assert_array_equal(hazy[:, 3], np.rint(expected * white))
