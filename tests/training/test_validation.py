"""What validation looks at, and how it measures: the middle of pictures, degraded alike each time, in 8 bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_pictures import photograph
from torch import Tensor, nn

from irsde_deploy import DenoisingSDE, MeanRevertingSDE, ModelCard
from irsde_deploy.core.comparison import psnr
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.training.margins import AS_GOOD, NO_BETTER, MarginError, Margins
from irsde_deploy.training.plan import DataPlan
from irsde_deploy.training.validation import (
    Example,
    Validated,
    margin_error,
    mean_psnr,
    read_examples,
    validate,
    write_sheet,
)

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)
CARD = ModelCard("known", {}, 3, 1, "zero", SDE, sampler="mean", steps=2)
DATA = DataPlan("/clean", side=16)


class Photographs:
    """Photographs in memory; LQ is a little darker than GT."""

    def __init__(self, count: int, height: int = 40, width: int = 50) -> None:
        self.names = [f"p{number}" for number in range(count)]
        self.size = height, width
        self.seeds: list[Sequence[int]] = []

    def read(self, index: int, window, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
        self.seeds.append(tuple(seed))
        gt = photograph(index, *self.size)[window(self.size)].astype(np.float32) / 255
        return gt * np.float32(0.9), gt


class Known(nn.Module):
    """A network that leads from any state to one picture, (1, C, H, W)."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, mu: Tensor, t: Tensor) -> Tensor:
        a, sigma = float(SDE.a[int(t[0])]), float(SDE.sigma[int(t[0])])
        return (x - mu - a * (self.answer - mu)) / sigma


def test_the_middle_of_each_picture_is_looked_at() -> None:
    pairs = Photographs(2)
    examples = read_examples(pairs, CARD, DATA)
    assert [example.name for example in examples] == ["p0", "p1"]
    expected = photograph(1, 40, 50)[12:28, 17:33].transpose(2, 0, 1)[None].astype(np.float32) / 255
    np.testing.assert_array_equal(examples[1].gt, expected)
    np.testing.assert_array_equal(examples[1].lq, expected * np.float32(0.9))
    assert len(set(pairs.seeds)) == 2, "each is degraded in its own way"
    assert pairs.seeds == [(2024, 0), (2024, 1)], "the same in every run and at every validation"
    assert read_examples(Photographs(1, 10, 50), CARD, DATA)[0].gt.shape == (1, 3, 10, 16)


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (32, 32), (33, 17), (96, 32), (97, 25)])
def test_of_many_pictures_evenly_spaced_ones_are_looked_at(count: int, taken: int) -> None:
    examples = read_examples(Photographs(count, 16, 16), CARD, DATA)
    assert len(examples) == taken
    assert examples[0].name == "p0"
    assert int(examples[-1].name[1:]) == (taken - 1) * -(-count // 32)


def test_a_denoising_model_looks_at_noise_of_the_level_asked_for() -> None:
    sde = DenoisingSDE(max_sigma=75, T=20, schedule="cosine")
    card = replace(CARD, settings={"conditional": False}, sde=sde)
    examples = read_examples(Photographs(2, 64, 64), card, DataPlan("/clean", side=64, noise_level=50))
    for example in examples:
        noise = (example.lq - example.gt) * 255
        assert noise.std() == pytest.approx(50, rel=0.03)
        assert abs(noise.mean()) < 2
    first, second = (example.lq - example.gt for example in examples)
    assert np.abs(first - second).max() > 0.1, "each has noise of its own"


def test_pictures_are_measured_as_files_of_8_bit() -> None:
    """What a restored picture has beyond white is cut off, and the rest is rounded, before it is compared."""
    gt = photograph(0, 40, 40).transpose(2, 0, 1)[None].astype(np.float32) / 255
    gt[:, :, :8] = 1.0
    answer = gt + np.float32(0.004)
    example = Example("a", np.clip(gt - np.float32(0.1), 0, 1), gt)
    results = validate(Known(torch.from_numpy(answer)), CARD, [example], 25)
    assert results is not None
    files = [np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (results[0].restored, gt, example.lq)]
    assert results[0].after == pytest.approx(psnr(files[0], files[1]), rel=1e-9)
    assert results[0].before == pytest.approx(psnr(files[2], files[1]), rel=1e-9)
    assert results[0].after > results[0].before + 10
    assert results[0].restored.max() > 1


def test_what_is_not_finite_counts_as_nothing_and_the_others_are_measured() -> None:
    gt = photograph(0, 20, 20).transpose(2, 0, 1)[None].astype(np.float32) / 255
    examples = [Example("a", gt * np.float32(0.9), gt)] * 2
    results = validate(Known(torch.full((1, 3, 20, 20), float("nan"))), CARD, examples, 25)
    assert results is not None
    assert [(result.after, result.restored.max()) for result in results] == [(0.0, 0.0)] * 2
    assert results[0].before > 15


def test_validation_ends_where_it_is_asked_to() -> None:
    gt = photograph(0, 20, 20).transpose(2, 0, 1)[None].astype(np.float32) / 255
    answers = iter([True, False])
    assert (
        validate(Known(torch.from_numpy(gt)), CARD, [Example("a", gt, gt)] * 2, 25, keep_going=lambda: next(answers))
        is None
    )


def result(after: float, ring: float = 1.0, interior: float | None = 1.0, side: int = 16) -> Validated:
    picture = np.full((1, 3, side, side), 0.5, np.float32)
    return Validated(Example("p", picture, picture), picture, 10.0, after, ring, interior)


def test_means_are_over_all_examples() -> None:
    assert mean_psnr([result(20), result(30), result(40)]) == 30
    found = margin_error(8, [result(1, 4.0, 1.0), result(1, 8.0, 3.0), result(1, 99.0, None)])
    assert found == MarginError(8, 6.0, 2.0)
    assert margin_error(8, [result(1, 4.0, None), result(1, 8.0, None)]) == MarginError(8, 6.0, 6.0)


def test_a_sheet_has_eight_rows_at_most_as_wide_as_the_widest(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, 8, 9):
        write_sheet(tmp_path / "sheet.png", [result(20, side=300 if number == 0 else 256) for number in range(count)])
        sheet = read_picture(tmp_path / "sheet.png").rgb
        assert sheet.shape[1] == 3 * (300 + 4)
        heights.append(sheet.shape[0])
    assert heights[1] < heights[2] == heights[3]
    write_sheet(tmp_path / "sheet.png", [result(20, side=300)], "margin 8")
    assert read_picture(tmp_path / "sheet.png").rgb.shape[0] == heights[0] + 20


def test_limits_of_what_is_good_enough() -> None:
    assert MarginError(0, AS_GOOD * 10.0, 10.0).as_good
    assert not MarginError(0, 11.1, 10.0).as_good
    errors = [MarginError(8, 20.0 * NO_BETTER, 1.0), MarginError(16, 20.0, 1.0), MarginError(12, 30.0, 1.0)]
    margins = Margins.of(errors)
    assert margins.chosen.margin == 8
    assert margins.columns == {"margin": 8, "ring": 21.0, "interior": 1.0, "ring_8": 21.0, "ring_16": 20.0}
