"""A network of one convolution, written with onnx alone: for tests of what is around an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.graphs.onnx_file import write_model


def write_small_network(path: Path) -> Path:
    """eps = tanh(conv3x3(x - mu) + t / 100), weights from a fixed seed; T = 100, `sde-2m` in 3 steps."""
    weights = np.random.default_rng(0).normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(100), "hundred")]
    constants.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    nodes = [
        helper.make_node("Sub", ["x", "mu"], ["y"]),
        helper.make_node("Conv", ["y", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Div", ["t", "hundred"], ["time"]),
        helper.make_node("Unsqueeze", ["time", "axes"], ["times"]),
        helper.make_node("Add", ["features", "times"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["eps"]),
    ]
    picture = ["batch", 3, "height", "width"]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, picture),
        helper.make_tensor_value_info("mu", TensorProto.FLOAT, picture),
        helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("eps", TensorProto.FLOAT, picture)]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    sde = MeanRevertingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.005)
    write_model(model, ModelCard("small", {}, 3, 4, "reflect", sde, sampler="sde-2m", steps=3), path)
    return path
