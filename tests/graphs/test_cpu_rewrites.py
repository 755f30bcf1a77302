"""Graphs rewritten for the CPU: equal to what they were made from, with fewer and cheaper nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.errors import EngineError
from irsde_deploy.graphs.cpu_rewrites import (
    REWRITES,
    Rewrite,
    convolve_before_upsampling,
    convolve_means,
    for_cpu,
    multiply_projections,
    split_weights,
)
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.engines.onnx_session import open_session, session_card
from irsde_deploy.runtimes.opening import open_engine

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

NETWORKS = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8", "ConditionalUNet", "ConditionalNAFNet")


def as_exported(path: Path) -> OnnxEngine:
    session = open_session(path)
    return OnnxEngine(session, session_card(session, path, None))


def operators(path: Path, *rewrites: Rewrite) -> Counter[str]:
    rewritten = for_cpu(path, rewrites)
    graph = onnx.load_from_string(rewritten if isinstance(rewritten, bytes) else rewritten.read_bytes()).graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("rewrites", [REWRITES["onnxruntime"], (split_weights,)], ids=["all", "split"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_the_exported_graph(name: str, rewrites: tuple[Rewrite, ...], onnx_of: Callable[[str], Path]) -> None:
    path = onnx_of(name)
    reference = as_exported(path)
    rewritten = for_cpu(path, rewrites)
    assert isinstance(rewritten, bytes)
    onnx.checker.check_model(rewritten, full_check=True)
    candidate = OnnxEngine.from_bytes(rewritten, reference.card)
    # taking weights apart leaves every sum as it is; the others add in another order
    tolerance = 0 if rewrites == (split_weights,) else 1e-5
    rng = np.random.default_rng(0)
    m, channels = reference.card.multiple_of, reference.card.channels
    for batch, height, width in ((1, m, m), (2, 3 * m, 2 * m), (1, 4 * m, 5 * m)):
        x, mu = (rng.random((batch, channels, height, width), dtype=np.float32) for _ in range(2))
        t = np.linspace(1, 90, batch, dtype=np.float32)
        expected = reference(x, mu, t)
        assert np.abs(candidate(x, mu, t) - expected).max() <= tolerance * np.abs(expected).max()


def test_engines_open_the_rewritten_graph(onnx_of: Callable[[str], Path]) -> None:
    path = onnx_of("nafnet_w16")
    engine, plain = open_engine(path), as_exported(path)
    rewritten = OnnxEngine.from_bytes(for_cpu(path, REWRITES["onnxruntime"]), engine.card)
    x, mu = np.random.default_rng(0).random((2, 1, 3, 32, 32), dtype=np.float32)
    first, second, third = (each(x, mu, np.array([30], np.float32)) for each in (engine, rewritten, plain))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third), "the means of channels add up in another order"


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("", 0), ("all", 0), ("1000000", 256), ("9" * 99, 0)])
def test_onnxruntime_takes_as_many_threads_as_it_is_told(
    text: str, threads: int, onnx_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    options = open_session(onnx_of("nafnet_w16")).get_session_options()
    assert options.intra_op_num_threads == threads


def test_what_each_rewrite_takes_away(onnx_of: Callable[[str], Path]) -> None:
    unet, nafnet = onnx_of("unet_nf8_depth4"), onnx_of("nafnet_w16")
    before, blocks = operators(nafnet), 12
    after = operators(nafnet, split_weights)
    # each block has two gates, one behind two convolutions and one behind one
    assert before["Split"] - after["Split"] == 2 * blocks
    assert after["Conv"] - before["Conv"] == 3 * blocks
    before, attentions, residual_blocks = operators(unet), 9, 19
    after = operators(unet, split_weights)
    assert (before["Split"], after["Split"]) == (attentions + residual_blocks, residual_blocks)
    after = operators(unet, split_weights, multiply_projections)
    assert after["MatMul"] - before["MatMul"] == 3 * attentions
    after = operators(unet, convolve_before_upsampling)
    assert (before["Resize"], after["Resize"], after["ConvTranspose"]) == (3, 0, 3)
    after = operators(unet, convolve_means)
    assert (before["ReduceMean"], after["ReduceMean"]) == (4 * attentions, 0)


def graph_file(path: Path, nodes: list[onnx.NodeProto], outputs: list[str], weights: dict[str, np.ndarray]) -> Path:
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in outputs}
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "test", inputs, list(ends.values()), constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def run(model: Path | bytes) -> list[np.ndarray]:
    x = np.random.default_rng(1).random((1, 4, 8, 8), dtype=np.float32)
    source = model.read_bytes() if isinstance(model, Path) else model
    return open_session(source).run(None, {"x": x})


CONV = np.random.default_rng(0).random((8, 4, 3, 3), dtype=np.float32)
RESIZE = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}


def split_of(source: str) -> onnx.NodeProto:
    return helper.make_node("Split", [source, "sizes"], ["a", "b"], "split", axis=1)


def test_a_convolution_that_others_read_too_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1] * 4),
        split_of("h"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
    ]
    weights = {"w": CONV, "sizes": np.array([3, 5])}
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b", "r"], weights)
    assert operators(path, split_weights) == {"Conv": 1, "Split": 1, "Relu": 1}
    path = graph_file(tmp_path / "b.onnx", nodes[:2], ["a", "b", "h"], weights)
    assert operators(path, split_weights) == {"Conv": 1, "Split": 1}


def test_parts_of_different_sizes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1] * 4), split_of("h")]
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b"], {"w": CONV, "sizes": np.array([3, 5])})
    assert operators(path, split_weights) == {"Conv": 2}
    for mine, theirs in zip(run(for_cpu(path, [split_weights])), run(path), strict=True):
        assert np.array_equal(mine, theirs)


def test_a_weight_that_is_split_in_two_ways(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1] * 4),
        split_of("h"),
        helper.make_node("Conv", ["x", "w"], ["g"], "other", pads=[1] * 4),
        helper.make_node("Split", ["g", "others"], ["c", "d"], "split2", axis=1),
    ]
    weights = {"w": CONV, "sizes": np.array([3, 5]), "others": np.array([4, 4])}
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b", "c", "d"], weights)
    assert operators(path, split_weights) == {"Conv": 4}
    for mine, theirs in zip(run(for_cpu(path, [split_weights])), run(path), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("conv", "shape", "outputs", "products"),
    [
        ({}, [1, 2, 4, 64], ["y"], 1),
        ({"strides": [2, 2]}, [1, 2, 4, 16], ["y"], 0),
        ({"pads": [1] * 4}, [1, 2, 4, 100], ["y"], 0),
        ({}, [1, 2, 4, 64], ["y", "h"], 0),
        ({}, [0, 0, 0, 8], ["y"], 0),
    ],
)
def test_products_are_made_of_plain_convolutions_that_are_only_reshaped(
    tmp_path: Path, conv: dict[str, list[int]], shape: list[int], outputs: list[str], products: int
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", **conv),
        helper.make_node("Reshape", ["h", "shape"], ["y"], "reshape"),
    ]
    path = graph_file(tmp_path / "a.onnx", nodes, outputs, {"w": CONV[:, :, :1, :1], "shape": np.array(shape)})
    assert operators(path, multiply_projections)["MatMul"] == products
    for mine, theirs in zip(run(for_cpu(path, [multiply_projections])), run(path), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_graphs_with_graphs_inside_are_left_alone(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["r"], "relu")],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1] * 4),
        split_of("h"),
        helper.make_node("If", ["yes"], ["y"], "if", then_branch=branch, else_branch=branch),
    ]
    weights = {"w": CONV, "sizes": np.array([3, 5]), "yes": np.array(True)}
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b", "y"], weights)
    assert for_cpu(path, REWRITES["onnxruntime"]) == path


def test_a_graph_in_which_nothing_is_found_is_opened_as_it_is(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1] * 4)]
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], {"w": CONV})
    assert for_cpu(path, REWRITES["onnxruntime"]) == path


@pytest.mark.parametrize(
    ("resize", "scales", "conv"),
    [
        ({"nearest_mode": "ceil"}, [1, 1, 2, 2], {}),
        ({"coordinate_transformation_mode": "half_pixel"}, [1, 1, 2, 2], {}),
        ({"mode": "linear"}, [1, 1, 2, 2], {}),
        ({}, [1, 1, 2, 3], {}),
        ({}, [1, 1, 2, 2], {"pads": [0] * 4}),
        ({}, [1, 1, 2, 2], {"strides": [2, 2]}),
        ({}, [1, 1, 2, 2], {"dilations": [2, 2]}),
    ],
)
def test_other_ways_to_enlarge_are_left_alone(
    tmp_path: Path, resize: dict[str, str], scales: list[float], conv: dict[str, list[int]]
) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["h"], "resize", **(RESIZE | resize)),
        helper.make_node("Conv", ["h", "w"], ["y"], "conv", **({"pads": [1] * 4} | conv)),
    ]
    weights = {"w": CONV, "scales": np.array(scales, np.float32)}
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], weights)
    assert operators(path, convolve_before_upsampling) == {"Resize": 1, "Conv": 1}


def test_upsampling_without_bias(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["h"], "resize", **RESIZE),
        helper.make_node("Conv", ["h", "w"], ["y"], "conv", pads=[1] * 4),
    ]
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], {"w": CONV, "scales": np.array([1, 1, 2, 2], np.float32)})
    (mine,), (theirs,) = run(for_cpu(path, [convolve_before_upsampling])), run(path)
    assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_graphs_of_other_types_are_left_alone_and_files_that_are_none_refused(
    tmp_path: Path, onnx_of: Callable[[str], Path]
) -> None:
    from irsde_deploy.core.example import example_picture
    from irsde_deploy.graphs.onnx_file import read_model, write_model
    from irsde_deploy.precision.lowering import lower_model

    model, card = read_model(onnx_of("unet_nf8_depth4"))
    lowered = lower_model(model, card, "fp16", [example_picture(card, 1, 16, 16)])
    write_model(lowered.model, lowered.card, tmp_path / "half.onnx")
    assert for_cpu(tmp_path / "half.onnx", REWRITES["onnxruntime"]) == tmp_path / "half.onnx"
    (tmp_path / "text.onnx").write_bytes(b"hello")
    with pytest.raises(EngineError, match="text.onnx: not an ONNX model .*: make it with 'irsde-deploy export'"):
        for_cpu(tmp_path / "text.onnx", REWRITES["onnxruntime"])


def test_weights_without_the_values_of_their_shape_are_the_engines_to_refuse(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    next(tensor for tensor in model.graph.initializer if tensor.name == "w").dims[:] = [3, 3, 3, 4]
    onnx.save(model, path := tmp_path / "short.onnx")
    assert for_cpu(path, REWRITES["onnxruntime"]) == path
    with pytest.raises(EngineError, match="short.onnx: not an ONNX model that ONNX Runtime can load"):
        open_engine(path)


def test_openvino_is_not_given_what_it_crashes_on(small_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    model = onnx.load(small_onnx)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    del conv.input[1:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(
        EngineError, match=r"m.onnx: not an ONNX model \(Node with schema\(::Conv:11\) has input size 1"
    ):
        open_engine(tmp_path / "m.onnx", provider="openvino")
    conv.op_type, conv.domain = "Unknown", "somebody.else"  # which the checker does not judge
    model.opset_import.add(domain="somebody.else", version=1)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(EngineError, match="not an ONNX model that OpenVINO can load"):
        open_engine(tmp_path / "m.onnx", provider="openvino")


@pytest.mark.parametrize("provider", ["onnxruntime", "openvino"])
def test_graphs_that_are_not_what_their_card_says(
    provider: str, tmp_path: Path, onnx_of: Callable[[str], Path]
) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    from irsde_deploy.graphs.onnx_file import read_model, write_model

    model, card = read_model(onnx_of("unet_nf8_depth4"))
    path = tmp_path / "four.onnx"
    write_model(model, replace(card, channels=4, value_range=None), path)
    with pytest.raises(EngineError, match=r"map x, mu, t to eps, float32 with 4 channels, and has x float32 \(\S+, 3,"):
        open_engine(path, provider=provider)


@pytest.mark.parametrize(
    ("axes", "keepdims", "replaced"), [([1], 1, True), ([1], 0, False), ([2], 1, False), ([1, 2], 1, False)]
)
def test_means_over_the_channels_alone_become_convolutions(
    tmp_path: Path, axes: list[int], keepdims: int, replaced: bool
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], "relu"),
        helper.make_node("ReduceMean", ["h", "axes"], ["y"], "mean", keepdims=keepdims),
    ]
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], {"axes": np.array(axes)})
    model = onnx.load(path)
    del model.graph.output[0].type.tensor_type.shape.dim[4 if keepdims else 4 - len(axes) :]
    onnx.save(model, path)
    assert operators(path, convolve_means)["ReduceMean"] == (not replaced)
    for mine, theirs in zip(run(for_cpu(path, [convolve_means])), run(path), strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < 1e-6


@pytest.mark.parametrize(("weight", "more"), [((8, 4, 1, 1), ["bias"]), ((8, 2, 1, 1), [])], ids=["bias", "groups"])
def test_what_adds_a_bias_or_sees_some_channels_is_no_product(
    tmp_path: Path, weight: tuple[int, ...], more: list[str]
) -> None:
    kernel = np.random.default_rng(0).random(weight, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", *more], ["h"], "conv", group=4 // weight[1]),
        helper.make_node("Reshape", ["h", "shape"], ["y"], "reshape"),
    ]
    weights = {"w": kernel, "bias": np.ones(8, np.float32), "shape": np.array([1, 2, 4, 64])}
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], weights)
    assert operators(path, multiply_projections)["Conv"] == 1
    assert np.array_equal(run(for_cpu(path, [multiply_projections]))[0], run(path)[0])


def test_upsampling_before_groups_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["h"], "resize", **RESIZE),
        helper.make_node("Conv", ["h", "w"], ["y"], "conv", pads=[1] * 4, group=2),
    ]
    weights = {"w": np.ascontiguousarray(CONV[:, :2]), "scales": np.array([1, 1, 2, 2], np.float32)}
    path = graph_file(tmp_path / "a.onnx", nodes, ["y"], weights)
    assert operators(path, convolve_before_upsampling) == {"Resize": 1, "Conv": 1}


@pytest.mark.parametrize(("group", "weight"), [(8, (8, 1, 3, 3)), (8, (8, 2, 3, 3)), (4, (8, 1, 3, 3))])
def test_parts_of_a_convolution_in_groups(tmp_path: Path, group: int, weight: tuple[int, ...]) -> None:
    """Taken apart where each channel sees its own alone, with the convolution before it; the same to a rounding."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["g"], "first", pads=[1] * 4),
        helper.make_node("Conv", ["g", "w", "bias"], ["h"], "second", pads=[1] * 4, group=group),
        split_of("h"),
    ]
    first = rng.random((group * weight[1], 4, 3, 3), np.float32)
    weights = {"v": first, "w": rng.random(weight, np.float32), "bias": rng.random(8, np.float32)}
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b"], {**weights, "sizes": np.array([3, 5])})
    assert operators(path, split_weights)["Split"] == (weight[1] != 1 or group != 8)
    for mine, theirs in zip(run(for_cpu(path, [split_weights])), run(path), strict=True):
        assert np.abs(mine - theirs).max() < 1e-6 * np.abs(theirs).max()


def test_a_split_of_lines_is_none_of_channels(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1] * 4),
        helper.make_node("Split", ["h", "sizes"], ["a", "b"], "split", axis=2),
    ]
    path = graph_file(tmp_path / "a.onnx", nodes, ["a", "b"], {"w": CONV, "sizes": np.array([3, 5])})
    assert for_cpu(path, [split_weights]) == path
