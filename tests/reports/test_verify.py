"""Verifying as one call from Python: what the command writes and says, silent unless somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from golden import load_case

from irsde_deploy import load
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import ParityError
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.reports.parity import verify_engine
from irsde_deploy.reports.tiles import verify_tiles
from irsde_deploy.system.listener import Listener


def test_an_engine_is_verified_in_one_call_as_by_the_command(
    unet_onnx: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    succeeds: Callable[..., tuple[str, str]],
) -> None:
    against = load_case("unet_nf8_depth4").weights
    sampling = Sampling(sampler="mean", steps=2, seed=2023)
    lines: list[str] = []
    for listener in (Listener(), Listener(line=lines.append, note=lines.append)):
        trajectory = verify_engine(
            load(unet_onnx), against, tmp_path / "a.csv", tmp_path / "a.png", sampling=sampling, listener=listener
        )
    assert capfd.readouterr() == ("", "")
    assert trajectory.passed
    assert trajectory.complete
    files = ("--csv", tmp_path / "b.csv", "--plot", tmp_path / "b.png")
    printed, told = succeeds(
        "verify", unet_onnx, "--against", against, "--sampler", "mean", "--steps", 2, "--device", "cpu", *files
    )
    assert told == ""
    for name in ("csv", "png"):
        assert (tmp_path / f"a.{name}").read_bytes() == (tmp_path / f"b.{name}").read_bytes(), name
    assert "\n".join(lines).replace("a.csv", "b.csv").replace("a.png", "b.png") + "\n" == printed

    with pytest.raises(ParityError, match=rf"^{unet_onnx} differs from PyTorch"):
        verify_engine(
            load(unet_onnx), against, tmp_path / "c.csv", tmp_path / "c.png", sampling=sampling, tolerance=1e-12
        )
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "a.csv").read_bytes(), "written before it is judged"


def test_tiles_are_verified_in_one_call(
    onnx_of: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "in.png"
    write_picture(picture, Picture(np.random.default_rng(4).integers(0, 256, (16, 40, 3), dtype=np.uint8)))
    lines: list[str] = []
    report = verify_tiles(
        load(onnx_of("nafnet_w16")),
        picture,
        Tiling(16, 4),
        tmp_path / "t.csv",
        tmp_path / "t.png",
        sampling=Sampling(sampler="mean", steps=1),
        listener=Listener(line=lines.append),
    )
    assert capfd.readouterr() == ("", "")
    assert f"whole picture: {report.decibels:.2f} dB" in lines[0]
    assert lines[1] == f"wrote {tmp_path / 't.csv'} and {tmp_path / 't.png'}"
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 40 + 16
