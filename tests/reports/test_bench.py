"""The bench command and what it counts and measures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from golden import load_case, torch_engine

from irsde_deploy import load
from irsde_deploy.__main__ import main
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.graphs.flops import count_flops, operations
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.pictures.pairs import Pair
from irsde_deploy.reports import machine
from irsde_deploy.reports.bench import data_set_psnr, readable_pairs
from irsde_deploy.reports.machine import peak_memory
from irsde_deploy.reports.timing import Contestant, in_turns, time_evaluations


@pytest.fixture(autouse=True)
def _quick_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PEAK_SIDE", 128)


def counted_by_pytorch(model: torch.nn.Module, side: int) -> int:
    """A second implementation: PyTorch's own counter, on tensors without memory."""
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta")
    x = torch.zeros(1, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, x, torch.ones(1, device="meta"))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", ["nafnet_w16", "unet_nf8_depth4"])
def test_operations_are_those_that_pytorch_counts(name: str, onnx_of: Callable[[str], Path]) -> None:
    graph, _ = read_model(onnx_of(name))
    model = torch_engine(load_case(name)).model  # type: ignore[attr-defined]
    assert count_flops(graph, 1, 64, 64) == counted_by_pytorch(model, 64)
    spatial = count_flops(graph, 1, 128, 128) / count_flops(graph, 1, 64, 64)
    assert 3.8 < spatial <= 4, "all but the time embedding grows with the pixels"


def test_operations_node_by_node() -> None:
    """Of a transposed convolution as PyTorch counts it; of what is no product, one for each value."""
    make = onnx.helper.make_node
    nodes = [make("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2]), make("Sigmoid", ["y"], ["z"], "gate")]
    weights = np.zeros((6, 4, 2, 2), np.float32)
    tensors = [
        onnx.helper.make_tensor_value_info(name, 1, ["b", channels, "h", "w"])
        for name, channels in (("x", 6), ("z", 4))
    ]
    graph = onnx.helper.make_graph(nodes, "g", tensors[:1], tensors[1:], [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.conv_transpose2d(torch.zeros(2, 6, 8, 16), torch.from_numpy(weights), stride=2)
    assert operations(model, 2, 8, 16) == {"up": counter.get_total_flops(), "gate": 2 * 4 * 16 * 32}
    assert count_flops(model, 2, 8, 16) == counter.get_total_flops()


class Sleeper:
    """A restorer that takes a known time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.card = type("Card", (), {"precision": "fp32"})

    def seconds_per_evaluation(self, picture: np.ndarray, sampling: Sampling | None = None, repeats: int = 3) -> float:
        time.sleep(self.seconds)
        return self.seconds


def test_speed_is_each_engines_own_operations_over_its_median() -> None:
    contestants = [
        Contestant("a", Sleeper(0.01), Path("a.onnx"), operations=lambda batch, h, w: batch * h * w * 10**5),
        Contestant("b", Sleeper(0.002), Path("b.onnx"), operations=lambda batch, h, w: 10**7),
        Contestant("c", Sleeper(0.002), Path("c.plan")),
    ]
    timings = list(time_evaluations(contestants, [(8, 8)], 3, 3, 4e9))
    assert [(t.engine, t.batch) for t in timings] == [("a", 3), ("b", 3), ("c", 3)]
    assert [t.gflops for t in timings[:2]] == pytest.approx([1.92, 5.0])
    assert [t.share for t in timings[:2]] == pytest.approx([0.48, 1.25])
    assert timings[2].gflops is timings[2].share is None


def test_memory_is_of_a_process_of_its_own(small_onnx: Path) -> None:
    ballast = np.ones(400_000_000, np.uint8)
    contestant = Contestant("a", load(small_onnx), small_onnx)
    size = peak_memory(contestant, (64, 64))
    assert size is not None
    assert 30e6 < size < ballast.nbytes, "this process's memory does not count"
    more = peak_memory(contestant, (128, 128), 8)
    assert more > size + 8 * 3 * 4 * 128 * 128, "a batch takes its states at least"
    assert peak_memory(Contestant("a", load(small_onnx), small_onnx, device="cuda"), (64, 64)) is None


def test_a_report_of_engines_qualities_and_psnr(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails_with
) -> None:
    rng = np.random.default_rng(0)
    for folder in ("LQ", "GT"):
        write_picture(tmp_path / "data" / folder / "a.png", Picture(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)))
    options = ["--size", "16x16", "--size", "24x32", "--batch", "2", "--repeats", "2"]
    options += ["--quality", "draft", "--quality", "fast"]
    report = ["--data", str(tmp_path / "data"), "-o", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["irsde-deploy", "bench", str(small_onnx), *options, *report])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "| small.onnx | 24x32 |" in capfd.readouterr().out
    found = json.loads((tmp_path / "report" / "bench.json").read_text())
    assert [(t["size"], t["quality"]) for t in found["pictures"]] == [("24x32", "draft"), ("24x32", "fast")]
    assert [(t["size"], t["batch"]) for t in found["evaluations"]] == [("16x16", 2), ("24x32", 2)]
    for timing in found["evaluations"]:
        assert timing["gflops"] / (found["matrix_product_peak_gflops"] * timing["share"]) == pytest.approx(1)
        assert timing["median"] <= timing["p95"]
    from irsde_deploy.core.comparison import psnr
    from irsde_deploy.pictures.files import read_picture

    lq, gt = (read_picture(tmp_path / "data" / side / "a.png").rgb for side in ("LQ", "GT"))
    restored = load(small_onnx)(lq, quality="fast")
    inner = (slice(4, -4), slice(4, -4))  # as evaluate measures
    assert found["pictures"][1]["psnr"] == pytest.approx(psnr(restored[inner], gt[inner]))
    assert (tmp_path / "report" / "bench.png").read_bytes()[:4] == b"\x89PNG"
    fails_with(1, "holds a report already", "bench", small_onnx, "-o", tmp_path / "report")
    fails_with(2, "written HxW", "bench", small_onnx, "--size", "16")


def test_bad_data_is_told_before_anything_is_measured(small_onnx: Path, tmp_path: Path, fails_with) -> None:
    fails_with(1, "no such folder", "bench", small_onnx, "--data", tmp_path / "none")
    (tmp_path / "file").write_text("")
    fails_with(1, "a report goes into a folder", "bench", small_onnx, "-o", tmp_path / "file")
    fails_with(2, "1 to 100000000 pixels", "bench", small_onnx, "--size", "99999x99999")
    for folder, width in (("LQ", 24), ("GT", 20)):
        write_picture(tmp_path / "data" / folder / "a.png", Picture(np.zeros((20, width, 3), np.uint8)))
    options = ("--size", "16x16", "--repeats", "1", "--quality", "draft")
    fails_with(1, "a.png", "bench", small_onnx, *options, "--data", tmp_path / "data")


def test_pairs_that_cannot_be_read_are_left_out_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a pair that one engine cannot restore leaves that engine alone without a PSNR."""
    pairs = []
    for name in "ab":
        pair = Pair(name, tmp_path / f"{name}_lq.png", tmp_path / f"{name}.png")
        write_picture(pair.lq, Picture(np.zeros((20, 20, 3), np.uint8)))
        write_picture(pair.gt, Picture(np.full((20, 20, 3), 255, np.uint8)))
        pairs.append(pair)
    pairs[0].gt.write_bytes(b"no picture")
    told: list[str] = []
    assert readable_pairs(pairs, told.append) == pairs[1:]
    assert [sentence.startswith(str(pairs[0].gt)) for sentence in told] == [True]

    def restore(picture: np.ndarray, sampling: Sampling, quality: str) -> np.ndarray:
        if quality == "best":
            raise MemoryError
        return picture

    contestant = Contestant("a.onnx", restore, Path("a.onnx"))
    monkeypatch.setattr(Contestant, "sampling", Sampling())
    told.clear()
    assert data_set_psnr(contestant, "fast", pairs[1:], told.append) == 0
    assert data_set_psnr(contestant, "best", pairs[1:], told.append) is None
    assert told == [f"{pairs[1].lq}: not enough memory for it: a.onnx has no PSNR by best"]


def test_several_engines_of_one_name_and_of_both_kinds(
    small_onnx: Path, onnx_of: Callable[[str], Path], tmp_path: Path, monkeypatch, capfd
) -> None:
    copies = [tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"]
    for copy, source in zip(copies, (small_onnx, onnx_of("ConditionalNAFNet")), strict=True):
        copy.parent.mkdir()
        copy.write_bytes(source.read_bytes())
    options = ["--size", "16x16", "--repeats", "1", "--quality", "draft", "-o", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["irsde-deploy", "bench", *map(str, copies), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capfd.readouterr().err
    found = json.loads((tmp_path / "report" / "bench.json").read_text())
    assert list(found["engines"]) == [t["engine"] for t in found["evaluations"]] == [str(copy) for copy in copies]
    for copy, timing in zip(copies, found["evaluations"], strict=True):
        count = count_flops(read_model(copy)[0], 1, 16, 16)
        assert timing["gflops"] * 1e9 * timing["median"] == pytest.approx(count)


def test_every_engine_takes_its_turn() -> None:
    order: list[str] = []
    in_turns([lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0], 2)
    assert "".join(order) == "ababab"
