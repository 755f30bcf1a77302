"""Tables, JSON and figures as files: their exact bytes, and nothing half-written."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from irsde_deploy.errors import MissingPackageError, OutputFileError, install_command
from irsde_deploy.system.figures import figure_file, require_plotting
from irsde_deploy.system.tables import markdown_table, write_csv, write_json, write_text


def test_a_csv_file_quotes_what_must_be_and_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("a", "b"), [(1, "x, y"), (0.1, 'é "z"'), (None, "")])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\r\n1,"x, y"\r\n0.1,"\xc3\xa9 ""z"""\r\n,\r\n'
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[2] == ["0.1", 'é "z"']


def test_json_ends_with_a_line_end(tmp_path: Path) -> None:
    content = {"b": [1, None], "a": "é"}
    write_json(tmp_path / "t.json", content, indent=1)
    assert (tmp_path / "t.json").read_bytes() == b'{\n "b": [\n  1,\n  null\n ],\n "a": "\\u00e9"\n}\n'
    write_json(tmp_path / "t.json", content)
    assert json.loads((tmp_path / "t.json").read_text()) == content


def test_a_markdown_table() -> None:
    assert markdown_table(("a", "b"), [("1", ""), ("2", "x")]) == "| a | b |\n|---|---|\n| 1 |  |\n| 2 | x |"


def test_a_table_that_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    def rows():
        yield (1,)
        raise ValueError("no more")

    write_text(tmp_path / "t.csv", "earlier\n")
    with pytest.raises(ValueError, match="no more"):
        write_csv(tmp_path / "t.csv", ("a",), rows())
    assert (tmp_path / "t.csv").read_text() == "earlier\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(OutputFileError, match="is a folder"):
        write_json(tmp_path, {})


def test_a_figure_is_a_picture_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    for name, software in (("a.png", True), ("b.png", False)):
        with figure_file(tmp_path / name, size=(3, 2), dpi=50, software=software) as figure:
            figure.add_subplot().plot([0, 1], [1, 0])
        assert cv2.imread(str(tmp_path / name)).shape == (100, 150, 3)
    assert b"Matplotlib" in (tmp_path / "a.png").read_bytes()
    assert b"Matplotlib" not in (tmp_path / "b.png").read_bytes()


def test_a_figure_that_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data"), figure_file(tmp_path / "a.png", size=(3, 2), dpi=50):
        raise ValueError("no data")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError) as missing:
        require_plotting()
    advice = install_command("export")
    assert str(missing.value) == f"plotting needs matplotlib, which cannot be imported: {advice}"
