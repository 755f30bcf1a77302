"""Interlaced frames stay marked as such, and rates that an encoder cannot write."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

av = pytest.importorskip("av")

from videos import SD, YUV420, assert_same, packets_of, planes_of, read_planes, restore, write_video  # noqa: E402

from irsde_deploy.video.encoding import choose_encoding  # noqa: E402
from irsde_deploy.video.interlacing import field_order  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402

PHONE = [0, 33, 67, 133, 140, 211, 249, 301]
"""Milliseconds whose average rate has no short fraction."""
INTERLACED = "it is interlaced, and its frames are restored as if they were not: deinterlace it first"


def orders_of(path: Path) -> list[str | None]:
    with av.open(str(path)) as container:
        return [field_order(frame, YUV420) for frame in container.decode(video=0)]


@pytest.mark.parametrize("fields", ["tff", "bff"])
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", None), ("mkv", "mpeg2video"), ("mkv", "ffv1")])
def test_frames_are_marked_as_in_the_source(suffix: str, codec: str | None, fields: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(4, YUV420, SD), fields=fields)
    assert orders_of(source) == [fields] * 4
    target = tmp_path / f"out.{suffix}"
    assert restore(source, target, codec=codec).notes == []
    assert orders_of(target) == [fields] * 4
    assert probe(source).notes == (INTERLACED,)
    if codec != "mpeg2video":
        for (_, one), (_, other) in zip(read_planes(source), read_planes(target), strict=True):
            assert_same(one, other)


def test_an_encoder_that_cannot_mark_them_is_named(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(4, YUV420, SD), fields="tff")
    assert restore(source, tmp_path / "out.mp4", codec="libx265").notes == [
        "libx265 does not mark frames as interlaced: players take them for whole ones"
    ]
    assert orders_of(tmp_path / "out.mp4") == [None] * 4


def test_frames_that_are_not_interlaced_are_not_marked(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(3, YUV420, SD))
    assert probe(source).fields is None
    encoding = choose_encoding(probe(source), tmp_path / "out.mp4")
    assert (encoding.fields, encoding.options) == (None, (("crf", "18"),))


@pytest.mark.parametrize(("codec", "suffix"), [("mpeg4", "mp4"), ("mpeg4", "mov"), ("mpeg2video", "mkv")])
def test_a_rate_that_an_encoder_cannot_write_is_the_nearest(codec: str, suffix: str, tmp_path: Path) -> None:
    times = [90 * ms + k for k, ms in enumerate(PHONE)]
    source = write_video(tmp_path / "in.mp4", planes_of(8, YUV420, SD), times=times, time_base=Fraction(1, 90000))
    found, target = probe(source), tmp_path / f"out.{suffix}"
    encoding = choose_encoding(found, target, codec)
    assert encoding.rate != found.rate
    assert abs(encoding.rate / found.rate - 1) < 0.05
    assert encoding.notes == (
        f"{codec} cannot write {found.rate} frames a second in its own stream, and writes {encoding.rate}: the "
        "frames' own times, which players go by, are kept",
    )
    restore(source, target, codec=codec)
    kept = [Fraction(time, 90000) for time in times]
    if suffix == "mkv":
        kept = [Fraction(round(1000 * seconds), 1000) for seconds in kept]
    assert [seconds for seconds, _ in packets_of(target, "video")] == kept
