"""What ONNX Runtime's spinning threads bring an evaluation, and what they cost a neighbour in the same process.

    python benchmarks/onnxruntime_spinning.py

Interleaved, medians of 15: one evaluation with and without spinning, then 50 small PyTorch convolutions right after it.
The engine turns spinning off (irsde_deploy/runtimes/engines/onnx_session.py).
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.networks import ConditionalNAFNet
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

REPEATS = 15


def open_session(path: Path, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(str(path), options)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@click.command()
def main() -> None:
    """Measure ONNX Runtime alone and beside PyTorch, with spinning and without."""
    model = ConditionalNAFNet(16, [1, 1, 1, 4], 1, [1, 1, 1, 1]).eval()
    convolution = torch.nn.Conv2d(3, 3, 3, padding=1)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}; ConditionalNAFNet width 16 [1,1,1,4]"
    )
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "m.onnx"
        write_onnx(model, ModelCard("b", {}, 3, 16, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005)), path)
        for side in (64, 256):
            x = np.zeros((1, 3, side, side), np.float32)
            inputs = {"x": x, "mu": x, "t": np.array([50], np.float32)}
            y = torch.zeros(1, 3, side, side)
            sessions = {spinning: open_session(path, spinning) for spinning in (True, False)}
            alone: dict[bool, list[float]] = {True: [], False: []}
            beside: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(REPEATS + 2):
                for spinning, session in sessions.items():
                    alone[spinning].append(seconds(lambda s=session, i=inputs: s.run(None, i)))
                    beside[spinning].append(seconds(lambda y=y: [convolution(y) for _ in range(50)]))
            for spinning in (True, False):
                run, neighbour = (statistics.median(times[spinning][2:]) * 1000 for times in (alone, beside))
                print(
                    f"  {side}x{side} spinning {spinning!s:5}: evaluation {run:6.1f} ms, neighbour {neighbour:6.1f} ms"
                )


if __name__ == "__main__":
    main()
