"""What the plug-ins share: which noise a frame gets, what is refused before the first one, threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irsde_deploy import ModelCard, Restorer, load
from irsde_deploy.core.noise import normal_field
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InputFileError, InvalidValueError, IrsdeError
from irsde_deploy.pictures.noise_level import estimate_noise
from irsde_deploy.plugins import frame_restorer as module
from irsde_deploy.plugins.frame_restorer import FrameRestorer

FRAMES = np.random.default_rng(1).random((4, 13, 18, 3), dtype=np.float32)


def drawn(seed: int, frame: int, steps: int) -> np.ndarray:
    """(steps+1, 1, 3, 13, 18): a frame's noise, field by field."""
    return np.stack([normal_field(seed, k, (3, 13, 18), frame)[None] for k in range(steps + 1)])


@pytest.mark.parametrize(("noise", "frame"), [("fixed", 0), ("per-frame", 7)])
def test_a_frame_gets_the_noise_of_its_number(small_onnx: Path, noise: str, frame: int) -> None:
    restored = FrameRestorer(small_onnx, Sampling(steps=4, seed=9), noise)(7, FRAMES[0])
    by_hand = load(small_onnx)(FRAMES[0], steps=4, noise=drawn(9, frame, 4))
    np.testing.assert_array_equal(restored, by_hand)


def test_a_batch_of_numbered_frames_is_the_frames_one_by_one(small_onnx: Path) -> None:
    restorer = load(small_onnx)
    batch = restorer(FRAMES, seed=2, frames=[5, 0, 9, 5])
    for number, picture, restored in zip([5, 0, 9, 5], FRAMES, batch, strict=True):
        alone = restorer(picture, noise=drawn(2, number, 3))
        assert np.abs(restored - alone).max() < 1e-6  # another order of additions
    with pytest.raises(InvalidValueError, match="frames must have one entry a picture: 4, not 1"):
        restorer(FRAMES, frames=[0])


def test_settings_reach_the_restorer(small_onnx: Path) -> None:
    restorer = load(small_onnx)
    restored = FrameRestorer(small_onnx, Sampling(quality="draft", clip=True))(0, FRAMES[0])
    np.testing.assert_array_equal(restored, restorer(FRAMES[0], quality="draft", clip=True))
    restored = FrameRestorer(small_onnx, Sampling(sampler="posterior", steps=2))(0, FRAMES[0])
    np.testing.assert_array_equal(restored, restorer(FRAMES[0], sampler="posterior", steps=2))
    tiled = FrameRestorer(small_onnx, Sampling(sampler="posterior", steps=2, tile=8, overlap=4))(0, FRAMES[0])
    by_hand = restorer(FRAMES[0], sampler="posterior", steps=2, tile=8, overlap=4)
    np.testing.assert_array_equal(tiled, by_hand)
    assert (tiled != restored).any(), "a convolution sees the borders of tiles"


def test_a_denoising_model_gets_the_level_given_or_each_frames_own(onnx_of: Callable[[str], Path]) -> None:
    path = onnx_of("ConditionalNAFNet")
    restorer = load(path)
    given = FrameRestorer(path, Sampling(noise_level=30))(0, FRAMES[0])
    np.testing.assert_array_equal(given, restorer(FRAMES[0], noise_level=30))
    blind = FrameRestorer(path, Sampling())
    for picture in (FRAMES[0] / 16 + 0.4, FRAMES[1] / 4):
        np.testing.assert_array_equal(blind(0, picture), restorer(picture, noise_level=estimate_noise(picture)))


def test_threads_get_what_one_thread_gets(small_onnx: Path) -> None:
    """OpenVINO's engine has one request a size, which two threads must not use at a time."""
    frames = FrameRestorer(small_onnx, Sampling(), "per-frame", provider="openvino")
    expected = [frames(n, FRAMES[n % 4]) for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        restored = list(pool.map(lambda n: frames(n, FRAMES[n % 4]), range(24)))
    np.testing.assert_array_equal(restored, expected)


class OneAtATime:
    """An engine whose calls must not overlap, as those of engines that keep buffers."""

    name = "one at a time"

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.inside = threading.Lock()

    def __call__(self, x: np.ndarray, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
        assert self.inside.acquire(blocking=False), "another thread is inside"
        time.sleep(0.02)
        self.inside.release()
        return 0 * x


def test_one_frame_is_restored_at_a_time(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OneAtATime(load(small_onnx).card)
    monkeypatch.setattr(module, "load", lambda *_, **__: Restorer(engine))
    frames = module.FrameRestorer(small_onnx, Sampling(sampler="mean", steps=2))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda n: frames(n, FRAMES[n % 4]), range(8)))) == 8


def test_what_is_said_of_the_engine_reaches_it(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fallback in FP32, of the same model, opened beside it; ONNX Runtime has no such provider or device."""
    opened: list[Restorer] = []
    monkeypatch.setattr(module, "load", lambda *given, **more: opened.append(load(*given, **more)) or opened[-1])
    module.FrameRestorer(small_onnx, Sampling(), fallback=small_onnx)
    assert opened[0].files == (small_onnx, small_onnx)
    with pytest.raises(IrsdeError, match="nonsense"):
        module.FrameRestorer(small_onnx, Sampling(), provider="nonsense")
    with pytest.raises(IrsdeError, match="nonsense"):
        module.FrameRestorer(small_onnx, Sampling(), device="nonsense")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "none"}, "noise must be one of fixed, per-frame, not 'none'"),
        ({"quality": "good"}, "quality must be one of draft, fast"),
        ({"quality": "fast", "steps": 2}, "leave out one or the others"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"sampler": "euler", "steps": 3}, "euler"),
        ({"tile": "half"}, "tile must be a side in pixels, 'auto' or None, not 'half'"),
        ({"tile": 16, "overlap": 9}, "can overlap by 0 to 8 pixels, not 9"),
        ({"noise_level": 10.0}, "leave it out for this model"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_frame(
    small_onnx: Path, settings: dict[str, Any], message: str
) -> None:
    noise = settings.pop("noise", "fixed")
    with pytest.raises(InvalidValueError, match=message):
        FrameRestorer(small_onnx, Sampling(**settings), noise)  # type: ignore[arg-type]


def test_engines_that_are_missing_or_not_for_pictures_are_refused(
    tmp_path: Path, onnx_of: Callable[[str], Path]
) -> None:
    with pytest.raises(InputFileError, match=r"none\.onnx"):
        FrameRestorer(tmp_path / "none.onnx", Sampling())
    with pytest.raises(InvalidValueError, match="latents, not on RGB pictures"):
        FrameRestorer(onnx_of("latent_nafnet_w8"), Sampling())
