"""The bench command and what it counts and measures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard, bench, load
from irsde_deploy.__main__ import main
from irsde_deploy.export.flops import count_flops
from irsde_deploy.export.networks import ConditionalNAFNet, ConditionalUNet
from irsde_deploy.export.onnx_model import read_model
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.images import Picture, write_picture


def counted_by_pytorch(model: torch.nn.Module, side: int) -> int:
    """A second implementation: PyTorch's own counter, on tensors without memory."""
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta")
    x = torch.zeros(1, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, x, torch.ones(1, device="meta"))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", ["nafnet", "unet"])
def test_operations_are_those_that_pytorch_counts(name: str, tmp_path: Path) -> None:
    make = {
        "nafnet": lambda: ConditionalNAFNet(8, [1, 2], 1, [1, 1]),
        "unet": lambda: ConditionalUNet(3, 3, 8, depth=3),
    }[name]
    model = make().eval()
    card = ModelCard(name, {}, 3, model.multiple_of, model.pad_mode, MeanRevertingSDE(10, 100, "cosine", 0.005))
    write_onnx(model, card, tmp_path / "a.onnx")
    graph, _ = read_model(tmp_path / "a.onnx")
    assert count_flops(graph, 1, 64, 64) == counted_by_pytorch(make(), 64)
    spatial = count_flops(graph, 1, 128, 128) / count_flops(graph, 1, 64, 64)
    assert 3.8 < spatial <= 4, "all but the time embedding grows with the pixels"


class Sleeper:
    """A restorer that takes a known time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.order = seconds, []
        self.card = type("Card", (), {"precision": "fp32"})

    def seconds_per_evaluation(self, picture: np.ndarray, repeats: int) -> float:
        time.sleep(self.seconds)
        return self.seconds


def test_speed_is_operations_over_the_median() -> None:
    timings = list(
        bench.time_evaluations([Sleeper(0.01), Sleeper(0.002)], ["a", "b"], [(8, 8)], 1, 3, lambda h, w: 10**7, 4e9)
    )
    assert [t.engine for t in timings] == ["a", "b"]
    assert [t.gflops for t in timings] == pytest.approx([1.0, 5.0])
    assert [t.share for t in timings] == pytest.approx([0.25, 1.25])


def test_memory_is_of_a_process_of_its_own(unet_onnx: Path) -> None:
    ballast = np.ones(400_000_000, np.uint8)
    size = bench.peak_memory(str(unet_onnx), None, (64, 64))
    assert size is not None
    assert 30e6 < size < ballast.nbytes, "this process's memory does not count"


def test_a_report_of_engines_qualities_and_psnr(
    unet_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails_with
) -> None:
    rng = np.random.default_rng(0)
    for folder in ("LQ", "GT"):
        write_picture(tmp_path / "data" / folder / "a.png", Picture(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)))
    options = ["--size", "16x16", "--size", "24x32", "--repeats", "2", "--quality", "draft", "--quality", "fast"]
    report = ["--data", str(tmp_path / "data"), "-o", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["irsde-deploy", "bench", str(unet_onnx), *options, *report])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "| unet.onnx | 24x32 |" in capfd.readouterr().out
    found = json.loads((tmp_path / "report" / "bench.json").read_text())
    assert [(t["size"], t["quality"]) for t in found["pictures"]] == [("24x32", "draft"), ("24x32", "fast")]
    for timing in found["evaluations"]:
        assert timing["gflops"] / (found["matrix_product_peak_gflops"] * timing["share"]) == pytest.approx(1)
        assert timing["median"] <= timing["p95"]
    from irsde_deploy.images import read_picture
    from irsde_deploy.metrics import psnr

    lq, gt = (read_picture(tmp_path / "data" / side / "a.png").rgb for side in ("LQ", "GT"))
    assert found["pictures"][1]["psnr"] == pytest.approx(psnr(load(unet_onnx)(lq, quality="fast"), gt))
    assert (tmp_path / "report" / "bench.png").read_bytes()[:4] == b"\x89PNG"
    fails_with(1, "holds a report already", "bench", unet_onnx, "-o", tmp_path / "report")
    fails_with(2, "written HxW", "bench", unet_onnx, "--size", "16")


def test_every_engine_takes_its_turn(onnx_of: Callable[[str], Path]) -> None:
    order: list[str] = []
    bench._in_turns([lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0], 2)
    assert "".join(order) == "ababab"
