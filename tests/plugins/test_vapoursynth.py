"""Clips through the real VapourSynth, compared with the restorer called by hand."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irsde_deploy import Restorer, load
from irsde_deploy.errors import InvalidValueError
from irsde_deploy.plugins.vapoursynth import restore

vs = pytest.importorskip("vapoursynth", reason="vapoursynth is not installed (its wheels need Python 3.12 or later)")

HEIGHT, WIDTH = 14, 19
DTYPES = {"RGB24": np.uint8, "RGB48": np.uint16, "RGBH": np.float16, "RGBS": np.float32}


@pytest.fixture(scope="module")
def restorer(small_onnx: Path) -> Restorer:
    return load(small_onnx)


def pictures(kind: str, count: int = 4) -> np.ndarray:
    """(count, H, W, 3) of the type of a VapourSynth format."""
    values = np.random.default_rng(3).random((count, HEIGHT, WIDTH, 3))
    dtype = DTYPES[kind]
    return (values * np.iinfo(dtype).max).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)


def clip_of(frames: np.ndarray, kind: str) -> Any:
    """A clip with these frames, each with its number as the property `number`."""
    blank = vs.core.std.BlankClip(
        format=getattr(vs, kind), width=WIDTH, height=HEIGHT, length=len(frames), fpsnum=24000, fpsden=1001
    )

    def fill(n: int, f: Any) -> Any:
        out = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(out[plane]), frames[n, :, :, plane])
        out.props["number"] = n
        return out

    return blank.std.ModifyFrame(clips=blank, selector=fill)


def picture_of(frame: Any) -> np.ndarray:
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=-1)


@pytest.mark.parametrize("kind", DTYPES)
def test_frames_are_what_the_restorer_makes_of_them(kind: str, small_onnx: Path, restorer: Restorer) -> None:
    frames = pictures(kind)
    restored = restore(clip_of(frames, kind), small_onnx, steps=2, seed=5)
    assert (restored.format.name, restored.num_frames) == (kind, len(frames))
    for n, frame in enumerate(frames):
        out = picture_of(restored.get_frame(n))
        assert out.dtype == DTYPES[kind]
        np.testing.assert_array_equal(out, restorer(frame, steps=2, seed=5))
    assert np.abs(out.astype(float) - frame).max() > 0.1 * frame.max(), "the network must do something"


@pytest.mark.parametrize(
    ("given", "by_hand"),
    [
        ({"clamp": True}, {"clip": True}),
        ({"quality": "draft"}, {"quality": "draft"}),
        ({"sampler": "posterior", "steps": 3}, {"sampler": "posterior", "steps": 3}),
        ({"tile": 8, "overlap": 2}, {"tile": 8, "overlap": 2}),
        ({"device": "cpu", "provider": "onnxruntime"}, {}),
    ],
)
def test_settings_reach_the_restorer(
    given: dict[str, Any], by_hand: dict[str, Any], small_onnx: Path, restorer: Restorer
) -> None:
    frames = pictures("RGBS", 1)
    out = picture_of(restore(clip_of(frames, "RGBS"), small_onnx, **given).get_frame(0))
    np.testing.assert_array_equal(out, restorer(frames[0], **by_hand))
    assert not by_hand or (out != restorer(frames[0])).any()


def test_half_floats_are_the_rounded_single_floats(small_onnx: Path) -> None:
    frames = pictures("RGBH", 1)
    half = picture_of(restore(clip_of(frames, "RGBH"), small_onnx).get_frame(0))
    single = picture_of(restore(clip_of(frames.astype(np.float32), "RGBS"), small_onnx).get_frame(0))
    np.testing.assert_array_equal(half, single.astype(np.float16))


def test_noise_is_fixed_or_of_each_frame(small_onnx: Path, restorer: Restorer) -> None:
    still = np.repeat(pictures("RGBS", 1), 3, axis=0)
    fixed, own = (
        [picture_of(frame) for frame in restore(clip_of(still, "RGBS"), small_onnx, noise=noise).frames()]
        for noise in ("fixed", "per-frame")
    )
    np.testing.assert_array_equal(fixed[0], fixed[2])
    np.testing.assert_array_equal(fixed[0], own[0])
    assert np.abs(own[1] - own[2]).max() > 0.01
    np.testing.assert_array_equal(own[2], restorer(still[2], frames=[2]))


def test_frames_are_the_same_in_any_order_and_from_any_thread(small_onnx: Path, restorer: Restorer) -> None:
    frames = pictures("RGB24", 12)
    restored = restore(clip_of(frames, "RGB24"), small_onnx, noise="per-frame")
    order = np.random.default_rng(0).permutation(12).tolist()
    waiting: dict[int, Future[Any]] = {n: restored.get_frame_async(n) for n in order}
    for n in order:
        np.testing.assert_array_equal(picture_of(waiting[n].result(60)), restorer(frames[n], frames=[n]))


def test_properties_and_rate_stay(small_onnx: Path) -> None:
    restored = restore(clip_of(pictures("RGB24"), "RGB24"), small_onnx, steps=1)
    assert restored.fps == vs.core.std.BlankClip(fpsnum=24000, fpsden=1001).fps
    frame = restored.get_frame(3)
    assert frame.props["number"] == 3
    assert (frame.props["_DurationNum"], frame.props["_DurationDen"]) == (1001, 24000)


@pytest.mark.parametrize("kind", ["YUV420P8", "YUV444PS", "GRAY8", "RGB30"])
def test_other_formats_are_refused_with_the_conversion(kind: str, small_onnx: Path) -> None:
    clip = vs.core.std.BlankClip(format=getattr(vs, kind), width=16, height=16)
    with pytest.raises(InvalidValueError, match=f'(?i)not {kind}: convert it first.*format=vs.RGBS, matrix_in_s="709"'):
        restore(clip, small_onnx)
    converted = vs.core.resize.Bicubic(
        clip, format=vs.RGBS, **({} if kind == "RGB30" else {"matrix_in_s": "709"})
    )  # as the sentence says
    assert restore(converted, small_onnx).format.name == "RGBS"


@pytest.mark.parametrize("varying", [{"varsize": True}, {"varformat": True}])
def test_varying_clips_are_refused(varying: dict[str, bool], small_onnx: Path) -> None:
    clip = vs.core.std.BlankClip(format=vs.RGBS, **varying)
    with pytest.raises(InvalidValueError, match="must have one format and size"):
        restore(clip, small_onnx)


def test_a_frame_that_fails_is_vapoursynths_error_with_our_sentence_last(small_onnx: Path) -> None:
    frames = pictures("RGBS", 2)
    frames[1, 3, 3, 0] = np.nan
    restored = restore(clip_of(frames, "RGBS"), small_onnx)
    restored.get_frame(0)
    with pytest.raises(vs.Error) as failure:
        restored.get_frame(1)
    last = str(failure.value).strip().splitlines()[-1]
    assert last.endswith("InvalidValueError: the picture has NaN or infinite values: every value must be finite")
