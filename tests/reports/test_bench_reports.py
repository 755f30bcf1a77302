"""What a benchmark measures at which size, prints and writes; engines are scripted, and nothing is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.pictures.pairs import Pair
from irsde_deploy.reports import bench
from irsde_deploy.reports.bench import Benchmark, format_evaluations, format_pictures, run, write_reports
from irsde_deploy.reports.timing import Contestant, EvaluationTiming, PictureTiming
from irsde_deploy.system.listener import Listener

CARD = ModelCard("toy", {}, 3, 4, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005))


class Brightening:
    """A restorer that brightens by a level for each preset."""

    def __init__(self) -> None:
        self.engine, self.card, self.sde = SimpleNamespace(name="toy on paper"), CARD, CARD.sde
        self.evaluated: list[tuple[int, ...]] = []
        self.restored: list[tuple[tuple[int, ...], str | None]] = []

    def seconds_per_evaluation(self, picture: np.ndarray, sampling: Sampling | None = None, repeats: int = 3) -> float:
        self.evaluated.append(picture.shape)
        return 0.25

    def __call__(self, picture: np.ndarray, sampling: Sampling, quality: str | None = None) -> np.ndarray:
        self.restored.append((picture.shape, quality))
        return picture + {"draft": 1, "fast": 5, None: 9}[quality]


def test_a_run_measures_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra evaluate)")
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(bench, "matrix_product_peak", lambda: 1e9)
    monkeypatch.setattr(bench, "peak_memory", lambda *arguments: asked.append(arguments) or 5_000_000)
    lq = np.full((20, 24, 3), 100, np.uint8)
    pairs = [Pair(name, tmp_path / f"{name}.png", tmp_path / f"{name}_gt.png") for name in "ab"]
    for pair in pairs:
        write_picture(pair.lq, Picture(lq))
        write_picture(pair.gt, Picture(lq + 7))
    pairs[0].lq.write_bytes(b"no picture")
    restorer, lines, notes = Brightening(), [], []
    each = Contestant("a.onnx", restorer, Path("a.onnx"), operations=lambda batch, height, width: batch * 10**8)  # type: ignore[arg-type]
    listener = Listener(line=lines.append, note=notes.append)
    found = run([each], [(8, 8), (12, 16)], 3, 2, ["draft", "fast"], pairs, listener)
    assert asked == [(each, (12, 16), 3)]
    assert restorer.evaluated == [(3, 8, 8, 3)] * 3 + [(3, 12, 16, 3)] * 3
    timed = [entry for entry in restorer.restored if entry[0] == (12, 16, 3)]
    assert timed == [((12, 16, 3), "draft")] * 2 + [((12, 16, 3), "fast")] * 2, "a warm-up, and a third of two at least"
    assert len(notes) == 1, "pairs are read once for all"
    assert notes[0].startswith(f"{pairs[0].lq}: ")
    assert notes[0].endswith(": PSNR is without it")
    expected = [psnr(lq + 1, lq + 7), psnr(lq + 5, lq + 7)]
    assert [t.psnr for t in found.pictures] == pytest.approx(expected)
    assert [(t.size, t.batch, t.gflops, t.share) for t in found.evaluations] == [
        ("8x8", 3, pytest.approx(1.2), pytest.approx(1.2)),
        ("12x16", 3, pytest.approx(1.2), pytest.approx(1.2)),
    ]
    assert (found.engines, found.memory, found.peak) == ({"a.onnx": "toy on paper"}, {"a.onnx": 5_000_000}, 1e9)
    assert lines[0].endswith("; matrix products at 1.0 GFLOP/s")
    assert lines[1:] == [
        format_evaluations(found.evaluations), "a.onnx: 5 MB at most", format_pictures(found.pictures)
    ]  # fmt: skip


EVALUATION = EvaluationTiming("a", "fp32", "8x12", 1, 0.0125, 0.02, 3.25, 0.5)
PICTURE = PictureTiming("a", "8x12", "fast", "mean, 4 steps", 1.5, 24.125)


def test_tables_say_the_batch_and_what_is_known() -> None:
    uncounted = replace(EVALUATION, batch=4, gflops=None, share=None)
    assert format_evaluations([EVALUATION, uncounted]).splitlines()[2:] == [
        "| a | 8x12 | 12.5 ms | 20.0 ms | 3.2 | 50% |",
        "| a | 4 x 8x12 | 12.5 ms | 20.0 ms |  |  |",
    ]
    assert format_pictures([PICTURE, replace(PICTURE, psnr=None)]).splitlines()[2:] == [
        "| a | 8x12 | fast | mean, 4 steps | 1.500 s | 24.12 dB |",
        "| a | 8x12 | fast | mean, 4 steps | 1.500 s |  |",
    ]


def test_a_report_has_a_plot_where_any_psnr_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed (extra export)")
    numbers, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    one_of_two = [PICTURE, replace(PICTURE, engine="b", psnr=None)]
    benchmark = Benchmark("a machine", {"a": "toy"}, 2.5e9, [EVALUATION], one_of_two, {"a": None})
    assert write_reports(benchmark, tmp_path) == [numbers, plot]
    found = json.loads(numbers.read_text())
    assert (found["machine"], found["matrix_product_peak_gflops"]) == ("a machine", 2.5)
    assert (found["peak_memory_bytes"], found["pictures"][1]["psnr"]) == ({"a": None}, None)
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert write_reports(replace(benchmark, pictures=one_of_two[1:]), tmp_path) == [numbers]
    assert not plot.exists(), "that of the earlier report is not of this one"
