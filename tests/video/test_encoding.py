"""What restored frames are encoded as, where nobody says or only a part is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

av = pytest.importorskip("av")

from videos import SD, YUV420, planes_of, restore, write_video  # noqa: E402

from irsde_deploy.errors import InvalidValueError  # noqa: E402
from irsde_deploy.video.colour import Layout  # noqa: E402
from irsde_deploy.video.encoding import choose_encoding  # noqa: E402
from irsde_deploy.video.pieces import PieceEncoder  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402
from irsde_deploy.video.reading import read_frames  # noqa: E402
from irsde_deploy.video.source import Losses, Span, VideoSource  # noqa: E402


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> VideoSource:
    return probe(write_video(tmp_path_factory.mktemp("video") / "in.mp4", planes_of(2, YUV420, SD)))


@pytest.mark.parametrize(
    ("target", "codec", "chosen", "crf"),
    [
        ("o.mp4", None, "libx264", "18"),
        ("o.mov", "libx265", "libx265", "20"),
        ("o.webm", None, "libvpx-vp9", "24"),
        ("o.WEBM", None, "libvpx-vp9", "24"),
        ("o.mkv", "libsvtav1", "libsvtav1", "24"),
        ("o.mp4", "hevc", "libx265", "20"),
        ("o.mp4", "h264", "libx264", "18"),
    ],
)
def test_the_usual_encoder_and_quality(
    target: str, codec: str | None, chosen: str, crf: str, source: VideoSource, tmp_path: Path
) -> None:
    encoding = choose_encoding(source, tmp_path / target, codec)
    assert (encoding.codec, encoding.options) == (chosen, (("crf", crf),))


def test_what_is_said_reaches_the_encoder(source: VideoSource, tmp_path: Path) -> None:
    encoding = choose_encoding(source, tmp_path / "o.mp4", None, 0, "slow", "yuv444p")
    assert (encoding.options, encoding.pixel_format) == ((("crf", "0"), ("preset", "slow")), "yuv444p")


def test_no_chroma_is_made_up_that_need_not_be(source: VideoSource, tmp_path: Path) -> None:
    """ProRes has 4:2:2 and 4:4:4, of 10 bits and more."""
    assert choose_encoding(source, tmp_path / "o.mov", "prores_ks").pixel_format == "yuv422p10le"


def test_full_range_is_said_where_the_source_does_not_say_it(tmp_path: Path) -> None:
    grey = probe(write_video(tmp_path / "in.mkv", planes_of(1, Layout("grey"), SD), "gray", "ffv1"))
    assert (grey.tags.range, grey.colour.full) == (0, True)
    assert choose_encoding(grey, tmp_path / "o.mp4").tags.range == 2


def test_mp4_can_be_played_while_it_comes_and_hevc_in_it_by_apples_players(source: VideoSource, tmp_path: Path) -> None:
    for codec, tag in (("libx264", "avc1"), ("libx265", "hvc1")):
        target = tmp_path / f"{codec}.mp4"
        restore(source.path, target, codec=codec)
        content = target.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")
        with av.open(str(target)) as result:
            assert result.streams.video[0].codec_context.codec_tag == tag


def test_frames_too_narrow_for_x265_are_refused(tmp_path: Path) -> None:
    """It aborts the process with them, most times."""
    narrow, wide = (
        probe(write_video(tmp_path / f"{width}.mp4", planes_of(1, YUV420, SD, 96, width))) for width in (62, 64)
    )
    for codec in ("libx265", "hevc"):
        with pytest.raises(InvalidValueError, match=r"libx265 .* narrower than 64 pixels, .*62\.mp4 are 62 wide"):
            choose_encoding(narrow, tmp_path / "o.mp4", codec)
    assert choose_encoding(narrow, tmp_path / "o.mp4").codec == "libx264"
    assert choose_encoding(wide, tmp_path / "o.mp4", "libx265").codec == "libx265"
    sideways = replace(wide, turn=(0, 1, -1, 0))
    assert choose_encoding(sideways, tmp_path / "o.mp4", "libx265").codec == "libx265", "96 wide"


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_clips_shorter_than_x265s_reordering_have_decoding_times(frames: int, tmp_path: Path) -> None:
    """It leaves theirs to whatever is in memory, which no muxer takes."""
    source = probe(write_video(tmp_path / "in.mp4", planes_of(frames, YUV420, SD)))
    encoder = PieceEncoder(
        tmp_path / "piece.mp4", "mp4", choose_encoding(source, tmp_path / "o.mp4", "libx265"), source
    )
    for frame in read_frames(source, Span(), Losses()):
        encoder.add(frame, source.to_rgb(frame))
    assert len(encoder.finish()) == frames
    with av.open(str(tmp_path / "piece.mp4")) as piece:
        packets = [packet for packet in piece.demux(video=0) if packet.size]
    frame = round(1 / source.rate / packets[0].time_base)
    assert packets[0].pts - packets[0].dts == 16 * frame
    assert [packet.dts - packets[0].dts for packet in packets] == [number * frame for number in range(frames)]
