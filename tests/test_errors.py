"""The command that installs an extra is one that works from where the package came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import ROOT

from irsde_deploy import errors
from irsde_deploy.system.files import missing, require_readable


def installed_from(folder: Path, origin: dict[str, object] | None) -> None:
    """Make `folder` one in which pip has installed irsde-deploy, with what it notes of where that came from."""
    notes = folder / "irsde_deploy-9.9.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: irsde-deploy\nVersion: 9.9\n")
    if origin is not None:
        (notes / "direct_url.json").write_text(json.dumps(origin))


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({"url": "file://{tmp}", "dir_info": {}}, "{tmp}[gpu]"),
        ({"url": "file://{tmp}/a%20b.whl", "archive_info": {}}, "{tmp}/a b.whl[gpu]"),
        ({"url": "file:///nowhere/a.whl", "archive_info": {}}, "irsde-deploy[gpu]"),
        (
            {"url": "https://a.b/c.git", "vcs_info": {"vcs": "git", "commit_id": "123"}},
            "irsde-deploy[gpu] @ git+https://a.b/c.git@123",
        ),
        ({"url": "https://a.b/c.whl", "archive_info": {}}, "irsde-deploy[gpu] @ https://a.b/c.whl"),
        (None, "irsde-deploy[gpu]"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came_from(
    origin: dict[str, object] | None, requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.whl").touch()
    text = json.dumps(origin).replace("{tmp}", str(tmp_path))
    installed_from(tmp_path, json.loads(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert errors._requirement("[gpu]") == requirement.replace("{tmp}", str(tmp_path))


def test_a_source_tree_is_installed_again_as_one() -> None:
    assert errors.install_command("gpu").endswith(f" install -e '{ROOT}[gpu]'")
    assert errors.install_command().endswith(f" install -e '{ROOT}'")


def test_the_pip_of_another_environment_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip").write_text("#!/bin/sh\n")
    (tmp_path / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", "/somewhere else/python")
    assert errors.install_command("gpu").startswith("'/somewhere else/python' -m pip install ")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert errors.install_command("gpu").startswith("pip install ")


def test_a_mistyped_name_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "derain.onnx").write_bytes(b"x")
    (tmp_path / ".derain.onn.part").write_bytes(b"x")
    with pytest.raises(errors.InputFileError) as caught:
        require_readable(tmp_path / "derain.onn")
    assert str(caught.value) == f"{tmp_path}/derain.onn: no such file: did you mean {tmp_path}/derain.onnx?"
    (tmp_path / ".deblur.onnx").write_bytes(b"hidden")
    assert str(missing(tmp_path / "deblur.onnx")) == f"{tmp_path}/deblur.onnx: no such file"
    assert str(missing(tmp_path / "else.png")) == f"{tmp_path}/else.png: no such file"
    assert str(missing(tmp_path / "no" / "derain.onnx")) == f"{tmp_path}/no/derain.onnx: no such file"


def test_no_error_moves_a_cursor_or_turns_what_is_read() -> None:
    error = errors.InputFileError("task \x1b[31mde\u202erain\nirsde-deploy: done\x9b2J")
    assert str(error) == "task  [31mde rain irsde-deploy: done 2J"
    assert f"{error}" == str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed:/onnxruntime_src/onnxruntime/core/graph/"
                "model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const Path&) Unsupported IR version (99)."
            ),
            "[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed: Unsupported IR version (99)",
        ),
        (
            RuntimeError(
                r"failed: D:\a\_work\1\core\x.cc:7 static void ns::{anonymous}::f(int) const [with T = int] Too large."
            ),
            "failed: Too large",
        ),
        (
            RuntimeError("FAIL : tensorprotoutils.cc:2201 GetExtDataFromTensorProto Beyond the end"),
            "FAIL : Beyond the end",
        ),
        (RuntimeError("/onnxruntime_src/a/b.h:17 " + "f" * 200 + "(int) Integer overflow"), "Integer overflow"),
        (RuntimeError("cannot open /home/me/a.cc: it is no picture"), "cannot open /home/me/a.cc: it is no picture"),
        (KeyError("intro.weight"), "there is no 'intro.weight'"),
        (KeyError(7), "there is no 7"),
    ],
)
def test_a_librarys_words_come_without_where_in_its_source(error: Exception, words: str) -> None:
    assert errors.reason(error) == words
