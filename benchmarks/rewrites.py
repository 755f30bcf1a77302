"""What each rewrite of an exported graph brings on the CPU: those that are used, one after the other, and those tried.

    OMP_NUM_THREADS=2 python benchmarks/rewrites.py [--side SIDE] [--network NAME]

Networks with random weights, on which the time of an evaluation does not depend. Every graph is compared with the
exported one before it is timed. All graphs of one network and engine take turns, in random order; medians. Prints
Markdown.

Tried and not used: gains of norms multiplied with the scale that follows, or folded into the convolutions that read
them; the timestep as a constant, which is the most that precomputing everything that depends on t alone can bring; and
the mu half of the first convolution as an input, which is the most that computing it once a picture can bring.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from engines import NETWORKS, SDE, random_network
from onnx import helper, numpy_helper

from irsde_deploy import ModelCard
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.graphs.cpu_rewrites import REWRITES, Rewrite, for_cpu
from irsde_deploy.graphs.editing import GraphEditor
from irsde_deploy.runtimes.engines.onnx_session import open_session
from irsde_deploy.runtimes.engines.openvino_engine import compiled
from irsde_deploy.system.libraries import import_onnxruntime, import_openvino

onnxruntime = import_onnxruntime()
openvino = import_openvino()

REPEATS = 9
T = 30.0
Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], np.ndarray]


def combine_gains(editor: GraphEditor) -> None:
    """x * gain * scale, gain constant and scale one number a channel: x * (gain * scale)."""
    shapes = editor.shapes()
    substitutes = {}
    for node in editor.graph.node:
        if node.op_type != "Mul" or shapes.get(node.input[1], [])[2:] != [1, 1]:
            continue
        inner = editor.made_by(node.input[0], "Mul")
        gain = None if inner is None else editor.value(inner.input[1])
        if inner is not None and gain is not None and gain.shape[2:] == (1, 1):
            both = f"{node.output[0]}/gain"
            substitutes[node.output[0]] = [
                helper.make_node("Mul", [inner.input[1], node.input[1]], [both], f"{node.name}/gain"),
                helper.make_node("Mul", [inner.input[0], both], node.output, node.name),
            ]
    editor.replace(substitutes)


def fold_gains(editor: GraphEditor) -> None:
    """x * gain, gain constant, read by convolutions alone (and for its shape): the gain goes into their weights."""
    substitutes = {}
    for node in editor.graph.node:
        gain = editor.value(node.input[1]) if node.op_type == "Mul" else None
        readers = editor.readers.get(node.output[0], [])
        if (
            gain is None
            or gain.shape[2:] != (1, 1)
            or not {"Conv"} <= {r.op_type for r in readers} <= {"Conv", "Shape"}
        ):
            continue
        for reader in readers:
            folded = onnx.NodeProto.FromString(reader.SerializeToString())
            folded.input[0] = node.input[0]
            if reader.op_type == "Conv":
                weight = editor.value(reader.input[1]) * gain
                folded.input[1] = editor.constant(f"{reader.name} with gain", weight)
            substitutes[reader.output[0]] = [folded]
    editor.replace(substitutes)


def fix_timestep(editor: GraphEditor) -> None:
    """The timestep a constant: engines fold the time embedding and all scales and shifts when they load the graph."""
    inputs = [entry for entry in editor.graph.input if entry.name != "t"]
    del editor.graph.input[:]
    editor.graph.input.extend(inputs)
    editor.constant("t", np.array([T], np.float32))
    editor.replace({})


def take_mu_half(editor: GraphEditor) -> None:
    """conv([x - mu, mu]) -> conv(x - mu) + half, half = conv(mu) an input."""
    for node in editor.graph.node:
        joined = editor.made_by(node.input[0], "Concat") if node.op_type == "Conv" else None
        if joined is None or "mu" not in joined.input:
            continue
        weight = editor.value(node.input[1])
        channels = weight.shape[1] // 2
        state = onnx.NodeProto.FromString(node.SerializeToString())
        state.input[0], state.output[0] = joined.input[0], f"{node.output[0]}/state"
        state.input[1] = editor.constant("weight of the state", weight[:, :channels])
        half = helper.make_tensor_value_info("half", onnx.TensorProto.FLOAT, ["batch", len(weight), "height", "width"])
        editor.graph.input.append(half)
        added = helper.make_node("Add", [state.output[0], "half"], node.output, f"{node.name}/half")
        editor.replace({node.output[0]: [state, added]})
        return


def half_of(path: Path, mu: np.ndarray) -> np.ndarray:
    """What `take_mu_half` wants as input."""
    model = onnx.load(path)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(numpy_helper.to_array(w) for w in model.graph.initializer if w.name == conv.input[1])
    side = weight.shape[2]
    kernel = torch.from_numpy(weight[:, mu.shape[1] :].copy())
    return torch.nn.functional.conv2d(torch.from_numpy(mu), kernel, padding=side // 2).numpy()


TRIED: tuple[Rewrite, ...] = (combine_gains, fold_gains, fix_timestep, take_mu_half)


def on_onnxruntime(model: bytes, shapes: dict[str, tuple[int, ...]]) -> Run:
    """A graph on ONNX Runtime."""
    session = open_session(model, "cpu")
    names = [entry.name for entry in session.get_inputs()]
    return lambda given: session.run(None, {name: given[name] for name in names})[0]


def on_openvino(model: bytes, shapes: dict[str, tuple[int, ...]]) -> Run:
    """A graph on OpenVINO."""
    core = openvino.Core()
    request = compiled(core, core.read_model(model), shapes)
    names = [entry.any_name for entry in request.model_inputs]
    return lambda given: np.array(request.infer({name: given[name] for name in names}, share_inputs=True)[0])


ENGINES = {"onnxruntime": on_onnxruntime, "openvino": on_openvino}


@click.command()
@click.option("--side", type=int, default=256, show_default=True, help="Of the input, in pixels.")
@click.option("--network", default="", help="Measure the networks that have this in their name alone.")
def main(side: int, network: str) -> None:
    """Measure what each rewrite brings, on both engines."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    versions = f"onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__}"
    print(f"{platform.machine()}, {threads} threads, {versions}, {side}x{side}, median of {REPEATS}\n")
    for name, make in NETWORKS.items():
        if network not in name:
            continue
        model = random_network(make)
        card = ModelCard("benchmark", {}, 3, model.multiple_of, model.pad_mode, SDE)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, card, path)
            for engine in ENGINES:
                report(name, engine, path, side)


def report(name: str, engine: str, path: Path, side: int) -> None:
    """Print one table."""
    used = REWRITES[engine]
    ways: dict[str, tuple[Rewrite, ...]] = {"as exported": ()}
    ways |= {f"+ {rewrite.__name__}": used[: k + 1] for k, rewrite in enumerate(used)}
    others = [rewrite for rewrite in REWRITES["onnxruntime"] if rewrite not in used]
    ways |= {f"(tried: {rewrite.__name__})": (*used, rewrite) for rewrite in (*others, *TRIED)}
    ways["(tried: fold_gains)"] = (fold_gains, *used)  # before projections become products
    ways["(the used graph again)"] = used  # what differences mean nothing
    rng = np.random.default_rng(0)
    given = {key: rng.random((1, 3, side, side), dtype=np.float32) for key in ("x", "mu")}
    given |= {"t": np.array([T], np.float32), "half": half_of(path, given["mu"])}
    shapes = {key: value.shape for key, value in given.items()}
    graphs = {label: serialized(for_cpu(path, rewrites)) for label, rewrites in ways.items()}
    last = list(ways)[len(used)]
    idle = [label for label in ways if label.startswith("(tried") and graphs[label] == graphs[last]]
    runs = {label: ENGINES[engine](graphs[label], shapes) for label in ways if label not in idle}
    expected = runs["as exported"](given)
    errors = {label: np.abs(run(given) - expected).max() / np.abs(expected).max() for label, run in runs.items()}
    assert max(errors.values()) < 1e-5, errors
    taken: dict[str, list[float]] = {label: [] for label in runs}
    labels = list(runs)
    for _ in range(REPEATS):
        random.shuffle(labels)  # so that none always comes after the same
        for label in labels:
            run = runs[label]
            started = time.perf_counter()
            run(given)
            taken[label].append(time.perf_counter() - started)
    first, last_used = (statistics.median(taken[label]) for label in ("as exported", last))
    print(f"{name}, {engine}\n\n| graph | ms | of the exported | of the used | error |\n|---|---|---|---|---|")
    for label, times in taken.items():
        median = statistics.median(times)
        print(
            f"| {label} | {median * 1e3:.1f} | {median / first:.3f} | {median / last_used:.3f} | {errors[label]:.0e} |"
        )
    for label in idle:
        print(f"| {label} | finds nothing to rewrite | | | |")
    print(flush=True)


def serialized(graph: Path | bytes) -> bytes:
    """What `for_cpu` gives, as bytes."""
    return graph if isinstance(graph, bytes) else graph.read_bytes()


if __name__ == "__main__":
    main()
