"""A run is continued with the same input, engine and settings alone: each of them that differs is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")

from videos import SD, YUV420, Identity, planes_of, restore, stopping_at, write_video

from irsde_deploy import Restorer, load
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.errors import InputFileError
from irsde_deploy.video import VideoProgress, VideoSettings, restore_video
from irsde_deploy.video.fingerprints import engine_identity, file_identity

RUN = {"segment": 0.08, "pix_fmt": "yuv444p"}
ONE_STEP = {"sampler": "mean", "steps": 1}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", planes_of(6, YUV420, SD, 16, 32))


@pytest.fixture
def target(source: Path, tmp_path: Path) -> Path:
    """An output that is not there yet, whose run was interrupted after two segments."""

    def interrupt(state: VideoProgress) -> None:
        if state.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(
            Restorer(Identity()), source, tmp_path / "out.mp4", sampling=Sampling(**ONE_STEP, tile="auto"),
            settings=VideoSettings(**RUN), on_progress=interrupt,
        )  # fmt: skip
    return tmp_path / "out.mp4"


@pytest.mark.parametrize(
    ("settings", "sampling", "named"),
    [
        ({"start": 0.04}, {}, "span"),
        ({"start": 0}, {}, "span"),
        ({"end": 0.2}, {}, "span"),
        ({"matrix": "bt709"}, {}, "matrix"),
        ({"crf": 5}, {}, "encoding"),
        ({"pix_fmt": "yuv420p"}, {}, "encoding"),
        ({"preset": "slow"}, {}, "encoding"),
        ({"segment": 0.12}, {}, "segment"),
        ({"noise": "per-frame"}, {}, "noise"),
        ({}, {"seed": 1}, "sampling"),
        ({}, {"clip": True}, "sampling"),
        ({}, {"tile": 16}, "sampling"),
        ({}, {"steps": 2}, "sampling"),
    ],
)
def test_other_settings_are_named(
    settings: dict[str, Any], sampling: dict[str, Any], named: str, source: Path, target: Path
) -> None:
    given = Sampling(**{**ONE_STEP, "tile": "auto", **sampling})
    with pytest.raises(InputFileError, match=rf"not as in the run that was interrupted: {named}: give the same"):
        restore_video(
            Restorer(Identity()), source, target, sampling=given, settings=VideoSettings(**RUN | settings, resume=True)
        )


def test_another_input_is_named_and_so_is_what_only_the_earlier_run_had(source: Path, target: Path) -> None:
    def resumed() -> int:
        given = Sampling(**ONE_STEP, tile="auto")
        return restore_video(
            Restorer(Identity()), source, target, sampling=given, settings=VideoSettings(**RUN, resume=True)
        ).resumed

    content = source.read_bytes()
    write_video(source, planes_of(6, YUV420, SD, 16, 32)[::-1])
    with pytest.raises(InputFileError, match="interrupted: input: give the same"):
        resumed()
    source.write_bytes(content)
    manifest = target.parent / ".out.mp4.irsde" / "manifest.json"
    right = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(right), "sharpness": 3}))
    with pytest.raises(InputFileError, match="interrupted: sharpness: give the same"):
        resumed()
    manifest.write_text(right)
    assert resumed() == 4


def test_the_end_of_a_large_input_counts_as_well(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    found = []
    for k, given in enumerate((content, content[:-1] + b"1", b"1" + content[1:], content + bytes(1))):
        (tmp_path / str(k)).write_bytes(given)
        found.append(file_identity(tmp_path / str(k)))
    assert [found.count(one) for one in found] == [1, 1, 1, 1]
    assert file_identity(tmp_path / "0") == found[0]


def test_a_fallback_is_part_of_what_computes(small_onnx: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy.onnx"
    other.write_bytes(small_onnx.read_bytes())
    alone, backed = engine_identity(load(small_onnx)), engine_identity(load(small_onnx, fallback=other))
    assert backed == alone * 2


@pytest.mark.parametrize("option", [{"resume": True}, {"overwrite": True}])
def test_an_output_in_capitals_leaves_nothing_behind(option: dict[str, bool], source: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        restore(source, tmp_path / "out.MP4", stopping_at(5), segment=0.1)
    assert restore(source, tmp_path / "out.MP4", segment=0.1, **option).resumed == (4 if "resume" in option else 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.MP4"]
