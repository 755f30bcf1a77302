"""Metrics against hand values and second implementations."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_pictures import photograph
from scipy.ndimage import correlate1d

from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.sde import DenoisingSDE
from irsde_deploy.errors import CheckpointError, InvalidValueError
from irsde_deploy.networks.perceptual import LPIPS, open_lpips
from irsde_deploy.networks.torch_files import load_safely
from irsde_deploy.pictures.metrics import luma, ring_error, ssim
from irsde_deploy.pictures.noise_level import estimate_noise, estimate_start


def test_psnr_by_hand() -> None:
    zero, one = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    assert psnr(one, zero) == pytest.approx(20 * math.log10(255 / 16), rel=1e-12)
    assert psnr(zero, zero) == math.inf
    assert psnr(one / 255, zero / 255) == pytest.approx(20 * math.log10(255 / 16), rel=1e-12)


def test_luma_is_bt601_by_hand() -> None:
    """White, black and the primaries in 8-bit studio range, from the standard's table."""
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    expected = [235, 16, 81.481, 144.553, 40.966]
    for pictures in (colours, colours.astype(np.uint16) * 257, colours / np.float32(255)):
        np.testing.assert_allclose(luma(pictures)[0] * 255, expected, atol=1e-9)


def test_the_error_of_the_ring_is_that_of_the_outermost_pixels() -> None:
    """One wrong pixel at a time, too bright or too dark, beside the limit on each side."""
    clean = np.full((40, 50, 3), 100, np.uint8)
    inside = 24 * 34
    for row, column, in_ring in (
        (7, 20, True), (8, 20, False), (31, 20, False), (32, 20, True),
        (20, 7, True), (20, 8, False), (20, 41, False), (20, 42, True),
    ):  # fmt: skip
        image = clean.copy()
        image[row, column] = (130, 70, 100)
        ring, interior = 20 / (40 * 50 - inside), 20 / inside
        expected = (pytest.approx(ring), 0) if in_ring else (0, pytest.approx(interior))
        assert ring_error(image, clean) == expected
    assert ring_error(image.astype(np.uint16) * 257, clean.astype(np.uint16) * 257)[0] == pytest.approx(ring)
    assert ring_error(image[:16], clean[:16]) == (0, None)
    assert ring_error(image[:17], clean[:17]) == (0, 0)


def test_ssim_is_the_papers_formula() -> None:
    """Written again: Gaussian window of 11 and 1.5, inside where the window fits, averaged over channels."""
    one = photograph(0).astype(np.float64)
    other = np.clip(one + np.random.default_rng(0).normal(0, 20, one.shape), 0, 255)
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, window, axis=0), window, axis=1)[5:-5, 5:-5]

    mu1, mu2 = blur(one), blur(other)
    var1, var2 = blur(one * one) - mu1**2, blur(other * other) - mu2**2
    covariance = blur(one * other) - mu1 * mu2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    field = (2 * mu1 * mu2 + c1) * (2 * covariance + c2) / ((mu1**2 + mu2**2 + c1) * (var1 + var2 + c2))
    assert ssim(other, one, peak=255) == pytest.approx(field.mean(), rel=1e-9)
    assert ssim(one, one, peak=255) == pytest.approx(1, abs=1e-12)
    for image, reference in ((one[:10], one[:10]), (one[:, :10], one[:, :10]), (one, one[:11])):
        with pytest.raises(InvalidValueError, match="at least 11"):
            ssim(image, reference)
    assert ssim(other[:11, :11], one[:11, :11], peak=255) < 1, "the window fits once"
    wide, narrow = (np.rint(image).astype(np.uint8) for image in (one, other))
    expected = ssim(narrow, wide)
    assert expected == pytest.approx(field.mean(), abs=2e-3), "white follows from the type"
    assert ssim(narrow.astype(np.uint16) * 257, wide.astype(np.uint16) * 257) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_the_noise_of_a_smooth_picture_is_found(sigma: float) -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:256, 0:256] / 256
    smooth = np.stack([0.3 + 0.4 * x, 0.5 + 0.2 * y, 0.5 + 0.1 * np.sin(6 * x)], axis=2)
    noisy = smooth + sigma / 255 * rng.normal(size=smooth.shape)
    assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.03)  # the median of 49,000 coefficients: 0.6 %


def test_a_level_is_one_that_a_model_can_start_at() -> None:
    rng = np.random.default_rng(2)
    sde = DenoisingSDE(max_sigma=30, T=100, schedule="cosine")
    highest = 255 * float(sde.sigma[-1])
    noisy = np.clip(0.5 + rng.normal(0, 60 / 255, (64, 64, 3)), 0, 1)
    assert estimate_noise(noisy) > highest == estimate_start(noisy, sde)
    assert estimate_start(np.full((64, 64, 3), 0.5), sde) == estimate_noise(np.full((1, 64, 3), 128, np.uint8)) == 0.1
    overshoot = np.where(rng.random((64, 64, 3)) < 0.5, 0.999, 1.5)
    assert estimate_start(overshoot, sde) < 1, "what is beyond white shows no noise"
    bytes_of = np.rint(np.clip(0.5 + rng.normal(0, 0.02, (64, 64, 3)), 0, 1) * 255).astype(np.uint8)
    assert estimate_start(bytes_of, sde) == pytest.approx(estimate_noise(bytes_of / 255))
    assert estimate_noise(bytes_of.astype(np.uint16) * 257) == pytest.approx(estimate_noise(bytes_of))


def test_lpips_is_that_of_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two implementations on the same random backbone and torchmetrics' own heads."""
    import torchmetrics
    from torchmetrics.functional.image import lpips as theirs

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 11, 4, 2), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(64, 192, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(192, 384, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(384, 256, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(256, 256, 3, padding=1), torch.nn.ReLU(),
    )  # fmt: skip
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_: backbone)
    reference = theirs._LPIPS(pretrained=True, net="alex", use_dropout=True)
    heads = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    weights = {f"features.{key}": value for key, value in backbone.state_dict().items()}
    ours = LPIPS(weights, load_safely(heads), "alexnet.pth")
    one, other = torch.rand(2, 1, 3, 64, 80) * 2 - 1
    expected = float(reference(one, other).squeeze())
    assert float(ours(one, other)) == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-4
    with pytest.raises(CheckpointError, match="AlexNet"):
        LPIPS({}, load_safely(heads), "alexnet.pth")


def test_lpips_of_small_pictures_is_not_measured(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    weights = {f"features.{number}.weight": torch.randn(shape) * 0.05 for number, shape in shapes.items()}
    weights |= {f"features.{number}.bias": torch.zeros(shape[0]) for number, shape in shapes.items()}
    torch.save(weights, tmp_path / "alexnet.pth")
    distance = open_lpips(tmp_path / "alexnet.pth")
    assert distance(photograph(0, 31, 64), photograph(1, 31, 64)) is None
    found, expected = distance(photograph(0, 32, 64), photograph(1, 32, 64)), []
    for picture in (photograph(0, 32, 64), photograph(1, 32, 64)):
        expected.append(torch.from_numpy(picture.transpose(2, 0, 1)[None] / 127.5 - 1).float())
    heads = Path(importlib.import_module("torchmetrics").__file__ or "").parent
    model = LPIPS(weights, load_safely(heads / "functional/image/lpips_models/alex.pth"), "alexnet.pth")
    assert found == pytest.approx(float(model(*expected)), rel=1e-4)
    assert distance(photograph(0, 32, 64), photograph(0, 32, 64)) == 0
