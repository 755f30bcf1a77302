"""Training samples: the same for ever, every picture and place as often as any other; pictures that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sample_pictures import photograph

from irsde_deploy import MeanRevertingSDE
from irsde_deploy.errors import InputFileError
from irsde_deploy.pictures.files import Picture, write_picture
from irsde_deploy.training import data
from irsde_deploy.training.data import DegradedFolder, PairedFolders, PictureCache, TrainingSamples

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)
Window = Callable[[tuple[int, int]], tuple[slice, slice]]


@dataclass
class Numbered:
    """Pictures in memory whose red is the row, green the column and blue the picture's number; LQ is half of GT.

    Attributes:
        sizes: height and width of each.
        asked: (picture, seed of its degradation) of each call, in order.
    """

    sizes: list[tuple[int, int]]
    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [str(number) for number in range(len(self.sizes))]

    def read(self, index: int, window: Window, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((index, tuple(seed)))
        height, width = self.sizes[index]
        rows, columns = np.mgrid[:height, :width]
        gt = np.stack([rows, columns, np.full_like(rows, index)], axis=-1)[window((height, width))]
        return gt.astype(np.float32) / 510, gt.astype(np.float32) / 255


def places(sample: data.Batch) -> np.ndarray:
    """Row, column and picture of each pixel of a sample, (3, H, W)."""
    return np.rint(sample.gt.numpy() * 255).astype(int)


def test_samples_are_those_of_earlier_versions() -> None:
    """A run that is resumed by a newer version must be the one that was begun."""
    samples = TrainingSamples(Numbered([(40, 50), (60, 30)]), 16, SDE, seed=7, start_share=0.3)
    drawn = [samples[number] for number in range(6)]
    assert [int(sample.t) for sample in drawn] == [11, 12, 20, 7, 5, 20]
    assert [float(sample.left) for sample in drawn] == [1, 1, 0, 1, 1, 0]
    corners = [[21, 30, 0], [38, 16, 1], [16, 26, 0], [40, 2, 1], [22, 23, 1], [15, 19, 0]]
    assert [places(sample)[:, 0, 0].tolist() for sample in drawn] == corners
    noise = [0.754822, 1.258809, -0.227165, -0.660613, 0.344712, 0.267345]
    assert [float(sample.z[2, 3, 5]) for sample in drawn] == pytest.approx(noise, abs=1e-6)


def test_every_place_of_a_picture_is_trained_on_its_last_ones_too() -> None:
    samples = TrainingSamples(Numbered([(17, 18)]), 16, SDE, seed=0, flip=False, rotate=False)
    corners = {tuple(places(samples[number])[:2, 0, 0].tolist()) for number in range(60)}
    assert corners == {(row, column) for row in (0, 1) for column in (0, 1, 2)}


@pytest.mark.parametrize(
    ("flip", "rotate", "ways"), [(False, False, 1), (True, False, 2), (False, True, 4), (True, True, 8)]
)
def test_patches_are_turned_and_mirrored_where_that_is_asked(flip: bool, rotate: bool, ways: int) -> None:
    samples = TrainingSamples(Numbered([(4, 4)]), 4, SDE, seed=0, flip=flip, rotate=rotate)
    seen = set()
    for number in range(60):
        sample = samples[number]
        assert torch.allclose(sample.mu * 2, sample.gt), "both pictures of a pair are turned alike"
        seen.add(places(sample)[:2].tobytes())
    assert len(seen) == ways


def test_every_picture_comes_once_before_any_comes_twice_and_each_time_in_another_order() -> None:
    pairs = Numbered([(4, 4)] * 6)
    samples = TrainingSamples(pairs, 4, SDE, seed=3)
    for number in range(18):
        samples[number]
    order = [index for index, _ in pairs.asked]
    rounds = [order[start : start + 6] for start in (0, 6, 12)]
    assert [sorted(one) for one in rounds] == [list(range(6))] * 3
    assert rounds[0] != rounds[1] != rounds[2]
    assert len({seed for _, seed in pairs.asked}) == 18, "a picture is degraded anew each time"
    other = TrainingSamples(pairs, 4, SDE, seed=4)
    for number in range(6):
        other[number]
    assert pairs.asked[-1][1] != pairs.asked[5][1], "and by another seed in another way"
    assert [index for index, _ in pairs.asked[18:]] != rounds[0]


def test_a_picture_smaller_than_the_patch_is_reflected_below_and_on_the_right() -> None:
    samples = TrainingSamples(Numbered([(3, 5)]), 8, SDE, seed=0, flip=False, rotate=False)
    rows, columns, _ = places(samples[0])
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 2, 2, 1, 0, 0, 1])
    np.testing.assert_array_equal(columns[0], [0, 1, 2, 3, 4, 4, 3, 2])
    assert places(TrainingSamples(Numbered([(1, 1)]), 8, SDE, seed=0)[0]).max() == 0


def test_a_share_of_starts_changes_nothing_else_of_a_sample() -> None:
    pairs = Numbered([(20, 20)])
    usual, with_starts = (TrainingSamples(pairs, 8, SDE, 1, start_share=share) for share in (0.0, 0.9))
    starts = 0
    for number in range(20):
        one, other = usual[number], with_starts[number]
        assert torch.equal(one.z, other.z)
        assert torch.equal(one.gt, other.gt)
        assert float(one.left) == 1
        starts += int(other.left == 0)
    assert starts >= 14


def test_pictures_of_16_bit_are_scaled_by_their_own_white(tmp_path: Path) -> None:
    wide = np.full((8, 9, 3), 65535, np.uint16)
    wide[0, 0] = 257
    write_picture(tmp_path / "a.png", Picture(wide))
    lq, gt = DegradedFolder.open(tmp_path, None).read(0, lambda size: (slice(0, size[0]), slice(0, size[1])), [0])
    assert (gt.max(), gt.shape) == (1, (8, 9, 3))
    assert gt[0, 0, 0] == pytest.approx(1 / 255, rel=1e-6)
    assert lq is gt, "the noise of a Denoising-SDE is all the degradation"


def test_pairs_of_folders_are_cut_at_the_same_place_and_small_ones_are_enlarged(tmp_path: Path) -> None:
    for name, size in (("a", (12, 16)), ("b", (8, 8))):
        write_picture(tmp_path / "gt" / f"{name}.png", Picture(photograph(1, *size)))
        small = photograph(2, size[0] // 4, size[1] // 4) if name == "b" else photograph(2, *size)
        write_picture(tmp_path / "lq" / f"{name}.png", Picture(small))
    pairs = PairedFolders.open(tmp_path / "lq", tmp_path / "gt").subset([1, 0])
    assert pairs.names == ["b", "a"]
    lq, gt = pairs.read(1, lambda size: (slice(2, 6), slice(size[1] - 4, size[1])), [0])
    np.testing.assert_array_equal(lq, photograph(2, 12, 16)[2:6, 12:].astype(np.float32) / 255)
    np.testing.assert_array_equal(gt, photograph(1, 12, 16)[2:6, 12:].astype(np.float32) / 255)
    assert pairs.read(0, lambda size: (slice(0, 8), slice(0, 8)), [0])[0].shape == (8, 8, 3)


@pytest.mark.parametrize(("processes", "kept"), [(None, 2), (2, 1)])
def test_pictures_are_kept_until_the_memory_for_them_is_full(
    processes: int | None, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones stay, in every process its share of the whole; later ones are read from the disk each time."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        write_picture(path, Picture(np.full((8, 8, 3), 7, np.uint8)))
    monkeypatch.setattr(data, "CACHE_BYTES", 2 * 8 * 8 * 3)
    if processes is not None:
        monkeypatch.setattr(data, "get_worker_info", lambda: SimpleNamespace(num_workers=processes))
    cache = PictureCache()
    for path in paths:
        cache.read(path)
        path.unlink()
    for number, path in enumerate(paths):
        if number < kept:
            assert cache.read(path).max() == 7
        else:
            with pytest.raises(InputFileError, match="no such file"):
                cache.read(path)
