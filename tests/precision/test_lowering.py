"""Precision in the graph: what is lowered and kept, what it costs, and that the emulation tells it right."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_quantisable import small_quantisable

from irsde_deploy.core.example import example_picture
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.precision.casts import lower
from irsde_deploy.precision.half_emulation import emulate_half
from irsde_deploy.precision.lowering import KEPT_KEY, lower_model, search_precision
from irsde_deploy.precision.nodes import groups, kept_nodes
from irsde_deploy.precision.search import cheapest_set
from irsde_deploy.precision.trajectory import TrajectoryQuality
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine

NETWORKS = ("unet_nf8_depth4", "nafnet_w16", "latent_nafnet_w8", "ConditionalUNet", "ConditionalNAFNet")


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    entries = itertools.chain(inferred.input, inferred.output, inferred.value_info)
    return {entry.name: entry.type.tensor_type.elem_type for entry in entries}


def squares(count: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """x -> scaled and squared `count` times, in FP16 between float32 ends; and its scale."""
    scale = np.linspace(0.3, 1.9, 64, dtype=np.float16)
    nodes = [helper.make_node("Cast", ["x"], ["h0"], to=TensorProto.FLOAT16)]
    for i in range(count):
        nodes.append(helper.make_node("Mul", [f"h{i}", "scale"], [f"s{i}"]))
        nodes.append(helper.make_node("Mul", [f"s{i}", f"s{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("Cast", [f"h{count}"], ["y"], to=TensorProto.FLOAT))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000, 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "squares", ends[:1], ends[1:], [numpy_helper.from_array(scale, "scale")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model, scale


def test_the_emulation_rounds_as_fp16_does_and_onnxruntime_alone_does_not() -> None:
    """Against NumPy's float16: overflow, subnormals and ties included. ONNX Runtime's CPU provider rounds nothing."""
    model, scale = squares(3)
    x = np.random.default_rng(0).lognormal(sigma=2.5, size=(1000, 64)).astype(np.float32)
    with np.errstate(over="ignore"):
        rounded, unrounded = x.astype(np.float16), x
        for _ in range(3):
            rounded = (rounded * scale) * (rounded * scale)
            unrounded = (unrounded * scale.astype(np.float32)) ** 2
    assert np.isinf(rounded).any()
    assert (np.abs(rounded[rounded > 0]) < 6e-5).any(), "subnormals are there"
    np.testing.assert_array_equal(run(emulate_half(model), x=x), rounded.astype(np.float32))
    native = run(model, x=x)
    moderate = (unrounded > 1e-3) & (unrounded < 1e3)
    native_error = np.abs(native[moderate] / unrounded[moderate] - 1).max()
    assert native_error < 1e-5, "should this fail, ONNX Runtime rounds now, and the emulation is not needed"
    assert np.abs(rounded[moderate].astype(np.float32) / unrounded[moderate] - 1).max() > 2**-9


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_every_node_has_the_precision_that_was_said(name: str, precision: str, onnx_of: Callable[[str], Path]) -> None:
    model, card = read_model(onnx_of(name))
    kept = kept_nodes(model, precision)
    lowerable = {node for group in groups(model) for node in group.nodes}
    lowered = lower(model, kept)
    onnx.checker.check_model(lowered, full_check=True)
    types = element_types(lowered)
    assert {types[entry.name] for entry in (*lowered.graph.input, *lowered.graph.output)} == {TensorProto.FLOAT}
    before = element_types(model)
    names = {node.name for node in model.graph.node}
    for node in lowered.graph.node:
        if node.name in names:
            half = node.name in lowerable - kept
            for output in node.output:
                if before.get(output.removesuffix("_fp16")) == TensorProto.FLOAT:
                    assert types[output] == (TensorProto.FLOAT16 if half else TensorProto.FLOAT), node.name
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv" and node.name in lowerable}
    first = "intro" if "NAFNet" in card.network else "init_conv"
    last = "ending" if "NAFNet" in card.network else "final_conv"
    for convolution in convolutions:
        end = re.fullmatch(rf"(/model)?/({first}|{last})/Conv", convolution) or "/sca/" in convolution
        assert (convolution in kept) == (precision == "mixed" and bool(end)), convolution


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_keeps_what_the_modules_names_say(name: str, onnx_of: Callable[[str], Path]) -> None:
    """The rule goes by structure; the names of the modules say the same."""
    model, _ = read_model(onnx_of(name))
    by_structure = {kind: set() for kind in ("norm", "attention", "pooling")}
    for group in groups(model):
        if group.kind in by_structure:
            by_structure[group.kind] |= set(group.nodes)
    everything = [node.name for node in model.graph.node]
    norms = {n for n in everything if re.search(r"/(norm\d?|to_out\.1)/", n)}
    assert by_structure["norm"] == norms
    assert by_structure["pooling"] == {n for n in everything if "/sca/" in n}
    softmax = {n for n in everything if "Softmax" in n}
    assert softmax <= by_structure["attention"]
    assert bool(softmax) == ("unet" in name.lower())
    time = {n for n in everything if re.search(r"/(time_mlp|mlp)/", n)}
    assert time
    assert not time & {node for group in groups(model) for node in group.nodes}, "the time embedding is never lowered"


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
def test_keeping_everything_changes_nothing(name: str, onnx_of: Callable[[str], Path]) -> None:
    model, card = read_model(onnx_of(name))
    rng = np.random.default_rng(0)
    x, mu = rng.random((1, 3, 32, 48), dtype=np.float32), rng.random((1, 3, 32, 48), dtype=np.float32)
    inputs = {"x": x, "mu": mu, "t": np.array([40], np.float32)}
    everything = {node for group in groups(model) for node in group.nodes}
    np.testing.assert_array_equal(run(lower(model, everything), **inputs), run(model, **inputs))
    quality = TrajectoryQuality.of(model, card, [mu], card.plan(sampler="mean", steps=3).table)
    assert quality(frozenset(everything)) == np.inf


@pytest.mark.parametrize("name", ["unet_nf8_depth4", "nafnet_w16"])
def test_mixed_is_nearer_to_fp32_than_fp16(name: str, onnx_of: Callable[[str], Path]) -> None:
    model, card = read_model(onnx_of(name))
    pictures = [example_picture(card, 1, 48, 64)]
    card = replace(card, sampler="mean", steps=4)
    fp16, mixed = (lower_model(model, card, precision, pictures).psnr for precision in ("fp16", "mixed"))
    assert 40 < fp16 < mixed < 120


def scaled_features(model: onnx.ModelProto, scale: float) -> onnx.ModelProto:
    """The same network with its features `scale` times as large, which its norms take out again."""
    for tensor in model.graph.initializer:
        factor = {"intro.weight": scale, "intro.bias": scale, "ending.weight": 1 / scale}.get(tensor.name)
        if factor is not None:
            values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize(
    ("scale", "fp16", "mixed"),
    [(1000, (-np.inf, 40), (60, 90)), (3000, (-np.inf, -np.inf), (-np.inf, -np.inf))],
    ids=["squares overflow", "features overflow"],
)
def test_what_overflows_in_fp16(
    scale: float, fp16: tuple[float, float], mixed: tuple[float, float], onnx_of: Callable[[str], Path]
) -> None:
    """Features of some hundreds: their squares in the norms overflow, which mixed avoids. Of thousands: NaN in both.

    What fp16 makes of squares that overflow, bad pictures or NaN, depends on ONNX Runtime's version.
    """
    model, card = read_model(onnx_of("nafnet_w16"))
    model = scaled_features(model, scale)
    quality = TrajectoryQuality.of(
        model, card, [example_picture(card, 1, 32, 48)], card.plan(sampler="mean", steps=3).table
    )
    for precision, (low, high) in (("fp16", fp16), ("mixed", mixed)):
        assert low <= quality(kept_nodes(model, precision)) <= high


def test_weights_that_fp16_cannot_hold_stay(onnx_of: Callable[[str], Path]) -> None:
    model, _ = read_model(onnx_of("nafnet_w16"))
    weight = next(t for t in model.graph.initializer if t.name.endswith("conv3.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1e7, weight.name))
    user = next(node for node in model.graph.node if weight.name in node.input)
    types = element_types(lower(model, ()))
    assert types[user.output[0]] == TensorProto.FLOAT


def test_lowering_what_is_lowered_is_refused(onnx_of: Callable[[str], Path]) -> None:
    model, _ = read_model(onnx_of("nafnet_w16"))
    with pytest.raises(InvalidValueError, match="not FP32 throughout"):
        lower(lower(model, ()), ())


def test_a_lowered_file_runs_and_says_what_it_is(onnx_of: Callable[[str], Path], tmp_path: Path) -> None:
    model, card = read_model(onnx_of("nafnet_w16"))
    lowered = lower_model(model, card, "mixed", [example_picture(card, 1, 16, 16)])
    path = tmp_path / "mixed.onnx"
    write_model(lowered.model, lowered.card, path)
    again, again_card = read_model(path)
    assert again_card == replace(card, precision="mixed")
    kept = json.loads(next(entry.value for entry in again.metadata_props if entry.key == KEPT_KEY))
    assert set(kept) == kept_nodes(model, "mixed")
    assert path.stat().st_size < 0.7 * onnx_of("nafnet_w16").stat().st_size, "the lowered weights take half the bytes"
    picture = example_picture(card, 1, 32, 48)
    t = np.array([50], np.float32)
    full, half = OnnxEngine.open(onnx_of("nafnet_w16"))(picture, picture, t), OnnxEngine.open(path)(picture, picture, t)
    assert 0 < np.abs(full - half).max() < 0.01 * np.abs(full).max()


HARMS = {"a": 100.0, "b": 1.0, "c": 0.01, "d": 30.0, "e": 0.0, "f": 5.0}


def additive(kept: frozenset[str]) -> float:
    """dB of harms that add up in power, as independent roundings do."""
    power = sum(harm for name, harm in HARMS.items() if name not in kept)
    return np.inf if power == 0 else -10 * np.log10(power)


@pytest.mark.parametrize("budget", [-25.0, -21.0, -15.5, -7.5, 0.0, 15.0, 25.0])
def test_the_search_finds_the_smallest_set(budget: float) -> None:
    """Where harms add up, against all 64 subsets."""
    result = cheapest_set(dict.fromkeys(HARMS, 7.0), additive, budget)
    subsets = itertools.chain.from_iterable(itertools.combinations(HARMS, r) for r in range(7))
    best = next(len(subset) for subset in subsets if additive(frozenset(subset)) >= budget)
    assert additive(frozenset(result.kept)) == result.quality >= budget
    assert len(result.kept) == best
    assert result.share == pytest.approx(best / 6)


@pytest.mark.parametrize("budget", [-21.0, -20.0, -15.5, -7.5, 0.0])
@pytest.mark.parametrize("dear", ["a", "d", "f", "df", "ab"])
def test_the_search_finds_the_cheapest_set(budget: float, dear: str) -> None:
    """Where harms add up, against all 64 subsets: a dear layer stays low if cheaper ones make up for it."""
    costs = {name: 10.0 if name in dear else 1.0 for name in HARMS}
    result = cheapest_set(costs, additive, budget)
    subsets = itertools.chain.from_iterable(itertools.combinations(HARMS, r) for r in range(7))
    best = min(sum(map(costs.get, subset)) for subset in subsets if additive(frozenset(subset)) >= budget)
    assert additive(frozenset(result.kept)) == result.quality >= budget
    assert result.share == pytest.approx(best / sum(costs.values()))


def test_the_search_releases_what_is_not_needed() -> None:
    """`b` is harmful alone, and harmless once `a` is kept: bisection keeps both, releasing lets it go."""

    def quality(kept: frozenset[str]) -> float:
        return 60.0 if "a" in kept else 10.0 if "b" in kept else 0.0 if kept != {"c", "d", "e"} else -5.0

    assert cheapest_set(dict.fromkeys("abcde", 1.0), quality, 50).kept == ("a",)


def test_a_budget_that_only_everything_keeps() -> None:
    """To the last digit: nothing is left to be allowed."""
    result = cheapest_set({"a": 1.0, "b": 2.0}, lambda kept: 40.0 + 5 * len(kept), 50)
    assert (result.kept, result.share, result.quality) == (("a", "b"), 1.0, 50.0)


def test_the_search_says_where_nothing_helps() -> None:
    with pytest.raises(InvalidValueError, match="even with nothing lowered"):
        cheapest_set({"a": 1.0}, lambda kept: 10.0, 50)


@pytest.mark.parametrize("above", [0, 3, 5])
def test_the_search_on_a_network_keeps_a_set_that_cannot_shrink(above: float) -> None:
    """A small network, since a search takes some trials for each module; 2, 3 and 5 of 7 are kept."""
    model, card = small_quantisable()
    picture = example_picture(card, 1, 8, 12)
    quality = TrajectoryQuality.of(model, card, [picture], card.plan(sampler="mean", steps=2, t0=card.sde.T).table)
    budget = (quality(frozenset()) + quality(kept_nodes(model, "mixed"))) / 2 + above
    result, kept = search_precision(quality, budget)
    assert 0 < len(kept) < len(groups(model))
    nodes = frozenset(node for group in kept for node in group.nodes)
    assert quality(nodes) == result.quality >= budget
    for group in kept:
        assert quality(nodes - set(group.nodes)) < budget, f"{group.name} could have been released"
