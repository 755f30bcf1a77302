"""What a graph must be to go with its card, and files of graphs: written with one card, whole, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from irsde_deploy.core.card import METADATA_KEY, ModelCard
from irsde_deploy.core.margin import surround
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.errors import EngineError, IrsdeError
from irsde_deploy.graphs import border_nodes
from irsde_deploy.graphs.flops import count_flops, counter, operations
from irsde_deploy.graphs.metadata import checked_card
from irsde_deploy.graphs.onnx_file import read_model, set_metadata, write_model
from irsde_deploy.graphs.writer import GraphWriter
from irsde_deploy.runtimes.engines.onnx_session import open_session

PICTURE = ("batch", 3, "height", "width")
TENSORS = [("x", True, PICTURE), ("mu", True, PICTURE), ("t", True, ("batch",)), ("eps", True, PICTURE)]


@pytest.fixture
def card(small_onnx: Path) -> ModelCard:
    return read_model(small_onnx)[1]


def other(of: str, **change: Any) -> list[tuple[str, bool, Any]]:
    """The tensors of a score network but for one."""
    known = {entry[0]: dict(zip(("name", "float32", "shape"), entry, strict=True)) for entry in TENSORS}
    known[of] |= change
    return [(entry["name"], entry["float32"], entry["shape"]) for entry in known.values()]


@pytest.mark.parametrize("tensors", [
    other("x", float32=False), other("t", float32=False), other("eps", float32=False), other("eps", name="score"),
    other("mu", shape=("batch", 1, "height", "width")), other("eps", shape=("batch", 6, "height", "width")),
    other("x", shape=("batch", 3)), other("t", shape=("batch", 3, 1, 1)), TENSORS[1:], [*TENSORS, ("z", True, (1,))],
])  # fmt: skip
def test_a_graph_is_a_score_network_in_every_input_and_output(card: ModelCard, tensors: list[Any]) -> None:
    path = Path("a.onnx")
    assert checked_card(card, TENSORS, path) is card
    with pytest.raises(EngineError, match=r"a\.onnx: the graph must map x, mu, t to eps, float32 with 3 channels"):
        checked_card(card, tensors, path)


def test_a_network_of_a_denoising_sde_has_no_mu(card: ModelCard) -> None:
    sde = DenoisingSDE(max_sigma=75, T=100, schedule="cosine")
    blind = replace(card, settings={"conditional": False}, sde=sde, sampler="mean")
    tensors = [entry for entry in TENSORS if entry[0] != "mu"]
    assert checked_card(blind, tensors, Path("a.onnx")) is blind
    for wrong, given in ((blind, TENSORS), (card, tensors)):
        with pytest.raises(EngineError, match="the graph must map x, (mu, )?t to eps"):
            checked_card(wrong, given, Path("a.onnx"))


def test_another_output_is_seen_when_a_file_is_read(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "score"
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(EngineError, match="must map mu, t, x to eps, and maps mu, t, x to score"):
        read_model(tmp_path / "a.onnx")


def test_a_file_has_one_card_the_last(small_onnx: Path, tmp_path: Path, card: ModelCard) -> None:
    model = onnx.load(small_onnx)
    model.metadata_props.add(key=METADATA_KEY, value="another, as two tools may leave it")
    model.metadata_props.add(key="more", value="old")
    write_model(model, replace(card, steps=9), tmp_path / "a.onnx")
    assert read_model(tmp_path / "a.onnx")[1].steps == 9
    written = onnx.load(tmp_path / "a.onnx")
    assert [entry.key for entry in written.metadata_props].count(METADATA_KEY) == 1
    set_metadata(written, "more", "new")
    assert [entry.value for entry in written.metadata_props if entry.key == "more"] == ["new"]
    assert (written.producer_name, written.producer_version) == ("irsde-deploy", card.tool_version)


def test_an_invalid_graph_leaves_the_file_that_was_there(small_onnx: Path, tmp_path: Path, card: ModelCard) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(small_onnx.read_bytes())
    model = onnx.load(small_onnx)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5  # which full checking alone sees
    with pytest.raises(IrsdeError, match=r"a\.onnx: no valid graph can be written"):
        write_model(model, card, path)
    assert path.read_bytes() == small_onnx.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def products(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A graph on x (batch, 4, height, width) with weights of these shapes."""
    x = helper.make_tensor_value_info("x", 1, ["b", 4, "h", "w"])
    y = helper.make_tensor_value_info("y", 1, None)
    constants = [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], constants))


@pytest.mark.parametrize(
    ("node", "weight", "count"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], "n", pads=[1] * 4), (6, 4, 3, 3), 2 * 2 * 6 * 15 * 4 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], "n", pads=[1] * 4, group=2), (6, 2, 3, 3), 2 * 2 * 6 * 15 * 2 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", strides=[2, 2]), (4, 6, 2, 2), 2 * 2 * 60 * 6 * 4),
        (helper.make_node("MatMul", ["x", "w"], ["y"], "n"), (5, 7), 2 * 2 * 4 * 3 * 7 * 5),
        (helper.make_node("Relu", ["x"], ["y"], "n"), (1,), 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else None,
)
def test_products_are_counted_twice_for_every_value(node: onnx.NodeProto, weight: tuple[int, ...], count: int) -> None:
    """Two pictures of 3x5: multiplications and additions."""
    model = products([node], {"w": weight})
    assert count_flops(model, 2, 3, 5) == count
    assert operations(model, 2, 3, 5) == {"n": count or 2 * 4 * 3 * 5}


@pytest.mark.parametrize("transposed", [0, 1])
def test_products_of_gemm_run_along_the_side_that_is_shared(transposed: int) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes.append(helper.make_node("Gemm", ["f", "w"], ["y"], "n", transB=transposed))
    model = products(nodes, {"w": (9, 4) if transposed else (4, 9)})
    assert count_flops(model, 2, 3, 5) == 2 * 2 * 9 * 4


def test_pictures_are_counted_with_their_margin_and_padding() -> None:
    model = products([helper.make_node("Conv", ["x", "w"], ["y"], "n")], {"w": (1, 4, 1, 1)})
    assert counter(model, 16)(1, 20, 33) == 2 * 4 * 32 * 48
    assert counter(model, 16, margin=10)(3, 20, 33) == 3 * 2 * 4 * 48 * 64


def test_constants_are_the_same_only_with_type_and_shape() -> None:
    w = GraphWriter("g")
    names = [w.constant(0, np.int64), w.constant(0, np.float64), w.constant([0], np.int64), w.constant(1, np.int64)]
    assert len(set(names)) == 4
    assert w.constant(0, np.int64) == names[0]
    assert list(w.constants) == names


@pytest.mark.parametrize("margin", [0, 1, 7])
def test_a_margin_in_a_graph_is_the_margin_of_numpy(margin: int) -> None:
    """Mirrored again and again where it is wider than the picture; also far away, where a small network cannot look."""
    w = GraphWriter("g")
    w("Identity", border_nodes.surround(w, "x", margin), output="y")
    ends = [
        helper.make_tensor_value_info("x", 1, ["b", "c", "h", "w"]),
        helper.make_tensor_value_info("y", 1, [None] * 4),
    ]
    graph = helper.make_graph(w.nodes, "g", ends[:1], ends[1:], list(w.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = open_session(model.SerializeToString())
    for height, width in ((1, 2), (3, 1), (8, 16)):
        picture = np.random.default_rng(0).random((2, 3, height, width), dtype=np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": picture})[0], surround(picture, margin))
