"""ONNX files with weights beside them, and files that are not what they say: read whole, or one sentence."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_network import write_small_network

from irsde_deploy import load
from irsde_deploy.embedding.whole_loop_file import export_whole_loop
from irsde_deploy.errors import EngineError, IrsdeError
from irsde_deploy.graphs import loading
from irsde_deploy.graphs.loading import load_graph
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.graphs.whole_loop import plan_loop

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_network(tmp_path_factory.mktemp("whole") / "whole.onnx")


@pytest.fixture
def beside(whole: Path, tmp_path: Path) -> Path:
    """The same graph with its weights in a file beside it, seen from another folder."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "m.onnx"
    onnx.save(onnx.load(whole), path, save_as_external_data=True, location="w.bin", size_threshold=100)
    assert (path.parent / "w.bin").stat().st_size == 4 * 81
    return path


def changed(path: Path, change: Change) -> Path:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def place(key: str, value: str) -> Change:
    """Another entry of where the weights are."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == key:
                    entry.value = value

    return change


@pytest.mark.parametrize("provider", ["onnxruntime", "openvino"])
def test_weights_beside_the_file_give_the_same_picture(whole: Path, beside: Path, provider: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    expected = load(whole, provider=provider)(picture)
    assert np.array_equal(load(beside, provider=provider)(picture), expected)


def test_what_is_made_of_such_a_file_is_whole(
    whole: Path, beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beside.parent)
    model, card = read_model(Path("m.onnx"))
    assert model.graph == onnx.load(whole).graph
    export_whole_loop(model, card, plan_loop(card), tmp_path / "loop.onnx")
    (beside.parent / "w.bin").unlink()
    loop = onnx.load(tmp_path / "loop.onnx")  # which raises where anything is elsewhere
    assert loop.ByteSize() > 4 * 81


WRONG: dict[str, tuple[Change, str]] = {
    "a folder above": (place("location", "../w.bin"), "not an ONNX model"),
    "an absolute path": (place("location", "/etc/passwd"), "not an ONNX model"),
    "a link": (place("location", "link.bin"), "not an ONNX model"),
    "nothing there": (place("location", "v.bin"), "its weights are in 'v.bin', which is not beside it"),
    "no name": (place("location", ""), "its weights are in '', which is not beside it"),
    "beyond the end": (place("offset", "4"), "the weights 'w' go beyond the end of 'w.bin'"),
    "before the beginning": (place("offset", "-4"), "must have 324 bytes, not 324 from -4"),
    "another length": (place("length", "9999999999"), "must have 324 bytes, not 9999999999 from"),
    "no number": (place("length", "many"), "not an ONNX model"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_are_not_beside_the_file(beside: Path, kind: str) -> None:
    change, sentence = WRONG[kind]
    os.link(beside.parent / "w.bin", beside.parent.parent / "w.bin")
    (beside.parent / "link.bin").symlink_to("../w.bin")
    changed(beside, change)
    for read in (read_model, load):
        with pytest.raises(EngineError, match=sentence) as refused:
            read(beside)
        assert str(refused.value).startswith(f"{beside}: ")


def test_more_than_protobuf_holds_is_refused_before_it_is_read(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.read_bytes())
    os.truncate(path, 3 * 2**30)
    with pytest.raises(EngineError, match="3221225472 bytes, where 2147483647 are the most"):
        load(path)


def test_weights_of_more_than_that_together_are_refused(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_BYTES", beside.stat().st_size + 300)
    with pytest.raises(EngineError, match="bytes with its weights, where"):
        load_graph(beside)


def test_weights_without_a_length_end_where_their_shape_does(whole: Path, beside: Path) -> None:
    """Another tensor's may follow in the same file."""

    def forget(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for index in reversed(range(len(tensor.external_data))):
                if tensor.external_data[index].key == "length":
                    del tensor.external_data[index]

    (beside.parent / "w.bin").write_bytes((beside.parent / "w.bin").read_bytes() + bytes(400))
    loaded = load_graph(changed(beside, forget))
    assert loaded.weights_beside
    weights = {tensor.name: tensor.raw_data for tensor in onnx.load(whole).graph.initializer}
    assert {tensor.name: tensor.raw_data for tensor in loaded.model.graph.initializer} == weights


def test_two_values_of_four_bits_share_a_byte(whole: Path, beside: Path) -> None:
    def add(length: int) -> Change:
        def change(model: onnx.ModelProto) -> None:
            tensor = TensorProto(name="four", data_type=TensorProto.INT4, dims=[3], data_location=TensorProto.EXTERNAL)
            tensor.external_data.add(key="location", value="w.bin")
            tensor.external_data.add(key="length", value=str(length))
            del model.graph.initializer[3:]
            model.graph.initializer.append(tensor)

        return change

    loaded = load_graph(changed(beside, add(2))).model
    assert [len(tensor.raw_data) for tensor in loaded.graph.initializer if tensor.name == "four"] == [2]
    with pytest.raises(EngineError, match="the weights 'four' must have 2 bytes, not 3"):
        load_graph(changed(beside, add(3)))


BYTES = b"\xff\xfe\xfd"


def not_text(field: str) -> Callable[[bytes], bytes]:
    """Bytes in the place of a text of three letters, which the field's own writers refuse."""

    def change(serialized: bytes) -> bytes:
        assert serialized.count(b"QQQ") == 1, field
        return serialized.replace(b"QQQ", BYTES)

    return change


TEXTS: dict[str, Change] = {
    "metadata": lambda model: model.metadata_props.add(key="more", value="QQQ") and None,
    "name of metadata": lambda model: model.metadata_props.add(key="QQQ", value="more") and None,
    "name of a node": lambda model: setattr(model.graph.node[0], "name", "QQQ"),
    "name of a tensor": lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(1), "QQQ")),
    "name of an output": lambda model: model.graph.output.append(
        helper.make_tensor_value_info("QQQ", TensorProto.FLOAT, [1])
    ),
    "name of a side": lambda model: setattr(model.graph.output[0].type.tensor_type.shape.dim[0], "dim_param", "QQQ"),
    "operator": lambda model: setattr(model.graph.node[-1], "op_type", "QQQ"),
    "producer": lambda model: setattr(model, "producer_name", "QQQ"),
}


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("provider", ["onnxruntime", "openvino"])
def test_texts_that_are_none_are_one_sentence(whole: Path, field: str, provider: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.read_bytes())
    changed(path, TEXTS[field])
    path.write_bytes(not_text(field)(path.read_bytes()))
    with pytest.raises(EngineError, match="a name or text in it is not UTF-8"):
        load(path, provider=provider)
    with pytest.raises(EngineError, match="a name or text in it is not UTF-8"):
        read_model(path)


def of_bytes(model: onnx.ModelProto) -> None:
    """Weights of a type that convolutions do not take."""
    weights = model.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(np.ones((3, 3, 3, 3), np.uint8), weights.name))


BROKEN: dict[str, Change] = {
    "weights of bytes": of_bytes,
    "an operator that is none": lambda model: setattr(model.graph.node[-1], "op_type", "Tangent"),
    "an opset that is none": lambda model: setattr(model.opset_import[0], "version", 999),
    "a tensor that nobody makes": lambda model: model.graph.node[0].input.__setitem__(0, "nobody"),
    "weights of another size": lambda model: model.graph.initializer[0].dims.__setitem__(0, 5),
    "no nodes": lambda model: model.graph.ClearField("node"),
    "a cycle": lambda model: model.graph.node[0].input.__setitem__(0, "sum"),
    "weights that are text": lambda model: model.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"])
    ),
    "no rank": lambda model: model.graph.input[0].type.tensor_type.ClearField("shape"),
}


PICTURE = np.zeros((8, 8, 3), np.uint8)


def sentence_of(act: Callable[[], object]) -> str:
    """What the act is refused with, and by no other kind of error; empty where it is not."""
    try:
        act()
    except IrsdeError as error:
        return str(error)
    return ""


def loop_of(path: Path, output: Path) -> None:
    model, card = read_model(path)
    export_whole_loop(model, card, plan_loop(card), output)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_graphs_are_one_sentence_that_names_the_file(whole: Path, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.read_bytes())
    changed(path, BROKEN[kind])
    said = [sentence_of(lambda: load(path)(PICTURE))]
    said.append(sentence_of(lambda: load(path, provider="openvino")(PICTURE)))
    said.append(sentence_of(lambda: loop_of(path, tmp_path / "l.onnx")))
    assert kind == "no rank" or all(said[:1] + said[2:])
    assert not any(".part" in sentence for sentence in said)
    assert [file.name for file in tmp_path.iterdir()] == (["m.onnx"] if said[2] else ["m.onnx", "l.onnx"])


def test_nodes_without_names_go_into_a_whole_loop(whole: Path, tmp_path: Path) -> None:
    model, card = read_model(whole)
    assert not any(node.name for node in model.graph.node)
    export_whole_loop(model, card, plan_loop(card), tmp_path / "l.onnx")


def test_a_card_is_given_to_a_graph_that_has_none(whole: Path, tmp_path: Path) -> None:
    own = read_model(whole)[1]
    other = replace(own, task="given")
    assert read_model(whole, other)[1] == own
    model = onnx.load(whole)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    assert read_model(tmp_path / "bare.onnx", other)[1] == other
    with pytest.raises(EngineError, match="no model card inside"):
        read_model(tmp_path / "bare.onnx")
