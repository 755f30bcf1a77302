"""LPIPS and FID, from weights that the user gives; nothing is downloaded.

LPIPS (Zhang et al., 2018), version 0.1 on AlexNet: the backbone's weights are torchvision's file
(alexnet-owt-7be5be79.pth), the five linear heads come with torchmetrics. torchmetrics itself would need torchvision
for the backbone, hence the few lines here; a test compares them with torchmetrics' own.

FID (Heusel et al., 2017) is torchmetrics', on the Inception network of torch-fidelity with its weights file
(pt_inception-2015-12-05-6726825d.pth).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError, MissingPackageError, reason, requires_extra
from ..system.files import require_readable
from .torch_files import load_safely

LPIPS_SMALLEST = 32
"""The least side in pixels: AlexNet makes nothing of smaller pictures."""

# Mean and deviation of ImageNet's channels, on the scale of [-1, 1], rounded as LPIPS has them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

Pixels = npt.NDArray[np.uint8]


def open_lpips(weights: Path) -> Callable[[Pixels, Pixels], float | None]:
    """LPIPS as a function of two pictures.

    Args:
        weights: the file of torchvision's AlexNet.

    Returns:
        A function of two pictures (H, W, 3) uint8; it returns None where a side is below 32 pixels.

    Raises:
        InputFileError, CheckpointError: no such file, or not these weights.
        MissingPackageError: torchmetrics is not installed.
    """
    with requires_extra("evaluate", "LPIPS"):
        import torchmetrics
    heads = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    require_readable(weights)
    model = LPIPS(load_safely(weights), load_safely(heads), str(weights))

    def distance(one: Pixels, other: Pixels) -> float | None:
        if min(one.shape[:2]) < LPIPS_SMALLEST:
            return None
        with torch.inference_mode():
            return float(model(_signed(one), _signed(other)))

    return distance


class LPIPS(nn.Module):
    """Distance of AlexNet's features, each layer normalised over channels, weighted, and averaged over positions.

    Args:
        backbone: torchvision's AlexNet state dict (`features.0.weight`, ...).
        heads: the linear layers (`lin0.model.1.weight`, ...).
        name: of the backbone's file, for messages.

    Raises:
        CheckpointError: the backbone is not torchvision's AlexNet.
    """

    def __init__(self, backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU()),
                nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
                nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
            ]
        )
        convolutions = [layer for layer in self.features.modules() if isinstance(layer, nn.Conv2d)]
        try:
            # Numbers of the convolutions among torchvision's layers, between them ReLU and pooling.
            for layer, number in zip(convolutions, (0, 3, 6, 8, 10), strict=True):
                weight, bias = backbone[f"features.{number}.weight"], backbone[f"features.{number}.bias"]
                layer.load_state_dict({"weight": weight, "bias": bias})
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{name}: not the weights of torchvision's AlexNet ({reason(error)})") from None
        self._heads = [heads[f"lin{i}.model.1.weight"] for i in range(5)]
        self.eval().requires_grad_(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """The distance of two pictures, both (1, 3, H, W) in [-1, 1]."""
        shift = torch.tensor(_SHIFT)[None, :, None, None]
        scale = torch.tensor(_SCALE)[None, :, None, None]
        one, other = (one - shift) / scale, (other - shift) / scale
        total = torch.zeros(())
        for layer, head in zip(self.features, self._heads, strict=True):
            one, other = layer(one), layer(other)
            difference = (_normalised(one) - _normalised(other)) ** 2
            total = total + F.conv2d(difference, head).mean()
        return total


class FrechetDistance:
    """FID of restored pictures against clean ones, added picture by picture.

    Raises:
        MissingPackageError: torchmetrics or torch-fidelity is not installed.
        InputFileError, CheckpointError: no such weights.
    """

    def __init__(self, weights: Path) -> None:
        require_readable(weights)
        load_safely(weights)  # tensors only: torch-fidelity would unpickle anything
        try:
            import torch_fidelity  # noqa: F401 (what torchmetrics takes Inception from)
            from torchmetrics.image.fid import FrechetInceptionDistance
        except ImportError as error:
            raise MissingPackageError(
                f"FID needs {error.name}, which cannot be imported: pip install torchmetrics torch-fidelity"
            ) from None
        self._pictures = 0
        try:
            self._metric: Any = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(weights))
        except Exception as error:  # whatever torch-fidelity raises for another file
            raise CheckpointError(f"{weights}: not weights of torch-fidelity's Inception ({reason(error)})") from None

    def add(self, restored: npt.NDArray[Any], clean: npt.NDArray[Any]) -> None:
        """Add a restored picture and the clean one that belongs to it, both (H, W, 3) uint8."""
        for image, real in ((restored, False), (clean, True)):
            self._metric.update(_planes(image), real=real)
        self._pictures += 1

    def value(self) -> float | None:
        """The distance so far; None before there are two pictures, which a covariance needs."""
        if self._pictures < 2:
            return None
        return float(self._metric.compute())


def _normalised(features: Tensor) -> Tensor:
    """Features (1, C, H, W) of length 1 at each position; the constant is that of LPIPS."""
    return features / torch.sqrt(1e-8 + torch.sum(features**2, dim=1, keepdim=True))


def _signed(image: Pixels) -> Tensor:
    """A picture (H, W, 3) uint8 as (1, 3, H, W) in [-1, 1]."""
    return _planes(image).float() / 127.5 - 1


def _planes(image: Pixels) -> Tensor:
    """A picture (H, W, 3) as a tensor (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
