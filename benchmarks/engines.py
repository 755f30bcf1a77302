"""One evaluation by eager PyTorch, ONNX Runtime and OpenVINO: interleaved, medians, times PyTorch's, share of the peak.

    OMP_NUM_THREADS=1 python benchmarks/engines.py [--side SIDE ...]

Networks with random weights; every engine's output is compared with PyTorch's before it is timed. The share is of the
best matrix product of NumPy's BLAS, measured beside each network; operations are those of the graph as exported, of
which the engines' rewritten ones need fewer. Prints Markdown.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.graphs.flops import count_flops
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.networks import ConditionalNAFNet, ConditionalUNet
from irsde_deploy.reports.machine import matrix_product_peak
from irsde_deploy.reports.timing import in_turns
from irsde_deploy.runtimes.engines.torch_engine import TorchEngine
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.runtimes.protocol import Engine
from irsde_deploy.system.libraries import import_onnxruntime, import_openvino

onnxruntime = import_onnxruntime()
openvino = import_openvino()

REPEATS = 7
NETWORKS = {
    "ConditionalNAFNet width 16 [1,1,1,4]": lambda: ConditionalNAFNet(16, [1, 1, 1, 4], 1, [1, 1, 1, 1]),
    "ConditionalNAFNet width 64 [1,1,1,28]": lambda: ConditionalNAFNet(64, [1, 1, 1, 28], 1, [1, 1, 1, 1]),
    "ConditionalUNet nf 16 depth 4": lambda: ConditionalUNet(3, 3, 16, depth=4),
    "ConditionalUNet nf 64 depth 4": lambda: ConditionalUNet(3, 3, 64, depth=4),
}
SDE = MeanRevertingSDE(10, 100, "cosine", 0.005)


@click.command()
@click.option("--side", "sides", type=int, multiple=True, default=(128, 256), show_default=True, help="In pixels.")
def main(sides: tuple[int, ...]) -> None:
    """Measure every network on every engine."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__}"
    print(f"{platform.machine()}, {threads} threads, {versions}\n")
    print("| network | size | PyTorch | ONNX Runtime | OpenVINO | peak, GFLOP/s |\n|---|---|---|---|---|---|")
    for name, make in NETWORKS.items():
        model = random_network(make)
        card = ModelCard("benchmark", {}, 3, model.multiple_of, model.pad_mode, SDE)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, card, path)
            engines = [TorchEngine(model, card), open_engine(path), open_engine(path, provider="openvino")]
            for side in sides:
                peak, taken = matrix_product_peak(), measure(engines, side)
                peak = max(peak, matrix_product_peak())
                speed = count_flops(read_model(path)[0], 1, side, side) / peak
                cells = [f"{s * 1e3:.0f} ms, {taken[0] / s:.2f} times, {speed / s:.0%}" for s in taken]
                print(f"| {name} | {side}x{side} | {' | '.join(cells)} | {peak / 1e9:.0f} |", flush=True)


def random_network(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A network in which everything counts: gains and the weights of residuals start at 1 and 0."""
    torch.manual_seed(0)
    model = make().eval()
    for name, parameter in model.named_parameters():
        if name.endswith((".g", ".beta", ".gamma")):
            torch.nn.init.uniform_(parameter, 0.2, 0.5)
    return model


def measure(engines: list[Engine], side: int) -> list[float]:
    """Median seconds of each engine's evaluation, in turns."""
    rng = np.random.default_rng(0)
    x, mu = (rng.random((1, 3, side, side), dtype=np.float32) for _ in range(2))
    t = np.array([30], np.float32)
    expected = engines[0](x, mu, t)
    for engine in engines[1:]:
        assert np.abs(engine(x, mu, t) - expected).max() < 1e-4 * np.abs(expected).max(), engine.name
    return [statistics.median(times) for times in in_turns([partial(seconds, e, x, mu, t) for e in engines], REPEATS)]


def seconds(engine: Engine, *inputs: np.ndarray) -> float:
    """Of one evaluation."""
    started = time.perf_counter()
    engine(*inputs)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
