"""Video files: times, colours, other streams; with an engine that changes nothing, and with a real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from videos import (  # noqa: E402
    SD,
    VARIABLE,
    YUV420,
    assert_same,
    colours_of,
    copy_packets,
    packets_of,
    planes_of,
    read_planes,
    restore,
    write_video,
)

from irsde_deploy import load  # noqa: E402
from irsde_deploy.errors import InputFileError, IrsdeError  # noqa: E402
from irsde_deploy.video.colour import Colour, Layout, to_planes, to_rgb  # noqa: E402
from irsde_deploy.video.encoding import choose_encoding  # noqa: E402
from irsde_deploy.video.muxing import decoding_times  # noqa: E402
from irsde_deploy.video.pieces import PieceEncoder  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402
from irsde_deploy.video.reading import read_frames  # noqa: E402
from irsde_deploy.video.source import Losses, Span  # noqa: E402


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_times_of_a_variable_frame_rate_are_exact(suffix: str, tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / f"in.{suffix}", frames, times=VARIABLE)
    target = tmp_path / f"out.{suffix}"
    restore(source, target, segment=0.2)
    before, after = read_planes(source), read_planes(target)
    assert [float(seconds) for seconds, _ in before] == [ms / 1000 for ms in VARIABLE], (
        "the source is what it should be"
    )
    assert [seconds for seconds, _ in after] == [seconds for seconds, _ in before]
    for (_, one), (_, other) in zip(before, after, strict=True):
        assert_same(one, other)


def test_a_video_clock_of_90_kilohertz_and_ntsc(tmp_path: Path) -> None:
    times = [3003 * k for k in range(9)]
    source = write_video(
        tmp_path / "in.mp4", planes_of(9, YUV420, SD), times=times, time_base=Fraction(1, 90000), options={"bf": "3"}
    )
    restore(source, tmp_path / "out.mp4", segment=0.15, lossless=False)
    assert [seconds for seconds, _ in read_planes(tmp_path / "out.mp4")] == [
        Fraction(1001 * k, 30000) for k in range(9)
    ]


def test_decoding_times() -> None:
    assert decoding_times([0, 3, 1, 2, 6, 4, 5]) == [-1, 0, 1, 2, 3, 4, 5]
    assert decoding_times([0, 4, 2, 1, 3, 8, 6, 5, 7]) == [-2, -1, 0, 1, 2, 3, 4, 5, 6]
    assert decoding_times([0, 10, 25]) == [0, 10, 25]
    rng = np.random.default_rng(0)
    for _ in range(50):  # any order at all gives times that rise and never come after the picture is due
        pts = rng.permutation(np.cumsum(rng.integers(1, 100, 20))).tolist()
        dts = decoding_times(pts)
        assert all(b > a for a, b in pairwise(dts))
        assert all(d <= p for d, p in zip(dts, pts, strict=True))


@pytest.mark.parametrize(("suffix", "audio", "subtitles"), [("mp4", "aac", "mov_text"), ("mkv", "flac", "subrip")])
def test_other_streams_are_copied(suffix: str, audio: str, subtitles: str, tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / f"in.{suffix}", frames, times=VARIABLE, audio=audio, subtitles=subtitles)
    target = tmp_path / f"out.{suffix}"
    assert restore(source, target).notes == []
    for kind in ("audio", "subtitle"):
        assert packets_of(target, kind) == packets_of(source, kind)
        assert len(packets_of(source, kind)) >= 4


def test_streams_that_the_container_cannot_hold_are_named(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(3, YUV420, SD), audio="aac", subtitles="subrip")
    notes = restore(source, tmp_path / "out.mp4").notes
    assert notes == ["stream 2 (subtitle, subrip) cannot be held by .mp4 and is left out"]
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(source, "audio")


@pytest.mark.skipif(not hasattr(av.container.OutputContainer, "add_attachment"), reason="PyAV writes no attachments")
def test_chapters_metadata_and_attachments(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mkv", planes_of(5, YUV420, SD), audio="flac")
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as given, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        out.metadata["title"] = "Rain"
        streams[1].metadata["language"] = "fin"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"not a font")
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        copy_packets(given, out, streams)
    restore(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as result:
        assert result.metadata["title"] == "Rain"
        assert result.streams.audio[0].metadata["language"] == "fin"
        assert [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in result.chapters()] == [(0, "one")]
        assert [bytes(stream.data) for stream in result.streams if stream.type == "attachment"] == [b"not a font"]


COLOURS = [
    ("yuv420p", "libx264", (1, 1, 1, 1), "bt709", False),
    ("yuv420p", "libx264", (1, 5, 6, 5), "bt601", False),
    ("yuv444p", "libx264", (2, 1, 13, 1), "bt709", True),
    ("yuv420p", "libx264", (2, 6, 6, 6), "bt601", True),
    ("yuv422p10le", "ffv1", (1, 9, 16, 9), "bt2020", False),
    ("yuv420p10le", "ffv1", (1, 9, 14, 9), "bt2020", False),
    ("yuv444p10le", "ffv1", (1, 1, 1, 1), "bt709", False),
    ("gbrp10le", "ffv1", (2, 1, 13, 0), "bt709", True),
    ("gray", "ffv1", (2, 1, 1, 1), "bt709", True),
]


@pytest.mark.parametrize(("pixel_format", "codec", "tags", "matrix", "full"), COLOURS)
def test_colours_are_kept_to_the_bit_and_said(
    pixel_format: str, codec: str, tags: tuple[int, int, int, int], matrix: str, full: bool, tmp_path: Path
) -> None:
    layout = Layout.of(pixel_format)
    assert layout is not None
    frames = planes_of(3, layout, Colour(matrix, full))
    source = write_video(tmp_path / "in.mkv", frames, pixel_format, codec, tags=tags)
    found = probe(source)
    assert (found.layout, found.colour.full) == (layout, full)
    assert layout.kind != "yuv" or found.colour.matrix == matrix
    restore(source, tmp_path / "out.mkv", codec=None if codec == "libx264" else codec)
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mkv"), strict=True):
        assert_same(ours, theirs)
    assert colours_of(tmp_path / "out.mkv") == colours_of(source)
    assert colours_of(source)[:4] == tags


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_ten_bits_of_hdr_stay_that_with_the_default_encoder(suffix: str, tmp_path: Path) -> None:
    """PQ in BT.2020 by libx264, which has no lossless mode by crf at 10 bits: within 4 of 1023 at crf 0 twice."""
    frames, tags = planes_of(3, Layout("yuv", 10, 1, 1), Colour("bt2020")), (1, 9, 16, 9)
    source = write_video(tmp_path / f"in.{suffix}", frames, "yuv420p10le", options={"qp": "0"}, tags=tags)
    assert [note[:9] for note in probe(source).notes] == ["it is HDR"]
    restore(source, tmp_path / f"out.{suffix}")
    assert colours_of(tmp_path / f"out.{suffix}") == (*tags, "yuv420p10le")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / f"out.{suffix}"), strict=True):
        assert np.abs(ours[0].astype(int) - theirs[0]).mean() < 2
        assert_same(ours, theirs, 12)


def test_rgb_becomes_what_the_encoder_takes_and_says_so(tmp_path: Path) -> None:
    frames = planes_of(2, Layout("rgb", 10), Colour())
    source = write_video(tmp_path / "in.mkv", frames, "gbrp10le", "ffv1")
    encoding = choose_encoding(probe(source), tmp_path / "out.mp4")
    assert encoding.notes == ("libx264 does not take gbrp10le: encoded as yuv444p10le",)
    restore(source, tmp_path / "out.mkv", codec="ffv1", pixel_format="yuv444p10le")
    assert colours_of(tmp_path / "out.mkv")[0::3] == (1, 1)  # limited range, BT.709
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mkv"), strict=True):
        assert_same(to_planes(to_rgb(ours, Layout("rgb", 10), Colour()), Layout("yuv", 10), Colour("bt709")), theirs)


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="PyAV writes no rotation")
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_come_out_upright(rotation: int, tmp_path: Path) -> None:
    layout = Layout("yuv")
    frames = planes_of(3, layout, SD)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p", rotation=rotation)
    with av.open(str(source)) as container:
        counterclockwise = next(container.decode(video=0)).rotation
    assert abs(counterclockwise) == abs(rotation)
    restore(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        assert_same(tuple(np.rot90(plane, counterclockwise // 90) for plane in ours), theirs)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_aspect_of_a_pixel_is_kept(suffix: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / f"in.{suffix}", planes_of(2, YUV420, SD), aspect=Fraction(64, 45))
    restore(source, tmp_path / f"out.{suffix}")
    assert [probe(tmp_path / f"{name}.{suffix}").aspect for name in ("in", "out")] == 2 * [Fraction(64, 45)]
    sideways = replace(probe(source), turn=(0, 1, -1, 0))
    encoder = PieceEncoder(tmp_path / "piece.mp4", "mp4", choose_encoding(sideways, tmp_path / "t.mp4"), sideways)
    for frame in read_frames(sideways, Span(), Losses()):
        encoder.add(frame, sideways.to_rgb(frame))
    encoder.finish()
    assert probe(tmp_path / "piece.mp4").aspect == Fraction(45, 64)
    assert probe(tmp_path / "piece.mp4").shown_size == (64, 48)


def test_batches_change_nothing_but_the_last_rounding(unet_onnx: Path, tmp_path: Path) -> None:
    restorer = load(unet_onnx)

    def real(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        assert len(pictures) == len(numbers)
        return restorer(pictures, sampler="mean", steps=2, frames=numbers)

    source = write_video(tmp_path / "in.mp4", planes_of(5, YUV420, SD, 16, 32))
    restore(source, tmp_path / "one.mp4", real)
    restore(source, tmp_path / "two.mp4", real, batch=2)
    one, two = read_planes(tmp_path / "one.mp4"), read_planes(tmp_path / "two.mp4")
    for (a, ours), (b, theirs) in zip(one, two, strict=True):
        assert a == b
        assert_same(ours, theirs, tolerance=1)


def test_a_part_begins_at_zero_with_its_sound(tmp_path: Path) -> None:
    frames = planes_of(len(VARIABLE), YUV420, SD)
    source = write_video(tmp_path / "in.mkv", frames, times=VARIABLE, audio="flac")
    restore(source, tmp_path / "out.mkv", span=Span(Fraction("0.1"), Fraction(1)))
    expected = [k for k, ms in enumerate(VARIABLE) if 100 <= ms < 1000]
    begin = Fraction(VARIABLE[expected[0]], 1000)
    result = read_planes(tmp_path / "out.mkv")
    assert [seconds for seconds, _ in result] == [Fraction(VARIABLE[k], 1000) - begin for k in expected]
    for k, (_, theirs) in zip(expected, result, strict=True):
        assert_same(frames[k], theirs)
    sound = [(t - begin, data) for t, data in packets_of(source, "audio") if begin <= t < 1]
    assert packets_of(tmp_path / "out.mkv", "audio") == sound


@pytest.mark.parametrize("after", [0, 3, 9, 14, 29])
def test_reading_on_after_a_frame_gives_the_rest(after: int, tmp_path: Path) -> None:
    times = [400 * k for k in range(30)]  # 12 seconds, so that there is something to seek in
    options = {"crf": "0", "g": "7", "bf": "3"}
    source = probe(write_video(tmp_path / "in.mp4", planes_of(30, YUV420, SD), times=times, options=options))
    everything = list(read_frames(source, Span(), Losses()))
    rest = list(read_frames(source, Span(), Losses(), everything[after].pts, after + 1))
    assert [frame.number for frame in rest] == list(range(after + 1, 30))
    for one, other in zip(rest, everything[after + 1 :], strict=True):
        assert one.pts == other.pts
        assert_same(one.planes, other.planes)


def test_odd_sizes(tmp_path: Path) -> None:
    frames = planes_of(2, Layout("yuv"), SD, 33, 47)
    source = write_video(tmp_path / "in.mp4", frames, "yuv444p")
    restore(source, tmp_path / "out.mp4")
    for ours, (_, theirs) in zip(frames, read_planes(tmp_path / "out.mp4"), strict=True):
        assert_same(ours, theirs)
    with pytest.raises(IrsdeError, match="47x33 as yuv420p, which needs even sides: give `pix_fmt` yuv444p"):
        restore(source, tmp_path / "small.mp4", pixel_format="yuv420p")


def test_too_large_a_frame_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "in.mp4", planes_of(1, YUV420, SD))
    monkeypatch.setattr("irsde_deploy.video.probing.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(InputFileError, match="64x48 pixels are more than the limit"):
        probe(source)


def test_a_changed_matrix_changes_what_the_network_sees(tmp_path: Path) -> None:
    """--matrix is for files that do not say; what they say counts."""
    frames = planes_of(1, YUV420, SD)
    silent = write_video(tmp_path / "silent.mp4", frames)
    assert probe(silent).colour == Colour("bt601")
    assert probe(silent, "bt709").colour == Colour("bt709")
    assert probe(write_video(tmp_path / "says.mp4", frames, tags=(1, 1, 1, 1)), "bt601").colour == Colour("bt709")
    found = probe(silent)
    frame = next(read_frames(found, Span(), Losses()))
    difference = found.to_rgb(frame) - replace(found, colour=Colour("bt709")).to_rgb(frame)
    assert np.abs(difference).max() > 0.02


def test_a_stream_that_says_an_unknown_matrix_is_refused_whatever_is_asked_for(tmp_path: Path) -> None:
    source = write_video(tmp_path / "ycgco.mkv", planes_of(1, YUV420, SD), codec="ffv1", tags=(1, 1, 1, 8))
    assert colours_of(source)[3] == 8
    for matrix in (None, "bt709"):
        with pytest.raises(InputFileError, match=r"number 8 of ISO/IEC 23091-2"):
            probe(source, matrix)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("count", [4, 40])
def test_no_frame_of_an_avi_with_b_frames_is_lost(codec: str, count: int, tmp_path: Path) -> None:
    """AVI stores no presentation times; those that FFmpeg makes up do not rise, and decoding times end before it."""
    frames = planes_of(count, YUV420, SD)
    options = {"bf": "2"} | ({"crf": "2", "b_strategy": "0"} if codec == "libx264" else {"qmin": "1", "qmax": "1"})
    path = write_video(
        tmp_path / "in.avi", frames, codec=codec, options=options, times=range(count), time_base=Fraction(1, 25)
    )
    source, losses = probe(path), Losses()
    read = list(read_frames(source, Span(), losses))
    first = read[0].pts
    assert [frame.pts * source.time_base for frame in read] == [Fraction(first + k, 25) for k in range(count)]
    assert losses == Losses()
    assert max(int(frame.pict_type == av.video.frame.PictureType.B) for frame in _decoded(path)) == 1
    for k in range(count):  # each is its own picture, and not a neighbour's
        errors = [np.abs(read[k].planes[0].astype(int) - y).mean() for y, _, _ in frames]
        assert int(np.argmin(errors)) == k
        assert errors[k] < 2
    for after in range(count):
        rest = list(read_frames(source, Span(), Losses(), read[after].pts, after + 1))
        assert [frame.pts for frame in rest] == [frame.pts for frame in read[after + 1 :]]
        for one, other in zip(rest, read[after + 1 :], strict=True):
            assert_same(one.planes, other.planes)


def _decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_frames_whose_clock_begins_anew_follow_those_before(tmp_path: Path) -> None:
    """Two recordings in one file: the second's frames come after the first's, one frame duration apart."""
    frames = planes_of(6, YUV420, SD)
    options = {"crf": "0", "g": "3"}
    one = write_video(tmp_path / "one.ts", frames, options=options).read_bytes()
    path = tmp_path / "in.ts"
    path.write_bytes(one + one)
    source, losses = probe(path), Losses()
    read = list(read_frames(source, Span(), losses))
    assert [(frame.pts - read[0].pts) * source.time_base for frame in read] == [Fraction(k, 25) for k in range(12)]
    assert losses == Losses(retimed=6)
    assert not source.seekable, "after a seek the times would be others"
    for ours, theirs in zip(frames + frames, read, strict=True):
        assert_same(ours, theirs.planes)


def test_a_second_video_is_copied_with_its_first_keyframe(tmp_path: Path) -> None:
    """With --start 0 its decoding times begin below 0, its presentation times at 0."""
    source = write_video(tmp_path / "in.mp4", planes_of(20, YUV420, SD), audio="aac")
    options = {"bf": "2", "b_strategy": "0"}
    small = write_video(tmp_path / "small.mp4", planes_of(20, YUV420, SD, 32, 32), options=options)
    both = tmp_path / "both.mp4"
    with av.open(str(source)) as one, av.open(str(small)) as two, av.open(str(both), "w") as out:
        streams = [out.add_stream_from_template(file.streams.video[0]) for file in (one, two)]
        packets = [(p, k) for k, file in enumerate((one, two)) for p in file.demux(video=0) if p.size]
        for packet, k in sorted(packets, key=lambda entry: entry[0].dts * entry[0].time_base):
            packet.stream = streams[k]
            out.mux(packet)
    assert probe(both).width == 64
    before = _packets(both, 1)
    assert before[0][:2] == (0, True)
    assert before[0][2] < 0
    restore(both, tmp_path / "out.mp4", cut=True)
    assert [entry[:2] for entry in _packets(tmp_path / "out.mp4", 1)] == [entry[:2] for entry in before]


def _packets(path: Path, stream: int) -> list[tuple[Fraction, bool, Fraction]]:
    """(presentation time, whether a keyframe, decoding time), in seconds."""
    with av.open(str(path)) as container:
        unit = container.streams[stream].time_base
        return [
            (p.pts * unit, p.is_keyframe, p.dts * unit) for p in container.demux(container.streams[stream]) if p.size
        ]
