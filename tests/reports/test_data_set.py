"""A data set evaluated in one call from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import Restorer, load
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import InvalidValueError, OutputFileError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.restoring import Restoring
from irsde_deploy.reports.data_set import EvaluationSettings, choose_pairs, evaluate_data_set, require_report_folder
from irsde_deploy.reports.evaluation import Measurement
from irsde_deploy.system.listener import Listener

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
    (tmp_path / "link").symlink_to(data / "GT")
    for among in (data / "LQ", data / "LQ" / "report", data / "GT" / "deep" / "report", tmp_path / "link" / "report"):
        with pytest.raises(OutputFileError, match="whose pictures are measured"):
            require_report_folder(among, pairs, overwrite=True)
    require_report_folder(data / "report", pairs, overwrite=False)


def test_pairs_come_from_one_folder_or_from_two(data: Path) -> None:
    assert choose_pairs(data) == choose_pairs(lq=data / "LQ", gt=data / "GT")
    both = {"lq": data / "LQ", "gt": data / "GT"}
    for given in ({}, {"lq": data / "LQ"}, {"data": data, "gt": data / "GT"}, {"data": data, **both}):
        with pytest.raises(InvalidValueError, match="give either `data` FOLDER"):
            choose_pairs(**given)


class Recorder:
    """In the place of the Fréchet distance."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, restored: np.ndarray, clean: np.ndarray) -> None:
        self.seen.append((restored, clean))

    def value(self) -> float:
        return 12.5


def test_a_report_says_how_it_was_made(
    data: Path, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(small_onnx).engine
    engine.card = replace(engine.card, margin=4)
    restoring = Restoring(Restorer(engine), Sampling(sampler="mean", steps=3, tile=16, overlap=8))
    recorder = Recorder()
    monkeypatch.setattr("irsde_deploy.reports.data_set._frechet", lambda weights: recorder)
    told: list[int] = []

    @contextmanager
    def progress(length: int, label: str) -> Iterator[Callable[..., None]]:
        told.append(length)
        yield lambda position, text=None: told.append(position)

    listener = Listener(progress=progress)
    settings = EvaluationSettings(save_pictures=True)
    evaluation = evaluate_data_set("small", restoring, choose_pairs(data), tmp_path / "r", settings, listener=listener)
    assert told == [3, 1, 2, 3]
    assert [m.values.get("evaluations") for m in evaluation.measurements] == [3, 3, None]
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["margin"] == 4
    assert summary["crop_border"] == 4
    assert summary["tiles"] == str(Tiling(16, 8))
    assert (summary["sampler"], summary["steps"], summary["fid"]) == ("mean", 3, 12.5)
    for name, (restored, clean) in zip("ab", recorder.seen, strict=True):
        np.testing.assert_array_equal(clean, read_picture(data / "GT" / f"{name}.png").rgb)
        np.testing.assert_array_equal(restored, read_picture(tmp_path / "r" / "restored" / f"{name}.png").rgb)
        assert (restored != read_picture(data / "LQ" / f"{name}.png").rgb).any()


def test_what_was_measured_until_an_interrupt_is_written(data: Path, small_onnx: Path, tmp_path: Path) -> None:
    def interrupt(measurement: Measurement) -> None:
        if measurement.name == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_data_set(
            "small", Restoring(load(small_onnx), Sampling(steps=1)), choose_pairs(data), tmp_path / "r", None, interrupt
        )
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["pictures"], summary["failed"]) == (2, 0)
    assert "margin" not in summary
    assert "tiles" not in summary
    assert (tmp_path / "r" / "worst.png").is_file()
