"""Pictures in every type become what the network takes, and come back in their own: numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.pixels import check_picture, from_network, require_rgb_pictures, to_network
from irsde_deploy.errors import InvalidValueError

CARD = ModelCard("ConditionalNAFNet", {}, 3, 8, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005))
LATENT = replace(CARD, channels=4, value_range=None)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_scaled_by_their_white_and_come_back_rounded_and_saturated(dtype: type, white: int) -> None:
    batch = np.array([[[[0, 1, white]]]], dtype)
    np.testing.assert_array_equal(to_network(batch), np.array([0, 1 / white, 1], np.float32).reshape(1, 3, 1, 1))
    values = np.array([-0.5, 0.4 / white, 0.6 / white, 1.5 / white, 2.5 / white, 1.5], np.float32)
    restored = from_network(values.reshape(1, 6, 1, 1), np.dtype(dtype))
    assert restored.dtype == dtype
    assert restored.ravel().tolist() == [0, 0, 1, 2, 2, white], "halves go to the even neighbour"


def test_floating_point_is_left_as_it_comes() -> None:
    batch = np.arange(-6, 6, dtype=np.float64).reshape(1, 2, 2, 3) / 4
    mu = to_network(batch)
    assert mu.dtype == np.float32
    assert mu[0, 2, 1, 0] == batch[0, 1, 0, 2]
    back = from_network(mu, batch.dtype)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, batch)


@pytest.mark.parametrize(
    ("card", "picture", "message"),
    [
        (CARD, np.full((2, 2, 3), -200.0), "this one goes to 200: divide by its white value"),
        (CARD, np.full((2, 2, 3), 2.01), "goes to 2.01"),
        (CARD, np.full((2, 2, 3), np.nan), "the picture has NaN or infinite values"),
        (CARD, np.zeros((2, 2, 3), np.uint32), "uint8, uint16 or floating point, not uint32"),
        (CARD, np.zeros((2, 2, 3), bool), "floating point, not bool"),
        (CARD, np.zeros((1, 1, 2, 2, 3)), r"must have the shape \(H, W, 3\) or \(B, H, W, 3\)"),
        (LATENT, np.zeros((2, 2, 4), np.uint8), "a latent must be floating point, not uint8"),
        (LATENT, np.full((2, 2, 4), np.inf), "NaN or infinite"),
    ],
)
def test_what_no_network_takes_is_refused(card: ModelCard, picture: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        check_picture(card, picture)


def test_limits_of_what_is_taken() -> None:
    assert check_picture(CARD, np.full((2, 2, 3), -2.0)).shape == (1, 2, 2, 3)
    assert check_picture(LATENT, np.full((5, 2, 2, 4), 300.0)).max() == 300, "latents have no fixed range"


def test_networks_of_something_else_restore_no_pictures() -> None:
    require_rgb_pictures(CARD, "a.onnx")
    for card, words in ((LATENT, "4-channel latents"), (replace(CARD, channels=1), "1-channel arrays")):
        with pytest.raises(InvalidValueError, match=f"^a.onnx: this network works on {words}, not on RGB"):
            require_rgb_pictures(card, "a.onnx")
