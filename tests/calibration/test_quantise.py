"""Q/DQ in the graph: where it is, what the numbers are, and that TensorRT takes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from small_quantisable import QUANTISABLE, SUM, small_quantisable, weight

from irsde_deploy.calibration.layers import quantisable
from irsde_deploy.calibration.quantise import as_computed, mixed, quantise
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.engines.onnx_session import open_session
from irsde_deploy.runtimes.tensorrt.builder import build_plan
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import read_plan_card
from irsde_deploy.runtimes.tensorrt.profiles import Profile

RANGES = {"h1": 0.9, "h3": 1.1, "h4": 1.7, "h6": 2.3}
NETWORKS = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8", "ConditionalUNet", "ConditionalNAFNet")


def inputs(side: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x, mu = rng.random((1, 3, side, side), dtype=np.float32), rng.random((1, 3, side, side), dtype=np.float32)
    return {"x": x, "mu": mu, "t": np.array([40], np.float32)}


def some_ranges(model: onnx.ModelProto, residuals: bool = False) -> dict[str, float]:
    return {name: 3.0 for layer in quantisable(model, residuals) for name in layer.inputs}


def rounded(values: np.ndarray, top: float) -> np.ndarray:
    """INT8 and back, half to even; QuantizeLinear saturates at -128."""
    scale = np.float32(top) / np.float32(127)
    return (np.clip(np.rint(values / scale), -128, 127) * scale).astype(np.float32)


def per_channel(values: np.ndarray) -> np.ndarray:
    scale = np.abs(values).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
    return (np.rint(values / scale) * scale).astype(np.float32)


def emulated(residuals: bool) -> tuple[np.ndarray, np.ndarray]:
    """(eps with INT8 rounding written out in NumPy around ONNX's own interpreter, eps without)."""
    model, _ = small_quantisable()
    fed = inputs()

    def run(node: str, **given: np.ndarray) -> np.ndarray:
        only = onnx.ModelProto.FromString(model.SerializeToString())
        found = next(n for n in model.graph.node if n.name == node)
        del only.graph.node[:], only.graph.output[:], only.graph.initializer[:], only.graph.input[:]
        only.graph.node.append(found)
        for name in found.input:
            only.graph.input.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        only.graph.output.append(onnx.helper.make_tensor_value_info(found.output[0], TensorProto.FLOAT, None))
        return ReferenceEvaluator(only).run(None, given)[0]

    def forward(act: Callable[..., np.ndarray], wgt: Callable[..., np.ndarray], add: Callable[..., np.ndarray]):
        w = {name: weight(model, name) for name in ("w1", "w2", "w3", "w4", "w5", "b1", "b2", "b3", "b4", "b5")}
        both = np.concatenate([fed["x"] - fed["mu"], fed["mu"]], axis=1)
        h1 = run("/first/Conv", both=both, w1=w["w1"], b1=w["b1"])
        h2 = run("/middle.0/Conv", h1=act(h1, RANGES["h1"]), w2=wgt(w["w2"]), b2=w["b2"])
        h3 = h2 / (1 + np.exp(-h2))
        h4 = run("/middle.1/Conv", h3=act(h3, RANGES["h3"]), w3=wgt(w["w3"]), b3=w["b3"])
        h6 = add(h1, RANGES["h1"]) + add(h4, RANGES["h4"]) + np.float32(0.4)
        h7 = run("/middle.2/Conv", h6=act(h6, RANGES["h6"]), w4=wgt(w["w4"]), b4=w["b4"])
        return run("/last/Conv", h8=np.tanh(h7), w5=w["w5"], b5=w["b5"])

    def same(values: np.ndarray, top: float = 0) -> np.ndarray:
        return values

    return forward(rounded, per_channel, rounded if residuals else same), forward(same, same, same)


def unoptimised(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The graph node by node: the integer kernels that ONNX Runtime fuses it into saturate where there is no VNNI."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("residuals", [False, True], ids=["convolutions", "with residual sums"])
def test_the_graph_computes_what_numpy_says(residuals: bool) -> None:
    model, _ = small_quantisable()
    quantised = quantise(model, quantisable(model, residuals), RANGES)
    onnx.checker.check_model(quantised, full_check=True)
    expected, fp32 = emulated(residuals)
    (eps,) = unoptimised(quantised).run(None, inputs())
    (plain,) = open_session(model.SerializeToString()).run(None, inputs())
    np.testing.assert_allclose(plain, fp32, atol=1e-5)
    np.testing.assert_allclose(eps, expected, atol=1e-5)
    assert np.abs(expected - fp32).max() > 1e-2, "INT8 is another function"


def test_weights_are_rounded_per_output_channel_and_biases_stay() -> None:
    model, _ = small_quantisable()
    quantised = quantise(model, quantisable(model), RANGES)
    for name in ("w2", "w3", "w4"):
        original = weight(model, name)
        scale = np.abs(original).max(axis=(1, 2, 3)) / np.float32(127)
        np.testing.assert_allclose(weight(quantised, f"{name}_scale"), scale, rtol=1e-6)
        expected = np.rint(original / scale[:, None, None, None])
        stored = weight(quantised, f"{name}_quantized")
        assert stored.dtype == np.int8
        np.testing.assert_array_equal(stored, expected)
        assert not np.any(weight(quantised, f"{name}_zero_point"))
        np.testing.assert_array_equal(weight(quantised, f"b{name[1]}"), weight(model, f"b{name[1]}"))
        assert name not in {tensor.name for tensor in quantised.graph.initializer}, "the float weights are gone"
    assert weight(quantised, "h1_scale") == pytest.approx(0.9 / 127, rel=1e-6)
    assert weight(quantised, "h1_zero_point").item() == 0


def test_only_the_layers_asked_for_read_quantised_values() -> None:
    """h1 goes into a convolution, quantised, and past it into a sum, in float."""
    model, _ = small_quantisable()
    assert [layer.name for layer in quantisable(model)] == list(QUANTISABLE)
    names = [layer.name for layer in quantisable(model, residuals=True)]
    assert names == ["/middle.0/Conv", "/middle.1/Conv", SUM, "/middle.2/Conv"], "the shift by time is no residual sum"
    quantised = quantise(model, [layer for layer in quantisable(model) if layer.name != "/middle.1/Conv"], RANGES)
    made_by = {name: node.op_type for node in quantised.graph.node for name in node.output}
    readers = {node.name: node for node in quantised.graph.node}
    assert [made_by[name] for name in readers["/middle.0/Conv"].input[:2]] == ["DequantizeLinear"] * 2
    assert list(readers[SUM].input) == ["h1", "h4"]
    assert list(readers["/middle.1/Conv"].input) == ["h3", "w3", "b3"]


def test_each_layer_has_a_pair_of_its_own() -> None:
    """TensorRT fuses a layer with the DequantizeLinear before it, if no other layer reads that."""
    model, _ = small_quantisable()
    quantised = quantise(model, quantisable(model, residuals=True), RANGES)
    readers = {node.name: node for node in quantised.graph.node}
    made_by = {name: node for node in quantised.graph.node for name in node.output}
    both = [made_by[readers[name].input[0]] for name in ("/middle.0/Conv", SUM)]
    assert [node.op_type for node in both] == ["DequantizeLinear"] * 2
    assert both[0].name != both[1].name
    sources = [made_by[node.input[0]] for node in both]
    assert [(node.op_type, node.input[0]) for node in sources] == [("QuantizeLinear", "h1")] * 2
    assert sources[0].name != sources[1].name


def test_a_convolution_whose_weights_are_computed_stays_in_float() -> None:
    model, _ = small_quantisable()
    at = next(k for k, node in enumerate(model.graph.node) if node.name == "/middle.1/Conv")
    model.graph.node[at].input[1] = "computed"
    model.graph.node.insert(at, onnx.helper.make_node("Tanh", ["w3"], ["computed"], "/weights/Tanh"))
    assert [layer.name for layer in quantisable(model)] == [name for name in QUANTISABLE if name != "/middle.1/Conv"]


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_ends_attention_and_time_stay_in_float(name: str, onnx_of: Callable[[str], Path]) -> None:
    """The rule goes by structure; the names of the modules say the same."""
    model, _ = read_model(onnx_of(name))
    quantised = quantise(model, quantisable(model, True), some_ranges(model, True))
    made_by = {output: node.op_type for node in quantised.graph.node for output in node.output}
    there = {tensor.name for tensor in quantised.graph.initializer}
    low, high = set(), set()
    for node in quantised.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            reads = {made_by.get(tensor) for tensor in node.input if tensor not in there}
            (low if "DequantizeLinear" in reads else high).add((node.op_type, node.name))
    assert {op for op, _ in low} == {"Conv", "Add"}
    stay = r"/(norm\d?|to_out\.1|time_mlp|mlp|sca)/|^(/model)?/(intro|ending|init_conv|final_conv)/"
    assert not [name for _, name in low if re.search(stay, name)]
    missing = [name for op, name in high if op == "Conv" and not re.search(stay, name)]
    assert not missing, "every other convolution is quantised"
    assert {"Softmax", "ReduceMean"} & {op for op, _ in high}


def test_the_rest_can_be_fp16(onnx_of: Callable[[str], Path]) -> None:
    """INT8 layers read and write float32 in either; what differs is FP16's rounding elsewhere."""
    model, card = read_model(onnx_of("nafnet_w16"))
    layers, ranges = quantisable(model), some_ranges(model)
    graphs = {rest: mixed(model, layers, ranges, rest) for rest in ("fp32", "fp16")}
    types = {
        rest: {tensor.data_type for tensor in graph.graph.initializer if tensor.name.endswith("_quantized")}
        for rest, graph in graphs.items()
    }
    assert types == {"fp32": {TensorProto.INT8}, "fp16": {TensorProto.INT8}}
    picture = inputs(32)
    eps = {
        rest: OnnxEngine.from_bytes(as_computed(graph, rest).SerializeToString(), card)(**picture)
        for rest, graph in graphs.items()
    }
    scale = np.abs(eps["fp32"]).max()
    assert 1e-5 * scale < np.abs(eps["fp16"] - eps["fp32"]).max() < 0.1 * scale


def test_no_layers_is_the_graph_itself() -> None:
    model, _ = small_quantisable()
    assert quantise(model, [], {}) == model
    assert mixed(model, [], {}, "fp32") == model


def test_ranges_that_cannot_be_are_refused() -> None:
    model, _ = small_quantisable()
    with pytest.raises(InvalidValueError, match="has no range for h3"):
        quantise(model, quantisable(model), {"h1": 1.0})
    for impossible in (float("nan"), float("inf"), 0, -1):
        with pytest.raises(InvalidValueError, match="impossible range for h1"):
            quantise(model, quantisable(model), {**RANGES, "h1": impossible})
    with pytest.raises(InvalidValueError, match="not FP32 throughout"):
        quantisable(quantise(model, quantisable(model), RANGES))


def test_a_network_of_ends_alone_has_nothing_to_quantise(small_onnx: Path) -> None:
    model, _ = read_model(small_onnx)
    for node in model.graph.node:
        node.name = node.output[0]
    with pytest.raises(InvalidValueError, match="INT8 gains nothing"):
        quantisable(model)


@pytest.fixture(scope="module")
def rtx_options() -> BuildOptions:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    return BuildOptions("tensorrt-rtx", (Profile(*[(1, 64, 64)] * 3),))


@pytest.mark.parametrize("name", ["nafnet_w16", "unet_nf8_depth4"])
def test_a_plan_of_floats_has_no_int8_tensors(
    name: str, rtx_options: BuildOptions, onnx_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """What `int8_tensors` counts in the plans below is theirs alone."""
    source, plan = onnx_of(name), tmp_path / "a.plan"
    build_plan(*read_model(source), source, plan, rtx_options)
    assert int8_tensors(plan) == (0, 0)


@pytest.mark.parametrize(
    ("name", "residuals", "rest"),
    [("nafnet_w16", False, "fp32"), ("nafnet_w16", True, "fp16"), ("unet_nf8_depth4", True, "fp32")],
)
def test_tensorrt_rtx_builds_it(
    name: str,
    residuals: bool,
    rest: str,
    rtx_options: BuildOptions,
    onnx_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Ahead of time, on any machine: each convolution's weights and what it reads are INT8 in the plan, as it says."""
    model, card = read_model(onnx_of(name))
    quantised = mixed(model, quantisable(model, residuals), some_ranges(model, residuals), rest)
    source, plan = tmp_path / "a.int8.onnx", tmp_path / "a.plan"
    write_model(quantised, replace(card, precision="int8"), source)
    built = build_plan(*read_model(source), source, plan, rtx_options)
    assert read_plan_card(plan) == built
    assert built.model.precision == "int8"
    convolutions = len(quantisable(model))
    weights, activations = int8_tensors(plan)
    assert weights >= convolutions
    assert activations > convolutions / 2, "what they read is INT8 too, where kernels do not pass it on within them"


def int8_tensors(plan: Path) -> tuple[int, int]:
    """Constants and intermediate tensors of type INT8 that a TensorRT-RTX plan lists, beside its scratch space."""
    listed = re.findall(rb"tensor=\{[^\n]*?type=int8 \}", plan.read_bytes())
    names = [{re.search(rb'name="([^"]*)"', entry)[1] for entry in listed if key in entry} for key in (b"const_", b"")]
    scratch = {name for name in names[1] if b"scratch" in name}
    return len(names[0]), len(names[1] - names[0] - scratch)
