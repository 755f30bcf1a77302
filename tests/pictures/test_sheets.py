"""Pictures under a line of text, side by side."""

from __future__ import annotations

import numpy as np
from sample_pictures import photograph

from irsde_deploy.pictures.sheets import headings, labelled


def test_text_stands_above_the_picture_and_hides_nothing() -> None:
    image = photograph(0)
    found = labelled(image, "p0  12.34 dB")
    band = found[: -len(image)]
    assert found.dtype == np.uint8
    assert found.shape == (len(image) + 20, 64, 3)
    np.testing.assert_array_equal(found[20:], image)
    assert (band > 128).any(), "there is text"
    assert (band[0] == 0).all(), "which is not cut at the top"


def test_each_column_has_its_own_word() -> None:
    one, other = headings(("degraded", "clean"), 100), headings(("degraded", "degraded"), 100)
    assert one.shape == (20, 200, 3)
    np.testing.assert_array_equal(one[:, :100], other[:, :100])
    np.testing.assert_array_equal(other[:, :100], other[:, 100:])
    assert (one[:, 100:] != other[:, 100:]).any()
