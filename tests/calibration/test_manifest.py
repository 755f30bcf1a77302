"""Manifests and range tables are read as strictly as they are written, whatever a file of that name holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import changed, hostile_json, not_utf8
from places import ASSETS

from irsde_deploy.calibration.manifest import MAX_JSON, CalibrationSettings, read_manifest
from irsde_deploy.calibration.range_table import read_table, write_table
from irsde_deploy.calibration.repeating import Original
from irsde_deploy.errors import InputFileError, InvalidValueError

FOLDER = ASSETS.parent / "calibration"
MANIFEST = FOLDER / "derain_nafnet_w16.json"
TABLE = next(FOLDER.glob("ranges-*.json"))
KINDS = [
    (MANIFEST, read_manifest, "settings.seed", "is not a calibration manifest that .*: calibrate again without it"),
    (TABLE, read_table, "states", "is not a range table that .*: remove it, and ranges are measured again"),
]


def test_they_are_written_as_they_were_read(tmp_path: Path) -> None:
    read_manifest(MANIFEST).write(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == MANIFEST.read_bytes()
    write_table(read_table(TABLE), tmp_path / "t.json")
    assert (tmp_path / "t.json").read_bytes() == TABLE.read_bytes()


@pytest.mark.parametrize(("source", "read", "whole", "frame"), KINDS)
def test_hostile_files_are_one_sentence(
    source: Path, read: Callable[[Path], Any], whole: str, frame: str, tmp_path: Path
) -> None:
    good, path = json.loads(source.read_text()), tmp_path / "file.json"
    for content, words in hostile_json(good, whole):
        path.write_bytes(content)
        with pytest.raises(InputFileError, match=rf"file\.json: .*({words})") as raised:
            read(path)
        assert len(str(raised.value)) < 400
    path.write_bytes(not_utf8(good))
    with pytest.raises(InputFileError, match=r"file\.json: is not .*: byte \d+ is not UTF-8 text"):
        read(path)
    path.write_text(json.dumps(changed(good, whole, "3")))
    with pytest.raises(InputFileError, match=frame):
        read(path)
    with path.open("wb") as file:
        file.truncate(MAX_JSON + 1)
    with pytest.raises(InputFileError, match=rf"is too large to be .*: {MAX_JSON + 1} bytes, where {MAX_JSON} are"):
        read(path)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("format", 3, "it is not of format 4"),
        ("data", [], "data must be one folder or two"),
        ("data", ["a", 2], r"in it, data\[1\] must be text, not 2"),
        ("pictures", [], "pictures must be at least one"),
        ("pictures", [{"name": "a", "lq_sha256": "0"}], r"pictures\[0\] in it lacks gt_sha256"),
        ("pictures", [{"name": "a", "lq_sha256": None, "gt_sha256": None}], r"pictures\[0\].lq_sha256 must be text"),
        ("pictures", [{"name": "a", "lq_sha256": "0", "gt_sha256": None, "mask": 1}], "unknown field 'mask'"),
        ("settings.states", 2.5, "in it, settings.states must be a whole number or null, not 2.5"),
        ("settings.timesteps", [True], r"settings.timesteps\[0\] must be a whole number, not True"),
        ("settings.method", "best", "method must be one of minmax, .*, not 'best'"),
        ("settings.rest", "int4", "rest must be one of fp32, fp16, not 'int4'"),
        ("settings.psnr_budget", 0, "a PSNR budget is above 0 and up to 200 dB, not 0"),
        ("settings.residuals", 0, "settings.residuals must be true or false, not 0"),
        ("model_sha256", "x\ny" * 50, r"'x\\nyx.{0,60}' is not a SHA-256"),
        ("ranges", {"name": "../a.json", "sha256": "0" * 64}, "'../a.json' is not the name of a range table"),
        ("ranges.sha256", "0", "'0' is not a SHA-256"),
        ("packages", {"onnx": 1}, r"packages\[...\] must be text, not a whole number"),
    ],
)
def test_manifests_of_another_form(where: str, value: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(changed(json.loads(MANIFEST.read_text()), where, value)))
    with pytest.raises(InputFileError, match=words):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"crop": 16}, None),
        ({"crop": 15}, "crop must be from 16 to 4096 pixels, not 15"),
        ({"crop": 4096}, None),
        ({"crop": 4097}, "crop must be"),
        ({"states": 2}, None),
        ({"states": 1}, "states must be at least the 2 timesteps"),
        ({"states": 1_000_000}, None),
        ({"states": 1_000_001}, "a million at most"),
        ({"most_states": 1}, "states must be at least the 2 timesteps"),
        ({"psnr_budget": 200}, None),
        ({"psnr_budget": 201}, "up to 200 dB"),
        ({"seed": 2**64 - 1}, None),
        ({"seed": 2**64}, "seed must be from 0 to"),
        ({"timesteps": (30, 30)}, "timesteps must strictly decrease"),
        ({"timesteps": (1,)}, None),
    ],
)
def test_the_ends_of_each_setting(given: dict[str, Any], words: str | None) -> None:
    settings = {"timesteps": (60, 30), **given}
    if words is None:
        assert CalibrationSettings("mean", **settings) is not None
        return
    with pytest.raises(InvalidValueError, match=words):
        CalibrationSettings("mean", **settings)


def test_the_first_round_has_whole_turns_and_no_more_than_is_allowed() -> None:
    timesteps = (90, 60, 30)
    assert CalibrationSettings("mean", timesteps).first_states == 33
    assert CalibrationSettings("mean", timesteps, most_states=10).first_states == 10
    assert CalibrationSettings("mean", timesteps, states=7).first_states == 7


def test_packages_that_were_of_another_version_are_named() -> None:
    made = read_manifest(MANIFEST)
    before = replace(made, packages={**made.packages, "onnx": "0"})
    del before.packages["pillow"]
    assert Original(MANIFEST, before).changed_packages(made) == ["onnx", "pillow"]


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("key", "../../x", "key must be a hash, in letters and digits, not '../../x'"),
        ("stop", "mse converged, or ../x", "stop must be 'given' or such as"),
        ("stop", "", "stop must be 'given' or such as"),
    ],
)
def test_a_tables_name_is_made_of_what_a_calibration_writes(where: str, value: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({**json.loads(TABLE.read_text()), where: value}))
    with pytest.raises(InputFileError, match=words):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lowest": 0}, "'conv' must have entropy, highest, lowest, minmax, mse, percentile, not {'lowest': 0}"),
        ({"lowest": "0"}, r"tensors\[...\]\[...\] must be a number, not text"),
        (7, r"tensors\[...\] must be an object .names with values., not a whole number"),
    ],
)
def test_tables_of_another_form(values: object, words: str, tmp_path: Path) -> None:
    table = json.loads(TABLE.read_text())
    (tmp_path / "t.json").write_text(json.dumps({**table, "tensors": {**table["tensors"], "conv": values}}))
    with pytest.raises(InputFileError, match=words):
        read_table(tmp_path / "t.json")
