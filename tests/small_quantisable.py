"""A small network with everything that placement of Q/DQ must tell apart, written with onnx alone."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE

CHANNELS = 6
QUANTISABLE = ("/middle.0/Conv", "/middle.1/Conv", "/middle.2/Conv")
SUM = "/middle.1/Add"


def small_quantisable(gain: float = 0.35, channels: int = CHANNELS) -> tuple[onnx.ModelProto, ModelCard]:
    """Five convolutions, the fourth depth-wise; a residual sum, whose other input is also quantised; a shift by time.

    Args:
        gain: of the weights.
        channels: between the layers.
    """
    rng = np.random.default_rng(3)
    c = channels
    shapes = {
        "w1": (c, 6, 3, 3),
        "w2": (2 * c, c, 1, 1),
        "w3": (c, 2 * c, 3, 3),
        "w4": (c, 1, 3, 3),
        "w5": (3, c, 3, 3),
    }
    weights = {name: rng.normal(0, gain, shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {f"b{name[1]}": rng.normal(0, 0.1, shape[0]).astype(np.float32) for name, shape in shapes.items()}
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.float32(100), "T"), numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    padded = {"pads": [1] * 4}
    nodes = [
        helper.make_node("Sub", ["x", "mu"], ["y"], "/Sub"),
        helper.make_node("Concat", ["y", "mu"], ["both"], "/Concat", axis=1),
        helper.make_node("Conv", ["both", "w1", "b1"], ["h1"], "/first/Conv", **padded),
        helper.make_node("Conv", ["h1", "w2", "b2"], ["h2"], "/middle.0/Conv"),
        helper.make_node("Sigmoid", ["h2"], ["gate"], "/middle.0/Sigmoid"),
        helper.make_node("Mul", ["h2", "gate"], ["h3"], "/middle.0/Mul"),
        helper.make_node("Conv", ["h3", "w3", "b3"], ["h4"], "/middle.1/Conv", **padded),
        helper.make_node("Add", ["h1", "h4"], ["h5"], SUM),
        helper.make_node("Div", ["t", "T"], ["time"], "/time/Div"),
        helper.make_node("Unsqueeze", ["time", "axes"], ["shift"], "/time/Unsqueeze"),
        helper.make_node("Add", ["h5", "shift"], ["h6"], "/shift/Add"),
        helper.make_node("Conv", ["h6", "w4", "b4"], ["h7"], "/middle.2/Conv", group=c, **padded),
        helper.make_node("Tanh", ["h7"], ["h8"], "/middle.2/Tanh"),
        helper.make_node("Conv", ["h8", "w5", "b5"], ["eps"], "/last/Conv", **padded),
    ]
    picture = ["batch", 3, "height", "width"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, picture) for name in ("x", "mu")]
    inputs.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch"]))
    outputs = [helper.make_tensor_value_info("eps", TensorProto.FLOAT, picture)]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    sde = MeanRevertingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.5)
    return model, ModelCard("small", {}, 3, 4, "reflect", sde, sampler="mean", steps=3)


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A constant of a graph."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))
