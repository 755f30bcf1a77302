"""What costs are measured on: some pictures out of all, their middles, and what a file can hold of what is restored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_pairs import write_pairs
from small_quantisable import small_quantisable

from irsde_deploy.calibration import problem as module
from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.manifest import CalibrationSettings
from irsde_deploy.calibration.problem import Problem, _mean_psnr


def test_costs_are_of_the_middles_of_pictures_spread_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pairs(tmp_path, 5)
    model, card = small_quantisable()
    problem = Problem.of(model, card, find_data(str(folder)), CalibrationSettings("mean", (60,)))
    monkeypatch.setattr(module, "MEASURED", 3)
    monkeypatch.setattr(module, "MEASURED_SIDE", 14)
    measured = problem.pictures()
    assert len(measured) == 3
    for name, (degraded, clean) in zip("024", measured, strict=True):  # of 24 rows and 28 columns
        for kind, picture in (("LQ", degraded), ("GT", clean)):
            middle = cv2.imread(str(folder / kind / f"{name}.png"))[5:19, 7:21, ::-1].transpose(2, 0, 1)
            assert picture is not None
            np.testing.assert_allclose(picture[0], middle / np.float32(255), atol=1e-6)


def test_pictures_are_compared_as_a_file_holds_them() -> None:
    clean = [np.array([[[[0.0, 1.0]]]], np.float32)]
    assert _mean_psnr([np.array([[[[-0.5, 1.5]]]], np.float32)], clean) == np.inf
    assert _mean_psnr([clean[0]], []) is None
