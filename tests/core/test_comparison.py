"""Distances between arrays by hand: at zero, with NaN, and what each precision is allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.comparison import compare, format_comparison, psnr, tolerance_of, worst_of
from irsde_deploy.core.example import example_picture, normals
from irsde_deploy.core.noise import normal_field
from irsde_deploy.errors import InvalidValueError


def test_a_comparison_by_hand() -> None:
    found = compare("a", np.array([1.0, -3.5], np.float32), np.array([1.5, -4.0], np.float32), 0.125)
    assert (found.max_abs, found.mean_abs, found.relative) == (0.5, 0.5, 0.125)
    assert found.psnr == pytest.approx(-10 * math.log10(0.25))
    assert found.passed
    assert "ok" in format_comparison(found)
    assert not compare("a", np.array([0.0]), np.array([1.0]), 0.99).passed


def test_zeros_and_nan() -> None:
    zero, one, nan = np.zeros(2), np.ones(2), np.array([0.0, np.nan])
    assert compare("equal", zero, zero, 0).passed
    assert compare("nothing is near to zero", one, zero, 1e9).relative == math.inf
    bad = compare("nan", nan, one, 1e9)
    assert not bad.passed
    assert "FAILED (allowed 1e+09)" in format_comparison(bad)
    assert worst_of([compare("far", zero, one, 1), bad, compare("near", one, one, 1)]).case == "nan"
    assert worst_of([compare("near", one, one, 1), compare("far", zero, one, 1)]).case == "far"


def test_psnr_takes_the_white_of_the_type_and_one_shape() -> None:
    dark, light = np.zeros((2, 2), np.uint16), np.full((2, 2), 655, np.uint16)
    assert psnr(dark, light) == pytest.approx(20 * math.log10(65535 / 655))
    assert psnr(dark, light, peak=655) == 0
    with pytest.raises(InvalidValueError, match="one shape"):
        psnr(dark, light[:1])


def test_every_precision_has_its_tolerance() -> None:
    found = [tolerance_of(precision, 1e-5) for precision in ("fp32", "fp16", "mixed", "int8")]
    assert found == [1e-5, 2e-2, 2e-2, 0.5]


def test_the_example_is_different_for_every_picture_step_and_channel() -> None:
    card = ModelCard("ConditionalNAFNet", {}, 3, 8, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005))
    drawn = normals(card, 2, 2, 5, 6)
    for step, picture in np.ndindex(2, 2):
        np.testing.assert_array_equal(drawn[step, picture], normal_field(2023, step, (3, 5, 6), frame=picture))
    pictures = example_picture(card, 2, 40, 60)
    assert 0.1 < pictures.min() < pictures.max() < 0.9
    planes = pictures.reshape(6, -1)
    assert len(np.unique(planes.mean(1))) == 6
    np.testing.assert_array_equal(pictures, example_picture(card, 2, 40, 60))
