"""Which of PyTorch's two ONNX exporters serves these networks better: time to export, size of the graph, time to run.

    python benchmarks/onnx_exporters.py

Both graphs go through onnxscript's optimizer and run interleaved in ONNX Runtime at 256x256, medians of 9.
"""

from __future__ import annotations

import logging
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
import onnx
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.export.to_onnx import OPSET, write_onnx
from irsde_deploy.networks import ConditionalNAFNet, ConditionalUNet
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

REPEATS = 9
NETWORKS = {
    "ConditionalNAFNet width 16 [1,1,1,4]": ConditionalNAFNet(16, [1, 1, 1, 4], 1, [1, 1, 1, 1]),
    "ConditionalUNet nf 16 depth 4": ConditionalUNet(3, 3, 16, depth=4),
}


def export_traced(model: torch.nn.Module, path: Path) -> None:
    sde = MeanRevertingSDE(10, 100, "cosine", 0.005)
    write_onnx(model, ModelCard("benchmark", {}, 3, model.multiple_of, model.pad_mode, sde), path)


def export_dynamo(model: torch.nn.Module, path: Path) -> None:
    side = 2 * model.multiple_of
    x = torch.zeros(2, 3, side, side + model.multiple_of)
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    torch.onnx.export(
        model,
        (x, x, torch.ones(2)),
        path,
        dynamo=True,
        verbose=False,
        external_data=False,
        opset_version=OPSET,
        input_names=["x", "mu", "t"],
        output_names=["eps"],
        dynamic_shapes=(dynamic, dynamic, {0: torch.export.Dim.DYNAMIC}),
    )


@click.command()
def main() -> None:
    """Export every network in both ways and measure the graphs."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, ",
        end="",
    )
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    for name, model in NETWORKS.items():
        model.eval()
        sessions = {}
        for kind, export in (("traced", export_traced), ("dynamo", export_dynamo)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "m.onnx"
                started = time.perf_counter()
                export(model, path)
                seconds = time.perf_counter() - started
                sessions[kind] = (onnxruntime.InferenceSession(str(path)), seconds, len(onnx.load(path).graph.node))
        x = np.zeros((1, 3, 256, 256), np.float32)
        inputs = {"x": x, "mu": x, "t": np.array([50], np.float32)}
        times: dict[str, list[float]] = {kind: [] for kind in sessions}
        for _ in range(REPEATS + 1):
            for kind, (session, *_rest) in sessions.items():
                started = time.perf_counter()
                session.run(None, inputs)
                times[kind].append(time.perf_counter() - started)
        print(name)
        for kind, (_, seconds, nodes) in sessions.items():
            run = statistics.median(times[kind][1:]) * 1000
            print(f"  {kind}: export {seconds:5.1f} s, {nodes} nodes, one evaluation {run:.0f} ms")


if __name__ == "__main__":
    main()
