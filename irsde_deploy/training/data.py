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
from ..pictures.files import picture_size, read_picture
from ..pictures.pairs import Pair, Size, enlarged, pair_folders, pictures_below, require_fitting_sizes

CACHE_BYTES = 2 << 30
"""What decoded pictures may take in the memory of a training process and its data-loading workers together."""

Entry = TypeVar("Entry")


class Pairs(Protocol):
    """Where pairs of a degraded picture (LQ) and a clean one (GT) come from."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the pictures, without suffix."""

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """Return a part of one pair, (LQ, GT), both (H, W, 3) float32 in [0, 1].

        Args:
            index: the picture's place in `names`.
            window: chooses the part, as slices of rows and columns, for a clean picture of a size (height, width).
            seed: what the degradation is drawn from, where one is made on the fly.

        Raises:
            InputFileError: a picture cannot be read.
        """


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
        require_fitting_sizes(pairs)  # by their headers: a pair that does not fit must not stop a run on its third day
        return cls(tuple(pairs), PictureCache())

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """See `Pairs`."""
        pair = self.pairs[index]
        gt = self.cache.read(pair.gt)
        lq = enlarged(self.cache.read(pair.lq), gt, pair)
        part = window((gt.shape[0], gt.shape[1]))
        return _to_float(lq[part]), _to_float(gt[part])

    def subset(self, indices: Sequence[int]) -> PairedFolders:
        """The pairs at these indices alone, in this order; they share the cache."""
        return PairedFolders(_at(self.pairs, indices), self.cache)


@dataclass(frozen=True)
class DegradedFolder:
    """Clean pictures in one folder, which are degraded on the fly.

    Without a degradation LQ is GT: the noise of a Denoising-SDE is all the degradation that its network ever sees.
    """

    gt: tuple[Path, ...]
    names: tuple[str, ...]
    degrade: Degradation | None
    cache: PictureCache

    @classmethod
    def open(cls, folder: Path, degrade: Degradation | None) -> DegradedFolder:
        """Take all pictures below a folder; raises InputFileError where a file is none."""
        found = pictures_below(folder)
        for path in found.values():
            picture_size(path)  # reads the header, so that a file that is no picture is found before the run begins
        return cls(tuple(found.values()), tuple(found), degrade, PictureCache())

    def read(self, index: int, window: Callable[[Size], tuple[slice, slice]], seed: list[int]) -> tuple[Pixels, Pixels]:
        """See `Pairs`."""
        picture = self.cache.read(self.gt[index])
        part = window((picture.shape[0], picture.shape[1]))
        gt = _to_float(picture[part])
        if self.degrade is None:
            return gt, gt
        return self.degrade(gt, seed), gt  # the part alone: what is cut off would be degraded for nothing

    def subset(self, indices: Sequence[int]) -> DegradedFolder:
        """The pictures at these indices alone, in this order; they share the cache."""
        return DegradedFolder(_at(self.gt, indices), _at(self.names, indices), self.degrade, self.cache)


class PictureCache:
    """Decoded pictures, kept until `CACHE_BYTES` are used; those that come later are read from disk each time.

    Nothing is thrown out for a newer picture: every picture comes once an epoch, so the oldest is wanted as soon.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, npt.NDArray[Any]] = {}
        self._bytes = 0

    def read(self, path: Path) -> npt.NDArray[Any]:
        """Return a picture, (H, W, 3) uint8 or uint16."""
        if path in self._kept:
            return self._kept[path]
        pixels = read_picture(path).rgb
        if self._bytes + pixels.nbytes <= CACHE_BYTES // _caches():
            self._kept[path] = pixels
            self._bytes += pixels.nbytes
        return pixels


def _caches() -> int:
    """How many copies of the cache there are: every data-loading process has its own."""
    worker = get_worker_info()
    if worker is None:  # this is the main process, which reads everything itself
        return 1
    return worker.num_workers


class Batch(NamedTuple):
    """Training samples, from which a network's input is made: the state x = mu + y, mu and t.

    Attributes:
        gt: clean pictures (B, C, H, W) float32 in [0, 1].
        mu: degraded pictures, of the same shape and range.
        t: timesteps (B,), integers in 1..T.
        z: normal noise (B, C, H, W) float32.
        left: (B,), 1 where the state is y = a_t y_0 + sigma_t z with y_0 = gt - mu, and 0 where it is y = lam z, what
            sampling starts from, in which nothing is left of the clean picture.
    """

    gt: Tensor
    mu: Tensor
    t: Tensor
    z: Tensor
    left: Tensor


class TrainingSamples(Dataset[Batch]):
    """Training samples by number: a patch of a picture, degraded and turned, with a timestep and noise.

    Sample i is drawn from (seed, i) alone. Every picture comes once before any comes twice.

    Args:
        pairs: where pictures come from.
        patch: side of the square patches in pixels; a smaller picture is reflected up to it.
        sde: the process that is trained for; its T bounds the timesteps.
        seed: what all samples are drawn from.
        flip: whether half of the patches are mirrored.
        rotate: whether patches are turned by a random number of quarters.
        start_share: the share, in [0, 1], of samples that are states y = lam z at t = T.
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
        """Return one sample as tensors without the batch axis."""
        epoch, place = divmod(number, len(self._pairs.names))
        # The second entry of a seed keeps the streams of order (1), sample (2) and degradation (3) apart.
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._pairs.names))
        rng = np.random.default_rng([self._seed, 2, number])
        # From here on the order of the draws must stay: in another order all samples of all seeds would be others, and
        # a run that is resumed by a newer version would not be the one that was begun.
        corner = rng.random(2)

        def window(size: Size) -> tuple[slice, slice]:
            top = _first(corner[0], size[0], self._patch)
            left = _first(corner[1], size[1], self._patch)
            return slice(top, top + self._patch), slice(left, left + self._patch)

        lq, gt = self._pairs.read(int(order[place]), window, [self._seed, 3, number])
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))  # drawn even where they are not used, see above
        t, left = int(rng.integers(1, self._sde.T + 1)), 1.0
        z = rng.standard_normal((3, self._patch, self._patch), dtype=np.float32)
        if rng.random() < self._start_share:
            t, left = self._sde.T, 0.0
        return Batch(
            _to_tensor(self._placed(gt, turns, mirrored)),
            _to_tensor(self._placed(lq, turns, mirrored)),
            torch.tensor(t),
            torch.from_numpy(z),
            torch.tensor(left),
        )

    def _placed(self, image: Pixels, turns: int, mirrored: bool) -> Pixels:
        """The image filled up to a square patch, so that turning it keeps its size; then turned and mirrored."""
        image = _filled(image, self._patch)
        if self._rotate:
            image = np.rot90(image, turns)
        if mirrored and self._flip:
            image = image[:, ::-1]
        return image


def _first(share: float, side: int, patch: int) -> int:
    """The first row or column of a patch: `share`, uniform in [0, 1), makes all places along a side equally likely."""
    places = max(side - patch, 0) + 1  # a side shorter than the patch has one place
    return int(share * places)


def _at(column: tuple[Entry, ...], indices: Sequence[int]) -> tuple[Entry, ...]:
    return tuple(column[i] for i in indices)


def _to_float(pixels: npt.NDArray[Any]) -> Pixels:
    scaled: Pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return scaled


def _filled(image: Pixels, patch: int) -> Pixels:
    """Reflect a picture that is smaller than the patch, on the right and at the bottom."""
    below, right = max(patch - image.shape[0], 0), max(patch - image.shape[1], 0)
    if not below and not right:
        return image
    # "symmetric" repeats the edge itself, so that it works on a side of one pixel too.
    return np.pad(image, [(0, below), (0, right), (0, 0)], mode="symmetric")


def _to_tensor(image: Pixels) -> Tensor:
    # Turned and mirrored images are views with negative strides, which PyTorch does not take.
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
