"""NVIDIA ModelOpt's INT8 beside ours: the committed de-raining model, the same states, the same held-out pairs.

    python3 -m venv modelopt
    modelopt/bin/pip install 'nvidia-modelopt[onnx]' torch==2.13.0
    python benchmarks/int8_modelopt.py PHOTOS --python modelopt/bin/python

ModelOpt has an environment of its own, since its pins clash with ours. It forgets the model card, which is put back,
and rewrites the file that it reads, so that it is given a copy.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from itertools import islice
from pathlib import Path

import click
import numpy as np
import onnx
from int8 import HEADING, PATH, SEEDS, Bench, Calibration, bench_of, calibrations, collected


@click.command()
@click.argument("photos", type=PATH)
@click.option("--python", type=PATH, required=True, help="Of the environment that has ModelOpt.")
@click.option("--states", default=128, show_default=True, help="Of a calibration.")
def main(photos: Path, python: Path, states: int) -> None:
    """Compare on the held-out ones of PHOTOS."""
    version = "from importlib.metadata import version; print(version('nvidia-modelopt'))"
    found = subprocess.run([python, "-c", version], check=True, capture_output=True, text=True)
    print(f"nvidia-modelopt {found.stdout.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bench = bench_of(photos, work)
        compare(bench, python.absolute(), states, work)


def compare(bench: Bench, python: Path, states: int, work: Path) -> None:
    """Print the rows."""
    print(f"{states} states a calibration\n")
    calibration = calibrations(bench.problem)[0]
    files = [save_states(calibration, seed, states, work / f"states{seed}.npz") for seed in range(SEEDS)]
    layers = bench.problem.layers
    ours = ["--op_types_to_quantize", "Conv", "--nodes_to_quantize", *(f"{re.escape(layer.name)}$" for layer in layers)]
    print(HEADING.format("quantised by"))
    for method in ("max", "entropy"):
        for where, chosen in (("its own placement", []), (f"our {len(layers)} convolutions", ours)):
            options = ["--calibration_method", method, *chosen]
            graphs = [by_modelopt(python, work / "derain.onnx", path, options) for path in files]
            bench.row_of(f"ModelOpt, {method}, {where}", graphs)
    statistics = collected(bench.problem, layers, calibration, states)
    for method in ("minmax", "entropy", "mse"):
        bench.row(f"ours, {method}", layers, [seed.ranges(method) for seed in statistics])


def save_states(calibration: Calibration, seed: int, number: int, path: Path) -> Path:
    """Write calibration states as ModelOpt reads them: the graph's inputs by name, each (number, ...)."""
    states = list(islice(calibration.states(seed), number))
    arrays = {name: np.concatenate([getattr(state, name) for state in states]) for name in ("x", "mu")}
    np.savez(path, t=np.array([state.t for state in states], np.float32), **arrays)
    return path


def by_modelopt(python: Path, graph: Path, states: Path, options: list[str]) -> onnx.ModelProto:
    """The graph as ModelOpt quantises it on the CPU, the rest in FP32."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        shutil.copyfile(graph, given)
        command = [python, "-m", "modelopt.onnx.quantization", "--onnx_path", given, "--quantize_mode", "int8"]
        command += ["--calibration_data_path", states, "--calibration_eps", "cpu", "--high_precision_dtype", "fp32"]
        done = subprocess.run([*command, *options, "--output_path", made], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"ModelOpt failed:\n{done.stderr}")
        return onnx.load(made)


if __name__ == "__main__":
    main()
