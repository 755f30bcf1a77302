"""Training data: pairs of degraded and clean pictures, from two folders or made on the fly from one.

Every training sample is a pure function of (seed, its number), so a resumed run, any number of data-loading workers
and any number of processes see the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..core.sde import SDE
from ..pictures.degradations import Degradation, Pixels
from ..pictures.files import read_picture
from ..pictures.pairs import Pair, Size, enlarged, pair_folders, picture_size, pictures_below, require_fitting_sizes

CACHE_BYTES = 2 << 30
Entry = TypeVar("Entry")


class Pairs(Protocol):
    """Where pairs come from."""

    @property
    def names(self) -> Sequence[str]:
        """Of the pictures, without suffix."""

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """(LQ, GT) of one picture, (H, W, 3) float32 in [0, 1], cut to the window chosen for its size."""


@dataclass(frozen=True)
class PairedFolders:
    """Degraded and clean pictures in two folders, under equal names (their suffixes may differ).

    A degraded picture may be a whole number of times smaller (super-resolution): it is enlarged by bicubic sampling.
    """

    pairs: tuple[Pair, ...]
    cache: PictureCache

    @property
    def names(self) -> Sequence[str]:
        """See `Pairs`."""
        return [pair.name for pair in self.pairs]

    @classmethod
    def open(cls, lq: Path, gt: Path) -> PairedFolders:
        """Pair the pictures of two folders, see `pair_folders`."""
        pairs = pair_folders(lq, gt)
        require_fitting_sizes(pairs)
        return cls(tuple(pairs), PictureCache())

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """See `Pairs`."""
        pair = self.pairs[index]
        gt = self.cache.read(pair.gt)
        lq = enlarged(self.cache.read(pair.lq), gt, pair)
        part = window((gt.shape[0], gt.shape[1]))
        return _to_float(lq[part]), _to_float(gt[part])

    def subset(self, indices: Sequence[int]) -> PairedFolders:
        """These pictures only."""
        return PairedFolders(_at(self.pairs, indices), self.cache)


@dataclass(frozen=True)
class DegradedFolder:
    """Clean pictures, degraded on the fly; without a degradation LQ is GT (the Denoising-SDE makes its own noise)."""

    gt: tuple[Path, ...]
    names: tuple[str, ...]
    degrade: Degradation | None
    cache: PictureCache

    @classmethod
    def open(cls, folder: Path, degrade: Degradation | None) -> DegradedFolder:
        """All pictures below a folder; InputFileError where a file is none."""
        found = pictures_below(folder)
        for path in found.values():
            picture_size(path)
        return cls(tuple(found.values()), tuple(found), degrade, PictureCache())

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """See `Pairs`."""
        picture = self.cache.read(self.gt[index])
        gt = _to_float(picture[window((picture.shape[0], picture.shape[1]))])
        return (gt if self.degrade is None else self.degrade(gt, seed)), gt

    def subset(self, indices: Sequence[int]) -> DegradedFolder:
        """These pictures only."""
        return DegradedFolder(_at(self.gt, indices), _at(self.names, indices), self.degrade, self.cache)


class PictureCache:
    """Decoded pictures, kept until `CACHE_BYTES` are used (by all workers together); the rest is read each time."""

    def __init__(self) -> None:
        self._kept: dict[Path, npt.NDArray[Any]] = {}
        self._bytes = 0

    def read(self, path: Path) -> npt.NDArray[Any]:
        """(H, W, 3) uint8 or uint16."""
        if path in self._kept:
            return self._kept[path]
        pixels = read_picture(path).rgb
        worker = get_worker_info()
        if self._bytes + pixels.nbytes <= CACHE_BYTES // (worker.num_workers if worker else 1):
            self._kept[path] = pixels
            self._bytes += pixels.nbytes
        return pixels


class Batch(NamedTuple):
    """Training samples: clean pictures gt and degraded ones mu (B, C, H, W), timesteps t (B,), noise z (B, C, H, W).

    `left` (B,) is 1 where the state is y = a_t y_0 + sigma_t z and 0 where it is y = lam z, what sampling starts from.
    """

    gt: Tensor
    mu: Tensor
    t: Tensor
    z: Tensor
    left: Tensor


class TrainingSamples(Dataset[Batch]):
    """Sample number i: a patch of a picture, degraded and flipped, a timestep and noise, all drawn from (seed, i).

    Every picture comes once before any comes twice.

    Args:
        pairs: where pictures come from.
        patch: side of the square patches; a smaller picture is reflected up to it.
        sde: for T.
        seed: of everything drawn.
        flip, rotate: whether to mirror and to turn by quarters.
        start_share: share of the samples that are states y = lam z at t = T.
    """

    def __init__(
        self,
        pairs: Pairs,
        patch: int,
        sde: SDE,
        seed: int,
        flip: bool = True,
        rotate: bool = True,
        start_share: float = 0.0,
    ) -> None:
        self._pairs, self._patch, self._sde, self._seed = pairs, patch, sde, seed
        self._flip, self._rotate, self._start_share = flip, rotate, start_share

    def __getitem__(self, number: int) -> Batch:
        """The sample as tensors without the batch axis."""
        epoch, place = divmod(number, len(self._pairs.names))
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._pairs.names))
        rng = np.random.default_rng([self._seed, 2, number])
        corner = rng.random(2)

        def window(size: Size) -> tuple[slice, slice]:
            top, left = (int(c * (max(side - self._patch, 0) + 1)) for c, side in zip(corner, size, strict=True))
            return slice(top, top + self._patch), slice(left, left + self._patch)

        lq, gt = self._pairs.read(int(order[place]), window, [self._seed, 3, number])
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        t = int(rng.integers(1, self._sde.T + 1))
        lq, gt = (self._oriented(_filled(image, self._patch), turns, mirrored) for image in (lq, gt))
        z = rng.standard_normal((3, self._patch, self._patch), dtype=np.float32)
        start = bool(rng.random() < self._start_share)
        return Batch(
            _to_tensor(gt),
            _to_tensor(lq),
            torch.tensor(self._sde.T if start else t),
            torch.from_numpy(z),
            torch.tensor(0.0 if start else 1.0),
        )

    def _oriented(self, image: Pixels, turns: int, mirrored: bool) -> Pixels:
        image = np.rot90(image, turns) if self._rotate else image
        return image[:, ::-1] if mirrored and self._flip else image


def _at(column: tuple[Entry, ...], indices: Sequence[int]) -> tuple[Entry, ...]:
    return tuple(column[i] for i in indices)


def _to_float(pixels: npt.NDArray[Any]) -> Pixels:
    scaled: Pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return scaled


def _filled(image: Pixels, patch: int) -> Pixels:
    """Reflect a picture that is smaller than the patch, on the right and at the bottom."""
    missing = [max(patch - side, 0) for side in image.shape[:2]]
    return np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric") if any(missing) else image


def _to_tensor(image: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
