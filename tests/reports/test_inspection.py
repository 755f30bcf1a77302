"""What `inspect` prints of files that anybody may have made."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from irsde_deploy.graphs.metadata import INT8_KEY
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
