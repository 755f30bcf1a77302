"""Presets: what they are made of, and the one that fits a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irsde_deploy import load
from irsde_deploy.core.presets import BY_COST, PRESETS, quality_within
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.pictures.files import Picture, read_picture, write_picture


@pytest.mark.parametrize("quality", list(PRESETS))
def test_a_quality_is_its_sampler_and_steps(quality: str, unet_onnx: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    restorer = load(unet_onnx)
    made_of = PRESETS[quality]
    np.testing.assert_array_equal(
        restorer(picture, quality=quality), restorer(picture, sampler=made_of.sampler, steps=made_of.steps)
    )


def test_a_quality_excludes_what_it_is_made_of() -> None:
    for sampler, steps in (("mean", None), (None, 4)):
        with pytest.raises(InvalidValueError, match="leave out one or the others"):
            Sampling(quality="fast", sampler=sampler, steps=steps)
    with pytest.raises(InvalidValueError, match="quality must be one of draft, fast"):
        Sampling(quality="perfect")


def test_a_quality_bends_to_fewer_timesteps(unet_onnx: Path) -> None:
    card = load(unet_onnx).card
    assert (
        card.plan(quality="best", t0=7).table.t.tolist() == card.plan(sampler="sde-2m", steps=7, t0=7).table.t.tolist()
    )
    with pytest.raises(InvalidValueError, match="steps must be"):
        card.plan(sampler="sde-2m", steps=20, t0=7)


def test_the_qualities_are_the_documented_ones() -> None:
    made_of = {name: (preset.sampler, preset.steps) for name, preset in PRESETS.items()}
    assert made_of == {"draft": ("mean", 2), "fast": ("mean", 5), "balanced": ("mean", 10), "best": ("sde-2m", 20)}


def test_the_best_quality_within_a_target() -> None:
    assert [PRESETS[name].steps for name in BY_COST] == sorted((PRESETS[n].steps for n in BY_COST), reverse=True)
    for name in BY_COST:
        steps = PRESETS[name].steps
        assert quality_within(steps * 0.25, 0.25) == (name, True)
        assert quality_within(steps * 0.25 - 1e-6, 0.25)[0] != name or name == "draft"
    assert quality_within(0.1, 0.25) == ("draft", False)
    for target in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidValueError, match="above 0 seconds"):
            quality_within(target, 0.25)


def test_run_by_quality_and_by_target(
    unet_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails_with
) -> None:
    import sys

    from irsde_deploy.__main__ import main

    picture = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    write_picture(tmp_path / "in.png", Picture(picture))

    def run(*options: str) -> str:
        files = [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--overwrite"]
        monkeypatch.setattr(sys, "argv", ["irsde-deploy", "run", "--engine", str(unet_onnx), *files, *options])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capfd.readouterr().out

    assert "mean, 2 steps" in run("--quality", "draft")
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").rgb, load(unet_onnx)(picture, quality="draft"))
    printed = run("--target-seconds", "60")
    assert "an evaluation at 20x16 takes" in printed
    assert f"best ({PRESETS['best']})" in printed
    assert "draft (" in run("--target-fps", "1e6")
    arguments = ("run", "--engine", unet_onnx, tmp_path / "in.png", "-o", tmp_path / "new.png")
    fails_with(2, "leave one out", *arguments, "--target-seconds", "1", "--target-fps", "1")
    fails_with(2, "chooses the quality", *arguments, "--target-seconds", "1", "--steps", "3")
    fails_with(2, "chooses the quality", *arguments, "--target-seconds", "1", "--quality", "best")
    fails_with(2, "above 0", *arguments, "--target-fps", "-3")
    fails_with(2, "leave out one or the others", *arguments, "--quality", "best", "--steps", "3")
