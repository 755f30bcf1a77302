"""Range tables are used again where they fit and nowhere else; a manifest repeats its run byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_pairs import write_pairs
from places import ASSETS

from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.manifest import CalibrationSettings, read_manifest
from irsde_deploy.calibration.problem import Problem
from irsde_deploy.calibration.range_table import read_table, states_of
from irsde_deploy.calibration.ranges import METHODS, Magnitudes
from irsde_deploy.calibration.recorder import Recorder
from irsde_deploy.graphs.onnx_file import read_model, write_model


def test_a_manifest_repeats_the_run_byte_for_byte(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    first = tmp_path / "a" / "q.onnx"
    calibrate(source, "--data", f"{pairs / 'LQ'},{pairs / 'GT'}", "-o", first, "--crop", 16, "--residuals", "--seed", 9)
    again = tmp_path / "b" / "q.onnx"
    printed = calibrate(source, "--manifest", first.with_suffix(".json"), "-o", again)
    assert "the same file as the manifest's, byte for byte" in printed
    assert again.read_bytes() == first.read_bytes()
    assert "whose hash fits" not in printed, "another folder: the ranges were measured again"
    tables = [json.loads(next(path.parent.glob("ranges-*.json")).read_text()) for path in (first, again)]
    assert tables[0]["tensors"] == tables[1]["tensors"]
    other = tmp_path / "c" / "q.onnx"
    calibrate(source, "--data", pairs, "-o", other, "--crop", 16, "--residuals", "--seed", 10)
    assert other.read_bytes() != first.read_bytes(), "the seed is of use"


def test_a_range_table_is_used_again_where_its_hash_fits(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    common = ("--data", pairs, "--crop", 16, "--states", 12, "--cache", tmp_path / "cache")
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "a.onnx")
    (path,) = (tmp_path / "cache").iterdir()
    assert "whose hash fits" in calibrate(source, *common, "-o", tmp_path / "b.onnx", "--method", "minmax")
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "c.onnx", "--seed", 1)
    assert "whose hash fits" not in calibrate(source, *common, "-o", tmp_path / "d.onnx", "--steps", 2)
    path.write_text("{")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "b.onnx").read_bytes()
    calibrate(source, *common, "-o", tmp_path / "a.onnx", "--overwrite")
    assert all(json.loads(p.read_text()) for p in (tmp_path / "cache").iterdir()), "a damaged table is measured again"


def test_a_table_has_the_widest_range_of_the_timesteps(pairs: Path, source: Path, tmp_path: Path) -> None:
    model, card = read_model(source)
    timesteps = tuple(card.plan(steps=4).table.t.tolist())
    data, every = find_data(str(pairs)), CalibrationSettings("mean", timesteps, crop=16, states=24)
    problem = Problem.of(model, card, data, every)
    table, _, _ = problem.range_table(tmp_path)
    recorder = Recorder(model, ["h1", "h3", "h6"])
    seen = {(name, t): Magnitudes() for name in recorder.tensors for t in (0, *timesteps)}
    for state in islice(states_of(model, card, data, every), 24):
        for name, values in recorder(state).items():
            seen[name, state.t].add(values)
            seen[name, 0].add(values)
    for method, choose in METHODS.items():
        for name, top in table.ranges(method).items():
            assert top == max(choose(seen[name, t]) for t in timesteps)
    pooled = {name: METHODS["mse"](seen[name, 0]) for name in recorder.tensors}
    assert min(pooled[name] / table.ranges("mse")[name] for name in pooled) < 0.99, "which one histogram does not give"


def test_with_pairs_states_are_those_that_the_sampler_visits(pairs: Path, source: Path) -> None:
    """`mean` drops the posterior's noise: from y = lam z its first step goes to cy lam z + cq y_0 where q = y_0."""
    model, card = read_model(source)
    first, second = card.plan(steps=2).table.t.tolist()
    cy, cq, _ = card.sde.posterior(second, first)
    settings = CalibrationSettings("mean", (first, second), crop=64, states=24)
    residuals = {}
    for name in "012":
        lq, gt = (cv2.imread(str(pairs / kind / f"{name}.png"))[:, :, ::-1] / 255 for kind in ("LQ", "GT"))
        residuals[lq[0, 0].astype(np.float32).tobytes()] = (gt - lq).transpose(2, 0, 1)
    found = {first: [], second: []}
    for state in islice(states_of(model, card, find_data(str(pairs)), settings), 24):
        y0 = residuals[state.mu[0, :, 0, 0].tobytes()]
        y = (state.x - state.mu)[0, :, :24, :28]
        found[state.t].append((y - (cq * y0 if state.t == second else 0)) / card.sde.start)
    for t, kept in ((first, 1), (second, cy)):
        z = np.stack(found[t]) / kept
        assert abs(z.mean()) < 5 / np.sqrt(z.size)
        assert abs(z.std() - 1) < 5 / np.sqrt(2 * z.size)


def test_a_table_serves_its_own_number_of_states_sde_and_padding(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    common = ("--data", pairs, "--crop", 16, "--cache", tmp_path / "cache", "--overwrite", "-o", tmp_path / "a.onnx")
    for number in (6, 12):
        assert "whose hash fits" not in calibrate(source, *common, "--states", number)
    assert "whose hash fits" not in calibrate(source, *common, "--most-states", 12)
    assert "whose hash fits" in calibrate(source, *common, "--states", 6)
    assert len(list((tmp_path / "cache").iterdir())) == 3, "no table replaced another"
    model, card = read_model(source)
    for other in (replace(card, sde=replace(card.sde, max_sigma=0.1)), replace(card, pad_mode="zero")):
        write_model(model, other, source)
        assert "whose hash fits" not in calibrate(source, *common, "--states", 6)


@pytest.mark.parametrize(
    "spoil", [{}, {"h1": None}, {"h1": 0.0}, {"h1": float("nan")}, {"h1": 1e30}, {"h1": 1e-40}, {"z": 1.0}]
)
def test_a_table_without_usable_ranges_is_measured_again(
    spoil: dict, pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    common = ("--data", pairs, "--crop", 16, "--states", 6, "--overwrite", "-o", tmp_path / "a.onnx")
    calibrate(source, *common)
    (path,) = tmp_path.glob("ranges-*.json")
    right = path.read_bytes()
    table = json.loads(right)
    for name, value in spoil.items():
        entry = table["tensors"].pop(name, dict.fromkeys(["lowest", "highest", *METHODS], 1.0))
        if value is not None:
            table["tensors"][name] = {**entry, "mse": value}
    path.write_text(json.dumps(table))
    assert ("whose hash fits" in calibrate(source, *common)) == (not spoil)
    if spoil:
        assert path.read_bytes() == right


def test_a_manifests_table_is_used_only_unchanged(
    pairs: Path, source: Path, calibrate: Callable[..., str], succeeds: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    calibrate(source, "--data", pairs, "--crop", 16, "--states", 6, "-o", tmp_path / "a.onnx")
    again = ("--manifest", tmp_path / "a.json", "-o", tmp_path / "b.onnx", "--overwrite")
    assert "whose hash fits" in calibrate(source, *again)
    (path,) = tmp_path.glob("ranges-*.json")
    table = json.loads(path.read_text())
    table["tensors"]["h1"]["mse"] *= 1.5
    path.write_text(json.dumps(table))
    printed, told = succeeds("calibrate", source, *again)
    assert "whose hash fits" not in printed
    assert "byte for byte" in printed
    assert f"{path.name} is not the table of the manifest, so that ranges were measured again" in told


def test_a_manifest_in_the_outputs_place_is_kept(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path, fails_with: Callable[..., None]
) -> None:
    output, manifest = tmp_path / "q.onnx", tmp_path / "q.json"
    calibrate(source, "--data", pairs, "--crop", 16, "--states", 6, "-o", output)
    # as another one's manifest is: other packages, and written differently
    text = json.dumps({**json.loads(manifest.read_text()), "packages": {"onnx": "0"}})
    manifest.write_text(text)
    output.unlink()
    calibrate(source, "--manifest", manifest, "-o", output)
    assert manifest.read_text() == text
    text = json.dumps({**json.loads(text), "output_sha256": "0" * 64})
    manifest.write_text(text)
    output.unlink()
    fails_with(1, "differs from this manifest's", "calibrate", source, "--manifest", manifest, "-o", output)
    assert manifest.read_text() == text
    assert not output.exists()
    calibrate(source, "--manifest", manifest, "-o", output, "--overwrite")
    assert json.loads(manifest.read_text())["output_sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()


def test_folders_with_a_comma_are_repeated_from_the_manifest(
    source: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    calibrate(source, "--data", write_pairs(tmp_path / "a,b"), "--states", 6, "-o", tmp_path / "q.onnx")
    printed = calibrate(source, "--manifest", tmp_path / "q.json", "-o", tmp_path / "again.onnx")
    assert "byte for byte" in printed


def test_the_committed_calibration_is_whole() -> None:
    """Its table is the one that it was written with, and has a range for every tensor that is in INT8."""
    folder = ASSETS.parent / "calibration"
    manifest = read_manifest(folder / "derain_nafnet_w16.json")
    path = folder / manifest.ranges.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest.ranges.sha256
    table = read_table(path)
    assert (table.states, table.converged, len(manifest.pictures)) == (manifest.settings.states, True, 28)
    assert table.file_name == path.name
