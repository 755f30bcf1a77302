"""Quality by a target: what a target may be, and what is chosen for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from irsde_deploy import Restorer, load
from irsde_deploy.core.presets import PRESETS
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.pictures.planning import Job
from irsde_deploy.pictures.targets import choose_quality, choose_quality_for, seconds_wanted


class Timed(Restorer):
    """A restorer whose evaluations take a tenth of a second a picture."""

    def seconds_per_evaluation(self, picture: np.ndarray, sampling: Sampling | None = None, repeats: int = 3) -> float:
        self.measured = (len(picture), sampling)
        return 0.1 * len(picture)


@pytest.fixture(scope="module")
def restorer(small_onnx: Path) -> Timed:
    return Timed(load(small_onnx).engine)


def test_seconds_wanted() -> None:
    assert seconds_wanted(None, None, Sampling(quality="fast")) is None
    assert seconds_wanted(0.5, None, Sampling()) == 0.5
    assert seconds_wanted(None, 4, Sampling(seed=3)) == 0.25


@pytest.mark.parametrize(
    ("seconds", "fps", "sampling", "message"),
    [
        (1, 1, Sampling(), "`target_seconds` and `target_fps` say the same in two ways"),
        (1, None, Sampling(quality="fast"), "leave out `quality`, `sampler` and `steps`"),
        (None, 1, Sampling(sampler="mean"), "leave out `quality`, `sampler` and `steps`"),
        (1, None, Sampling(steps=3), "leave out `quality`, `sampler` and `steps`"),
        (None, 0.0, Sampling(), "`target_fps` must be a finite number above 0, not 0"),
        (None, float("nan"), Sampling(), "`target_fps` must be a finite number above 0, not nan"),
        (None, float("inf"), Sampling(), "`target_fps` must be a finite number above 0, not inf"),
        (0.0, None, Sampling(), "the target must be a finite number above 0 seconds a picture, not 0"),
        (float("nan"), None, Sampling(), "seconds a picture, not nan"),
    ],
)
def test_targets_that_are_none(seconds: float | None, fps: float | None, sampling: Sampling, message: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        seconds_wanted(seconds, fps, sampling)
    assert message in str(error.value)


@pytest.mark.parametrize(("target", "quality"), [(5, "best"), (1.01, "balanced"), (0.6, "fast"), (0.21, "draft")])
def test_the_best_preset_that_fits_is_chosen(target: float, quality: str, restorer: Timed) -> None:
    choice = choose_quality(target, restorer, Sampling(), np.zeros((2, 8, 12, 3), np.uint8))
    assert choice.quality == quality
    assert choice.words == f"an evaluation at 12x8 takes 0.1 s: {quality} ({PRESETS[quality]})"
    assert choice.note is None


def test_what_cannot_be_met_is_said(restorer: Timed) -> None:
    choice = choose_quality(0.1, restorer, Sampling(), np.zeros((1, 8, 12, 3), np.uint8))
    assert (choice.quality, choice.note) == ("draft", "even draft takes 0.2 s a picture, not 0.1 s")


def test_the_first_picture_that_can_be_read_is_measured(restorer: Timed, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((8, 12, 3), np.uint8))
    jobs = [Job(tmp_path / name, tmp_path / "out" / name) for name in ("broken.png", "good.png")]
    sampling = Sampling(tile=64)
    for batch, measured in ((1, 1), (2, 2), (4, 2)):  # as many as are restored at a time
        choice = choose_quality_for(5, restorer, sampling, jobs, batch)
        assert choice is not None
        assert "at 12x8 takes 0.1 s" in choice.words
        assert restorer.measured == (measured, sampling)
    assert choose_quality_for(5, restorer, Sampling(), jobs[:1], batch=1) is None
