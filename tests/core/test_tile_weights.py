"""Where tiles lie, how many there are, and the weights of their pixels: by hand."""

from __future__ import annotations

import numpy as np
import pytest

from irsde_deploy.core.sampling import Sampling
from irsde_deploy.core.tiling import Tiling
from irsde_deploy.errors import InvalidValueError


def test_weights_rise_as_the_square_of_a_sine_at_the_middles_of_pixels() -> None:
    columns = Tiling(8, 4).over(8, 12, 1).columns
    assert columns.starts == (0, 4)
    rising = np.sin(np.pi / 2 * np.array([0.125, 0.375, 0.625, 0.875])) ** 2
    np.testing.assert_allclose(columns.weights[1], [*rising, 1, 1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(columns.weights[0], [1, 1, 1, 1, *rising[::-1]], rtol=1e-6)
    tiles = Tiling(8, 4).over(12, 12, 1)
    np.testing.assert_allclose(tiles.weights((1, 0))[2, 6], rising[2] * rising[1], rtol=1e-6)
    assert tiles.window((1, 0)) == (slice(4, 12), slice(0, 8))


@pytest.mark.parametrize(
    ("length", "side", "overlap", "starts"),
    [
        (64, 64, 16, (0,)),
        (65, 64, 16, (0, 1)),
        (112, 64, 16, (0, 48)),
        (113, 64, 16, (0, 24, 49)),
        (160, 64, 16, (0, 48, 96)),
        (96, 48, 0, (0, 48)),
    ],
)
def test_there_are_as_few_tiles_as_overlap_enough(
    length: int, side: int, overlap: int, starts: tuple[int, ...]
) -> None:
    tiles = Tiling(side, overlap).over(length, 40, 1)
    assert tiles.rows.starts == starts
    assert len(tiles) == len(list(tiles)) == len(starts)
    assert tiles.size == (side if len(starts) > 1 else length, 40)


def test_seams_are_in_the_middle_of_overlaps() -> None:
    assert Tiling(48, 16).over(48, 112, 4).columns.seams == (40, 72)


def test_the_default_overlap_is_64_or_half_a_side() -> None:
    found = [Tiling.of(side).overlap for side in (1, 63, 127, 128, 129, 2048)]
    assert found == [0, 31, 63, 64, 64, 64]
    assert Tiling.of(128, 7).overlap == 7
    assert (Tiling().side, Tiling().overlap) == (512, 64)


def test_the_limits_themselves() -> None:
    assert Tiling(2**16, 2**15).side == 2**16
    for side, overlap in ((2**16 + 1, 64), (64, 33), (64, -1), (64, 1.5)):
        with pytest.raises(InvalidValueError):
            Tiling(side, overlap)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="`overlap` is that of tiles: give `tile` too"):
        Sampling(overlap=8)
