"""Calibration as one call from Python: what the command writes, silent unless somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from irsde_deploy.calibration.calibrate import calibrate_graph
from irsde_deploy.calibration.manifest import read_manifest
from irsde_deploy.calibration.options import CalibrationOptions
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.errors import InvalidValueError, OutputFileError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.system.listener import Listener


def test_one_call_writes_what_the_command_writes(
    pairs: Path, source: Path, calibrate: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = CalibrationOptions(Sampling(steps=2, seed=9), crop=16, states=6, residuals=True)
    made = calibrate_graph(source, str(pairs), tmp_path / "call" / "q.onnx", options)
    assert capfd.readouterr() == ("", "")
    settings = ("--steps", 2, "--seed", 9, "--crop", 16, "--states", 6, "--residuals")
    calibrate(source, "--data", pairs, "-o", tmp_path / "command" / "q.onnx", *settings)
    for name in ("q.onnx", "q.json", made.table.name):
        assert (tmp_path / "call" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name
    assert made.manifest == read_manifest(made.output.with_suffix(".json"))
    assert made.cost.psnr > 0
    with pytest.raises(OutputFileError, match=r"q.onnx: exists already: pass `overwrite`"):
        calibrate_graph(source, str(pairs), made.output, options)


def test_a_repeated_call_tells_that_the_file_is_the_same(pairs: Path, source: Path, tmp_path: Path) -> None:
    first = calibrate_graph(source, str(pairs), tmp_path / "a.onnx", CalibrationOptions(crop=16, states=6))
    lines: list[str] = []
    again = calibrate_graph(
        source, output=tmp_path / "b.onnx", manifest=tmp_path / "a.json", listener=Listener(line=lines.append)
    )
    assert lines[0].startswith("3 pairs, states drawn exactly\nmean, 3 steps: t = ")
    assert lines[-2] == f"wrote {again.output} (0.0 MB), b.json and {first.table.name}"
    assert lines[-1] == "the same file as the manifest's, byte for byte"
    with pytest.raises(InvalidValueError, match="the manifest has the options already"):
        calibrate_graph(source, None, tmp_path / "c.onnx", CalibrationOptions(crop=32), manifest=tmp_path / "a.json")


def test_options_become_settings_with_the_models_card(source: Path) -> None:
    _, card = read_model(source)
    settings = CalibrationOptions(Sampling(steps=2, debias=True, seed=4, clip=True), psnr_budget=40).settings(card)
    assert (settings.sampler, settings.debias, settings.seed, settings.clip) == (card.sampler, True, 4, True)
    given = CalibrationOptions(method="entropy", crop=48, most_states=99, residuals=True, rest="fp16").settings(card)
    assert (given.method, given.crop, given.most_states, given.residuals) == ("entropy", 48, 99, True)
    assert (given.rest, given.clip, given.states) == ("fp16", False, None)
    assert settings.timesteps == tuple(card.plan(steps=2).table.t.tolist())
    assert (settings.rest, settings.most_states) == ("fp16", 2048)
    assert CalibrationOptions().settings(card).rest == "fp32"
    with pytest.raises(InvalidValueError, match="`states` says how many: leave out `most_states`"):
        CalibrationOptions(states=8, most_states=64).settings(card)
    with pytest.raises(InvalidValueError, match="not 0"):
        CalibrationOptions(most_states=0).settings(card)


def test_a_denoising_model_needs_a_level(denoising: Path) -> None:
    card: ModelCard = read_model(denoising)[1]
    assert isinstance(card.sde, DenoisingSDE)
    with pytest.raises(InvalidValueError, match="give the pictures' `noise_level`, or `t0`"):
        CalibrationOptions().settings(card)
    assert CalibrationOptions(Sampling(t0=3)).settings(card).timesteps[0] == 3


def test_what_must_not_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "none.onnx"
    with pytest.raises(InvalidValueError, match="the output must end in .onnx"):
        calibrate_graph(nowhere, "data", tmp_path / "a.plan")
    with pytest.raises(InvalidValueError, match="are for range tables"):
        calibrate_graph(nowhere, "data", tmp_path / "ranges-1.onnx")
    with pytest.raises(InvalidValueError, match="must not replace the graph"):
        calibrate_graph(nowhere, "data", nowhere)


def test_a_table_that_was_cut_short_is_told_of_and_measured_again(pairs: Path, source: Path, tmp_path: Path) -> None:
    options, notes = CalibrationOptions(crop=16, states=6), list[str]()
    first = calibrate_graph(str(source), str(pairs), str(tmp_path / "a.onnx"), options, cache=str(tmp_path / "tables"))
    whole = first.table.read_bytes()
    first.table.write_bytes(whole[:-300])
    listener = Listener(note=notes.append)
    calibrate_graph(source, str(pairs), tmp_path / "b.onnx", options, cache=tmp_path / "tables", listener=listener)
    assert first.table.read_bytes() == whole
    (note,) = [note for note in notes if "range table" in note]
    assert note.startswith(f"{first.table}: is not a range table that this irsde-deploy can read (")
    assert note.endswith("remove it, and ranges are measured again")
