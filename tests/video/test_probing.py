"""What a file says of its frames, and frames that lie in memory in another way than ours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from videos import SD, YUV420, assert_same, planes_of, read_planes, restore, write_video  # noqa: E402

from irsde_deploy.errors import InputFileError  # noqa: E402
from irsde_deploy.video.colour import Colour, Layout, to_planes, to_rgb  # noqa: E402
from irsde_deploy.video.frames import planes_of as planes_of_frame  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402

ALPHA = "its alpha channel is not kept"
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("pixel_format", "layout", "notes"),
    [
        ("nv12", Layout("yuv", 8, 1, 1), ()),
        ("yuyv422", Layout("yuv", 8, 1, 0), ()),
        ("yuva420p", Layout("yuv", 8, 1, 1), (ALPHA,)),
        ("rgb565le", Layout("rgb", 8), ()),
        ("rgb48le", Layout("rgb", 16), ()),
        ("rgba", Layout("rgb", 8), (ALPHA,)),
        ("ya8", Layout("grey", 8), (ALPHA,)),
    ],
)
def test_packed_formats_have_the_layout_that_holds_them(
    pixel_format: str, layout: Layout, notes: tuple[str, ...], tmp_path: Path
) -> None:
    with av.open(str(tmp_path / "in.nut"), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pixel_format
        picture = av.VideoFrame.from_ndarray(RNG.integers(0, 256, (16, 32, 3), dtype=np.uint8), format="rgb24")
        for packet in (*stream.encode(picture.reformat(format=pixel_format)), *stream.encode(None)):
            out.mux(packet)
    found = probe(tmp_path / "in.nut")
    assert (found.layout, found.notes) == (layout, notes)


@pytest.mark.parametrize(("range_tag", "full"), [(0, True), (1, False), (2, True)])
def test_grey_is_of_full_range_unless_it_says_otherwise(range_tag: int, full: bool, tmp_path: Path) -> None:
    frames = planes_of(1, Layout("grey"), SD)
    source = write_video(tmp_path / "in.mkv", frames, "gray", "ffv1", tags=(range_tag, 2, 2, 2))
    assert probe(source).colour.full == full


def test_chroma_of_motion_jpeg_lies_between_the_luma_samples_and_is_of_full_range(tmp_path: Path) -> None:
    found = probe(write_video(tmp_path / "in.mkv", planes_of(2, YUV420, SD), "yuvj420p", "mjpeg"))
    assert found.colour == Colour("bt601", True, (False, False))
    assert probe(write_video(tmp_path / "in.mp4", planes_of(2, YUV420, SD))).colour.cosited == (True, False)


@pytest.mark.parametrize(("transfer", "is_hdr"), [(16, True), (18, True), (14, False)])
def test_hdr_is_told(transfer: int, is_hdr: bool, tmp_path: Path) -> None:
    frames = planes_of(1, YUV420, SD)
    notes = probe(write_video(tmp_path / "in.mkv", frames, codec="ffv1", tags=(1, 9, transfer, 9))).notes
    assert [note.startswith("it is HDR: ") for note in notes] == [True] * is_hdr


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_are_counted_by_the_header_or_by_the_duration(suffix: str, tmp_path: Path) -> None:
    assert probe(write_video(tmp_path / f"in.{suffix}", planes_of(8, YUV420, SD))).frames == 8


def test_a_list_of_other_files_is_no_video(tmp_path: Path) -> None:
    """Not even of local ones, which could be anybody's."""
    write_video(tmp_path / "in.mkv", planes_of(1, YUV420, SD))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile in.mkv\n")
    with av.open(str(tmp_path / "list.mp4")) as container:
        assert container.format.name == "concat", "FFmpeg would read it"
    with pytest.raises(InputFileError, match=r"list\.mp4: not a video file that FFmpeg can read"):
        probe(tmp_path / "list.mp4")


def test_too_large_a_frame_is_refused_by_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header may say less than there is."""
    source = write_video(tmp_path / "in.mp4", planes_of(1, YUV420, SD))
    monkeypatch.setattr("irsde_deploy.video.reading.MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(InputFileError, match="cannot be read on|can be decoded"):
        probe(source)


def test_frames_that_are_stored_from_below_are_upright() -> None:
    picture = RNG.integers(0, 256, (16, 32), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="gray")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()
    steps = graph.add_buffer(width=32, height=16, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(steps, graph.add("vflip"), graph.add("buffersink")).configure()
    graph.push(frame)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    assert_same(planes_of_frame(flipped, Layout("grey")), (picture[::-1],))


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="PyAV writes no rotation")
def test_chroma_of_a_video_on_its_head_is_its_own(tmp_path: Path) -> None:
    """Subsampled chroma of a frame that is turned is not what it was plus what has changed."""
    frames = [(y, RNG.integers(100, 150, u.shape, np.uint8), v) for y, u, v in planes_of(2, YUV420, SD)]
    source = write_video(tmp_path / "in.mp4", frames, rotation=180)
    restore(source, tmp_path / "out.mp4")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        assert_same(to_planes(to_rgb(ours, YUV420, SD)[::-1, ::-1], YUV420, SD), theirs, tolerance=1)


def test_codes_of_no_colour_are_kept_in_files(tmp_path: Path) -> None:
    layout = Layout("yuv")
    frames = [tuple(RNG.integers(0, 256, (16, 32), dtype=np.uint8) for _ in range(3)) for _ in range(2)]
    source = write_video(tmp_path / "in.mkv", frames, "yuv444p", "ffv1")
    assert np.abs(to_rgb(frames[0], layout, SD)).max() == 2, "clipped"
    restore(source, tmp_path / "out.mkv", codec="ffv1")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mkv"), strict=True):
        assert_same(ours, theirs)
