"""What `inspect` prints of files that anybody may have made."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from irsde_deploy.errors import InputFileError
from irsde_deploy.graphs.metadata import INT8_KEY, LOOP_KEY
from irsde_deploy.graphs.onnx_file import read_model, set_metadata
from irsde_deploy.reports.inspection import format_inspection, inspect_file


def test_names_and_values_of_any_kind_are_lines_without_control_characters(small_onnx: Path, tmp_path: Path) -> None:
    said = {"la\x1b[2Jyers": {"a\nb": 1}, "mixed": [{"a": 1}, 2], "lines": [{"x\r": "\x07y"}], "none": ""}
    model, _ = read_model(small_onnx)
    set_metadata(model, INT8_KEY, json.dumps(said))
    onnx.save(model, tmp_path / "m.onnx")
    text = format_inspection(inspect_file(tmp_path / "m.onnx"))
    assert "int8:\n  la [2Jyers:\n    a b: 1\n  mixed: [{'a': 1}, 2]\n  lines:\n    x   y\n  none: none\n" in text
    assert all(c.isprintable() for c in text.replace("\n", ""))


def test_onnxruntime_prints_nothing_of_a_graph_that_it_cannot_open(
    small_onnx: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from irsde_deploy.errors import EngineError

    data = small_onnx.read_bytes()
    for k, name in enumerate((b"Tanh", b"Conv")):
        (tmp_path / f"{k}.onnx").write_bytes(data.replace(name, b"\xb2" * len(name)))
        with pytest.raises(EngineError, match=f"{k}.onnx: not an ONNX model"):
            inspect_file(tmp_path / f"{k}.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_graph_is_described_by_its_card_and_its_tensors(small_onnx: Path, tmp_path: Path) -> None:
    found = inspect_file(small_onnx)
    assert (found["file"], found["bytes"], found["kind"]) == (str(small_onnx), small_onnx.stat().st_size, "ONNX graph")
    assert [tensor["name"] for tensor in found["inputs"]] == ["x", "mu", "t"]
    picture = {"type": "tensor(float)", "shape": ["batch", 3, "height", "width"]}
    assert found["inputs"][0] == {"name": "x", **picture}
    assert found["outputs"] == [{"name": "eps", **picture}]
    assert (found["card"]["network"], found["card"]["margin"]) == ("small", 0)
    capitals = tmp_path / "M.ONNX"
    capitals.write_bytes(small_onnx.read_bytes())
    assert inspect_file(capitals) == {**found, "file": str(capitals)}
    model, _ = read_model(small_onnx)
    set_metadata(model, LOOP_KEY, json.dumps({"steps": 4}))
    onnx.save(model, tmp_path / "loop.onnx")
    whole = inspect_file(tmp_path / "loop.onnx")
    assert (whole["kind"], whole["loop"]) == ("whole loop as an ONNX graph", {"steps": 4})
    (tmp_path / "m.txt").write_bytes(small_onnx.read_bytes())
    with pytest.raises(InputFileError, match=r"m\.txt: inspect reads \.onnx, \.plan, .*, not \.txt"):
        inspect_file(tmp_path / "m.txt")


def test_a_checkpoint_is_described_by_its_network_its_size_and_what_was_chosen(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra export)")
    from irsde_deploy.networks import ConditionalNAFNet
    from irsde_deploy.system.files import file_sha256

    network = ConditionalNAFNet(4, [1], 1, [1])
    torch.save({"params_ema": network.state_dict(), "params": network.state_dict()}, tmp_path / "w.pth")
    found = inspect_file(tmp_path / "w.pth")
    assert (found["kind"], found["network"], found["card"]) == ("PyTorch checkpoint", "ConditionalNAFNet", None)
    assert found["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert found["sha256"] == file_sha256(tmp_path / "w.pth")
    assert "params_ema" in " ".join(found["notes"])
    lines = format_inspection(found).splitlines()
    assert "card: none" in lines
    assert f"  width: {found['settings']['width']}" in lines, "what is inside another is indented"
