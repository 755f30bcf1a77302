"""Which nodes are lowered, on what it is measured and what is refused: on a small network and on numbers alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from irsde_deploy.core.card import ModelCard
from irsde_deploy.errors import InputFileError, InvalidValueError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.precision.casts import lower
from irsde_deploy.precision.lowering import KEPT_KEY, check_budget, for_plan, lower_aloud, lower_model
from irsde_deploy.precision.measured_pictures import MAX_PICTURES, read_pictures
from irsde_deploy.precision.nodes import HALF_MAX, groups, kept_nodes, lowerable_nodes
from irsde_deploy.precision.search import cheapest_set, operation_costs
from irsde_deploy.precision.trajectory import TrajectoryQuality
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.system.listener import Listener


@pytest.fixture
def named(small_onnx: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """The small network, its nodes called /Operator, with a second convolution before the last."""
    model, card = read_model(small_onnx)
    nodes = list(model.graph.node)
    tanh = nodes.pop()
    tanh.input[0] = "more"
    nodes += [helper.make_node("Conv", ["sum", "v"], ["middle"]), helper.make_node("Relu", ["middle"], ["positive"])]
    nodes += [helper.make_node("Conv", ["positive", "v"], ["more"]), tanh]
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "v"))
    del model.graph.node[:]
    for number, node in enumerate(nodes):
        node.name = f"/{number}/{node.op_type}"
    model.graph.node.extend(nodes)
    return model, card


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    return {entry.name: entry.type.tensor_type.elem_type for entry in (*inferred.value_info, *inferred.output)}


def test_ends_stay_in_the_pictures_own_precision_and_the_time_is_never_lowered(
    named: tuple[onnx.ModelProto, ModelCard],
) -> None:
    model, _ = named
    assert lowerable_nodes(model) == {"/0/Sub", "/1/Conv", "/4/Add", "/5/Conv", "/6/Relu", "/7/Conv", "/8/Tanh"}
    assert kept_nodes(model, "mixed") == {"/0/Sub", "/1/Conv", "/7/Conv", "/8/Tanh"}
    assert kept_nodes(model, "fp16") == frozenset()
    lowered = lower(model, kept_nodes(model, "mixed"))
    names = {tensor.name for tensor in lowered.graph.initializer}
    assert names == {"w", "hundred", "axes", "v", "v_fp16"}, (
        "the first convolution's, and both of two that share theirs"
    )
    assert {tensor.name for tensor in lower(model, ()).graph.initializer} == {"w_fp16", "hundred", "axes", "v_fp16"}
    types = types_of(lowered)
    halves = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert {"sum", "middle", "positive"} <= halves
    assert not {"y", "features", "more", "eps", "times"} & halves


@pytest.mark.parametrize(("value", "stays"), [(HALF_MAX, False), (-HALF_MAX, False), (65505, True), (-65600, True)])
def test_weights_beyond_what_fp16_holds_stay_whatever_their_sign(
    named: tuple[onnx.ModelProto, ModelCard], value: float, stays: bool
) -> None:
    model, _ = named
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    values = numpy_helper.to_array(weights).copy()
    values[2, 1, 0, 2] = value
    weights.CopyFrom(numpy_helper.from_array(values, "w"))
    assert ("/1/Conv" in lowerable_nodes(model)) is not stays


def test_names_that_are_taken_are_not_taken_twice(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    """A tensor of the graph's own may be called as a cast of another would be."""
    model, card = named
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in ("sum", "times"):
                    names[index] = {"sum": "features_fp16", "times": "w_fp16"}[name]
    lowered = lower(model, ())
    onnx.checker.check_model(lowered, full_check=True)
    x, mu = np.random.default_rng(0).random((2, 1, 3, 8, 8), dtype=np.float32)
    t = np.array([30], np.float32)
    full, half = (OnnxEngine.from_bytes(each.SerializeToString(), card)(x, mu, t) for each in (model, lowered))
    assert 0 < np.abs(full - half).max() < 0.01


def test_the_worst_picture_counts(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    model, card = named
    rng = np.random.default_rng(0)
    pictures = [rng.random((1, 3, 8, 8), dtype=np.float32) for _ in range(3)]
    quality = TrajectoryQuality.of(model, card, pictures, card.plan().table)
    worse = [picture.copy() for picture in quality.reference]
    worse[1] += np.float32(0.1)
    worse[2] += np.float32(0.01)
    assert quality.worst(worse) == pytest.approx(20, abs=1e-3)
    nodes = frozenset(lowerable_nodes(model))
    assert quality(nodes) == np.inf
    assert 40 < quality(frozenset()) < 90
    assert quality(nodes) > quality(frozenset(kept_nodes(model, "mixed")))


def test_a_candidate_that_overflows_is_the_worst_of_all(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    """Its features are beyond FP16's range, of both signs: NaN behind the next convolution."""
    model, card = named
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(6e4), "w"))
    picture = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    quality = TrajectoryQuality.of(model, card, [picture], card.plan().table)
    assert quality(frozenset()) == -np.inf
    assert quality(frozenset(lowerable_nodes(model))) == np.inf


def test_a_clip_is_measured_too(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    model, card = named
    picture = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    free, clipped = (
        TrajectoryQuality.of(model, card, [picture], card.plan().table, clip=clip) for clip in (False, True)
    )
    assert not np.array_equal(free.reference[0], clipped.reference[0])
    assert clipped.reference[0].max() <= 1 + 1e-6
    assert clipped(frozenset(lowerable_nodes(model))) == np.inf


@pytest.mark.parametrize(
    ("precision", "budget", "refused"),
    [
        ("mixed", 200, False), ("mixed", 1e-3, False), ("mixed", 0, True), ("mixed", -1, True), ("mixed", 200.5, True),
        ("mixed", float("nan"), True), ("fp16", 60, True), ("fp16", None, False), ("mixed", None, False),
    ],
)  # fmt: skip
def test_a_budget_is_for_mixed_and_within_reach(precision: str, budget: float | None, refused: bool) -> None:
    if not refused:
        check_budget(precision, budget)
        return
    with pytest.raises(InvalidValueError, match="a PSNR budget is for the precision mixed, and above 0 up to 200 dB"):
        check_budget(precision, budget)


def test_lowering_says_what_it_kept_and_what_it_cost(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    model, card = named
    lines: list[str] = []
    pictures = [np.random.default_rng(k).random((1, 3, 8, 8), dtype=np.float32) for k in range(2)]
    lowered = lower_aloud(model, card, "mixed", pictures, listener=Listener(line=lines.append))
    assert (len(lowered.kept), lowered.total, lowered.trials) == (4, 7, 0)
    assert lines == [lowered.summary]
    assert lowered.summary.startswith("mixed: 4 of 7 nodes stay in FP32; restored pictures have ")
    assert lowered.summary.endswith("dB against FP32's (FP16 emulated on the CPU; 2 given pictures, 3 steps of sde-2m)")
    kept = next(entry.value for entry in lowered.model.metadata_props if entry.key == KEPT_KEY)
    assert json.loads(kept) == sorted(kept_nodes(model, "mixed"))
    assert lowered.card == replace(card, precision="mixed")


def test_a_budget_is_kept_by_the_fewest_operations(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    """Between the quality of nothing kept and of everything."""
    model, card = named
    pictures = [np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)]
    free = lower_model(model, card, "fp16", pictures).psnr
    assert free is not None
    lines: list[str] = []
    found = lower_aloud(model, card, "mixed", pictures, free + 2, Listener(line=lines.append))
    assert found.psnr is not None
    assert found.psnr >= free + 2
    assert 0 < len(found.kept) < found.total
    assert found.trials > 1
    assert lines[1:] == ["kept in FP32:", *(f"  {name}" for name in found.kept)]


def test_a_plan_is_mixed_by_default_and_otherwise_as_the_graph_is(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    model, card = named
    source = Path("a.onnx")
    assert for_plan(model, card, None, source)[1].precision == "mixed"
    assert for_plan(model, card, "fp32", source) == (model, card)
    low = replace(card, precision="int8")
    assert for_plan(model, low, None, source) == (model, low)
    for own, wanted, message in (("int8", "fp32", "is int8 and cannot become fp32"), ("fp32", "int8", "make it int8")):
        with pytest.raises(InvalidValueError, match=message):
            for_plan(model, replace(card, precision=own), wanted, source)


def test_a_group_costs_its_operations_and_at_least_one(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    model, _ = named
    costs = operation_costs(model, {"conv": ["/1/Conv"], "both": ["/5/Conv", "/6/Relu"], "none": []})
    pixels = 256 * 256
    assert costs == {"conv": 2 * 3 * 27 * pixels, "both": 2 * 3 * 3 * pixels + 3 * pixels, "none": 1.0}


def test_a_budget_that_is_just_reached_is_reached() -> None:
    nothing = cheapest_set({"a": 1.0}, lambda kept: 30.0, 30)
    assert (nothing.kept, nothing.quality, nothing.trials) == ((), 30.0, 1)
    assert cheapest_set({"a": 1.0, "b": 1.0}, lambda kept: 30.0 if "a" in kept else 20.0, 30).kept == ("a",)
    told: list[tuple[int, int]] = []
    result = cheapest_set({"a": 1.0}, lambda kept: 30.0 * len(kept), 30, lambda done, about: told.append((done, about)))
    assert [done for done, _ in told] == list(range(1, result.trials + 1)), "each set is measured once"
    assert all(about >= done for done, about in told)


def test_what_turns_out_not_to_be_needed_is_released() -> None:
    """`b` harms only while `c` is kept, which it never is: harms that are measured one by one cannot tell."""

    def quality(kept: frozenset[str]) -> float:
        power = 100.0 * ("a" not in kept) + 1.0 * ("b" not in kept and "c" in kept) + 0.6 * ("d" not in kept)
        return -10 * np.log10(power) if power else np.inf

    assert cheapest_set({"a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0}, quality, 3).kept == ("a", "d")


def test_pictures_to_measure_on(named: tuple[onnx.ModelProto, ModelCard], tmp_path: Path) -> None:
    """In the order of their names, as the network takes them; what cannot be read is left out with a note."""
    _, card = named
    for name, level in (("b", 51), ("a", 255)):
        write_picture(tmp_path / f"{name}.png", Picture(np.full((4, 6, 3), level, np.uint8)))
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("")
    notes: list[str] = []
    found = read_pictures(card, [tmp_path, tmp_path / "b.png"], notes.append)
    assert [picture.shape for picture in found] == [(1, 3, 4, 6)] * 3
    assert [float(picture.max()) for picture in found] == [1.0, np.float32(0.2), np.float32(0.2)]
    assert len(notes) == 1
    assert "c.png" in notes[0]
    assert read_pictures(card, []) == []
    many = [tmp_path / "a.png"] * MAX_PICTURES
    assert len(read_pictures(card, many)) == MAX_PICTURES
    with pytest.raises(InputFileError, match="65 pictures are too many to measure on: give 64 at most"):
        read_pictures(card, [*many, tmp_path / "b.png"])


def test_modules_are_grouped_in_the_graphs_order(named: tuple[onnx.ModelProto, ModelCard]) -> None:
    found = [(group.name, group.kind) for group in groups(named[0])]
    assert found[0] == ("/0", "ends")
    assert [kind for _, kind in found] == ["ends", "ends", "plain", "plain", "plain", "ends", "ends"]
