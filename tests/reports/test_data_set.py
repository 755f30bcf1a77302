"""A data set evaluated in one call from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import load
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InvalidValueError, OutputFileError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.restoring import Restoring
from irsde_deploy.reports.data_set import EvaluationSettings, choose_pairs, evaluate_data_set, require_report_folder
from irsde_deploy.reports.evaluation import Measurement

pytest.importorskip("skimage", reason="scikit-image is not installed (extra evaluate)")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pairs of 24x32 pixels, and a third that is damaged."""
    rng = np.random.default_rng(5)
    for name in "abc":
        for kind in ("LQ", "GT"):
            pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            write_picture(tmp_path / "data" / kind / f"{name}.png", Picture(pixels))
    damaged = tmp_path / "data" / "LQ" / "c.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return tmp_path / "data"


def test_one_call_restores_measures_and_writes(data: Path, small_onnx: Path, tmp_path: Path) -> None:
    restoring = Restoring(load(small_onnx), Sampling(steps=2))
    seen: list[Measurement] = []
    settings = EvaluationSettings(crop_border=2, save_pictures=True, worst=1)
    pairs, report = choose_pairs(data), tmp_path / "report"
    evaluation = evaluate_data_set("small", restoring, pairs, report, settings, seen.append)
    assert seen == evaluation.measurements
    assert [bool(m.error) for m in seen] == [False, False, True]
    restored = read_picture(report / "restored" / "a.png").rgb
    clean = read_picture(data / "GT" / "a.png").rgb
    assert seen[0].values["psnr"] == pytest.approx(psnr(restored[2:-2, 2:-2], clean[2:-2, 2:-2]), rel=1e-9)
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["engine"], summary["pictures"], summary["failed"], summary["crop_border"]) == ("small", 3, 1, 2)
    assert (report / "worst.png").is_file()
    with pytest.raises(OutputFileError, match="pass `overwrite` to replace it"):
        require_report_folder(report, pairs, overwrite=False)
    require_report_folder(report, pairs, overwrite=True)
    with pytest.raises(OutputFileError, match="whose pictures are measured"):
        require_report_folder(data / "GT" / "report", pairs, overwrite=False)


def test_pairs_come_from_one_folder_or_from_two(data: Path) -> None:
    assert choose_pairs(data) == choose_pairs(lq=data / "LQ", gt=data / "GT")
    for given in ({}, {"lq": data / "LQ"}, {"data": data, "gt": data / "GT"}):
        with pytest.raises(InvalidValueError, match="give either `data` FOLDER"):
            choose_pairs(**given)
