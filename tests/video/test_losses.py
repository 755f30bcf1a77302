"""Videos that are not what they should be: cut short, of two sizes, with times below 0."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from commands import irsde  # noqa: E402
from videos import (  # noqa: E402
    SD,
    VARIABLE,
    YUV420,
    assert_same,
    copy_packets,
    packets_of,
    planes_of,
    read_planes,
    restore,
    write_video,
)

from irsde_deploy.errors import InputFileError  # noqa: E402
from irsde_deploy.video import reading  # noqa: E402
from irsde_deploy.video.containers import packets_in  # noqa: E402
from irsde_deploy.video.probing import probe  # noqa: E402
from irsde_deploy.video.reading import read_frames  # noqa: E402
from irsde_deploy.video.source import Losses, Span  # noqa: E402
from irsde_deploy.video.truncation import shortfall  # noqa: E402


def _remuxed(source: Path, target: Path, **options: str) -> Path:
    with av.open(str(source)) as given, av.open(str(target), "w", container_options=options) as out:
        streams = [out.add_stream_from_template(stream) for stream in given.streams]
        copy_packets(given, out, streams)
    return target


def _shift(packet: Any, ticks: int) -> None:
    packet.pts += ticks
    packet.dts += ticks


def _cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def _run(engine: Path, source: Path, target: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return irsde("run", "--engine", engine, source, "-o", target, "--steps", 1, "--sampler", "mean", *more)


def _of_png(path: Path, damaged: int) -> np.ndarray:
    """30 frames of noise, ten a second, of which one is damaged; gives them all."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 16, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        for picture in noise:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(damaged + 1):
        at = content.index(b"IDAT", at + 1)
    content[at + 4 : at + 40] = bytes(36)
    path.write_bytes(content)
    return noise


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_that_was_cut_short_is_told(suffix: str, small_onnx: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / f"whole.{suffix}", planes_of(40, YUV420, SD, 16, 32))
    source = _cut(_remuxed(whole, tmp_path / f"in.{suffix}", movflags="+faststart"), 0.75)
    decoded = len(list(read_frames(probe(source), Span(), Losses())))
    assert 3 < decoded < 38
    result = _run(small_onnx, source, tmp_path / f"out.{suffix}")
    assert result.returncode == 4, result.stderr
    assert "in." + suffix + ": was cut short: " in result.stderr
    assert "frames or sound are missing in the output" in result.stderr
    assert len(read_planes(tmp_path / f"out.{suffix}")) == decoded
    part = _run(small_onnx, source, tmp_path / f"part.{suffix}", "--end", 0.08)  # in which nothing is missing
    assert (part.returncode, part.stderr) == (0, "")


def test_a_cut_fragment_is_found(tmp_path: Path) -> None:
    """Fragmented MP4 has no index of the whole: the fragment that the file ends in says how long it is."""
    options = {"crf": "0", "g": "8"}
    whole = write_video(tmp_path / "whole.mkv", planes_of(40, YUV420, SD), options=options, audio="aac")
    source = _remuxed(whole, tmp_path / "in.mp4", movflags="frag_keyframe+empty_moov")
    assert shortfall(probe(source)) is None
    content = source.read_bytes()
    end = content.index(b"moof", 2 * len(content) // 3) - 4  # of a fragment
    source.write_bytes(content[: end - 11])
    assert shortfall(probe(source)) in (
        "the last 11 bytes of the part that it ends with are not there",
        f"{len(read_planes(source)) - 1} of the {len(read_planes(source))} frames that its index names are there",
    )
    source.write_bytes(content[:end])
    assert shortfall(probe(source)) is None


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "ts", "flv", "nut"])
@pytest.mark.parametrize("start", [0, 720])
def test_whole_files_are_not_taken_for_cut_ones(suffix: str, start: int, tmp_path: Path) -> None:
    """Sound that is longer, a variable frame rate, a beginning that is not 0, an edit list for B-frames."""
    times = [start + (40 * k if suffix in ("avi", "flv") else ms) for k, ms in enumerate(VARIABLE)]
    codec, audio = ("libvpx-vp9", "libopus") if suffix == "webm" else ("libx264", "" if suffix == "nut" else "aac")
    options = {"lossless": "1"} if suffix == "webm" else {"crf": "0", "bf": "2"}
    unit = Fraction(1, 25) if suffix == "avi" else Fraction(1, 1000)
    times = [round(ms / 1000 / unit) for ms in times]
    source = write_video(
        tmp_path / f"in.{suffix}", planes_of(12, YUV420, SD), "yuv420p", codec, options, times, unit, audio=audio
    )
    assert shortfall(probe(source)) is None
    assert restore(source, tmp_path / "out.mkv").losses.missing is None


def _of_two_sizes(path: Path) -> Path:
    """12 frames of 64x48, then 12 of 96x64, from 1.6 s."""
    options = {"crf": "0", "g": "4", "bf": "0"}
    parts = [
        write_video(path.with_name(f"{name}.ts"), planes_of(12, YUV420, SD, *size), options=options)
        for name, size in (("one", (48, 64)), ("two", (64, 96)))
    ]
    with av.open(str(path), "w") as out:
        stream = None
        for k, part in enumerate(parts):
            with av.open(str(part)) as given:
                stream = stream or out.add_stream_from_template(given.streams.video[0])
                copy_packets(given, out, {0: stream}, partial(_shift, ticks=144000 + 43200 * k))  # of 1/90000 s
    return path


def test_parts_of_other_sizes_are_restored_one_by_one(small_onnx: Path, tmp_path: Path) -> None:
    source = _of_two_sizes(tmp_path / "in.ts")
    assert probe(source).begin == Fraction("1.6")
    whole = _run(small_onnx, source, tmp_path / "out.mkv")
    assert whole.returncode == 1
    assert "at 0.480 s the frames change from 64x48 to 96x64" in whole.stderr
    for k, (option, size) in enumerate((("--end", (48, 64)), ("--start", (64, 96)))):
        part = _run(small_onnx, source, tmp_path / f"{k}.mkv", option, "0.480")
        assert (part.returncode, part.stderr) == (0, "")
        result = read_planes(tmp_path / f"{k}.mkv")
        assert len(result) == 12
        assert result[0][1][0].shape == size
    assert probe(source, start=Fraction("0.48")).width == 96
    frames = list(read_frames(probe(source, start=Fraction("0.48")), Span(Fraction("0.48")), Losses()))
    for ours, theirs in zip(planes_of(12, YUV420, SD, 64, 96), frames, strict=True):
        assert_same(ours, theirs.planes)
    with pytest.raises(InputFileError, match="at 0.480 s"):
        list(read_frames(probe(source), Span(), Losses()))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_frames_before_0_are_kept_and_everything_is_shifted(suffix: str, tmp_path: Path) -> None:
    """FFmpeg reads no times from Matroska's first cluster that are below 0."""
    frames = planes_of(10, YUV420, SD)
    plain = write_video(tmp_path / "plain.mkv", frames, audio="flac")
    source = tmp_path / "in.mkv"
    with (
        av.open(str(plain)) as given,
        av.open(str(source), "w", container_options={"avoid_negative_ts": "disabled"}) as out,
    ):
        streams = [out.add_stream_from_template(stream) for stream in given.streams]
        copy_packets(given, out, streams, partial(_shift, ticks=-120))
    with av.open(str(source)) as container:
        assert [frame.pts for frame in container.decode(video=0)][:4] == [None, None, None, 0]
    target = tmp_path / f"out.{suffix}"
    losses = restore(source, target, segment=0.08).losses
    assert losses == Losses()
    result = read_planes(target)
    assert [seconds for seconds, _ in result] == [Fraction(k, 25) for k in range(10)]
    for ours, (_, theirs) in zip(frames, result, strict=True):
        assert_same(ours, theirs)
    assert [float(t) for t, _ in packets_of(target, "audio")] == pytest.approx(
        [float(t) for t, _ in packets_of(plain, "audio")], abs=5e-4
    )


def test_one_packet_that_is_missing_at_the_end_is_told(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", planes_of(10, YUV420, SD, 16, 32), options={"bf": "0"})
    source = _remuxed(whole, tmp_path / "in.mp4", movflags="+faststart")
    source.write_bytes(source.read_bytes()[:-1])
    assert shortfall(probe(source)) == "9 of the 10 frames that its index names are there"


def test_media_data_whose_length_has_64_bits_are_measured(tmp_path: Path) -> None:
    """As those of more than 4 GB; it is the sound that is cut short, and the picture that is counted."""
    whole = write_video(tmp_path / "whole.mp4", planes_of(10, YUV420, SD, 16, 32), options={"bf": "0"}, audio="aac")
    with (
        av.open(str(whole)) as given,
        av.open(str(tmp_path / "in.mp4"), "w", container_options={"movflags": "+faststart"}) as out,
    ):
        streams = [out.add_stream_from_template(stream) for stream in given.streams]
        for packet in given.demux():
            if packet.size and (packet.stream_index == 1 or packet.pts * packet.time_base < Fraction(1, 4)):
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    source = tmp_path / "in.mp4"
    content = bytearray(source.read_bytes())
    at = content.index(b"mdat") - 4
    assert content[at - 8 : at] == b"\0\0\0\x08free"
    length = int.from_bytes(content[at : at + 4], "big")
    content[at - 8 : at + 8] = b"\0\0\0\1mdat" + (length + 8).to_bytes(8, "big")
    source.write_bytes(content)
    assert shortfall(probe(source)) is None
    source.write_bytes(content[:-5])
    assert shortfall(probe(source)) == "the last 5 bytes of the part that it ends with are not there"


def test_a_long_video_may_lack_a_share_of_its_seconds_and_no_more(tmp_path: Path) -> None:
    """Matroska names the duration alone: 5 % of it are not told."""
    for last, missing in ((96_000, False), (94_000, True)):
        source = write_video(tmp_path / f"{last}.mkv", planes_of(3, YUV420, SD), codec="ffv1", times=[0, last, 100_000])
        content, packet = source.read_bytes(), packets_of(source, "video")[-1][1]
        source.write_bytes(content[: content.rindex(packet)])
        assert (shortfall(probe(source)) is not None) == missing


def test_a_part_begins_at_its_frame_though_a_seek_ends_after_it(tmp_path: Path) -> None:
    """A keyframe every 6 s, in a container without an index."""
    source = write_video(
        tmp_path / "in.ts", planes_of(30, YUV420, SD, 16, 32), times=[400 * k for k in range(30)],
        options={"crf": "0", "g": "15", "bf": "0"},
    )  # fmt: skip
    span, losses = Span(Fraction(5), Fraction(8)), Losses()
    found = probe(source)
    frames = list(read_frames(found, span, losses))
    assert [(frame.pts * found.time_base - found.begin) / Fraction(2, 5) for frame in frames] == list(range(13, 20))
    assert losses == Losses()


def test_frames_of_one_time_are_told_apart(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", planes_of(6, YUV420, SD), codec="ffv1")
    source = tmp_path / "in.mkv"
    with av.open(str(whole)) as given, av.open(str(source), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.pts = packet.dts = packet.pts - 40 * (packet.pts == 120)
                out.mux(packet)
    losses = Losses()
    times = [frame.pts for frame in read_frames(probe(source), Span(), losses)]
    assert times == [0, 40, 80, 120, 160, 200]
    assert losses.retimed == 1


def test_a_stream_that_appears_in_the_middle_is_no_end_of_the_world() -> None:
    """PyAV's demux raises IndexError at the end of a file in which one has."""

    class Container:
        """Two packets, and that error."""

        def demux(self, _: object) -> Iterator[str]:
            yield from ("one", "two")
            raise IndexError("list index out of range")

    assert list(packets_in(Container(), None)) == ["one", "two"]


def test_one_frame_of_days_has_a_usual_rate(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", planes_of(2, YUV420, SD), times=[0, 400_000_000])
    assert probe(source).rate == 25
    restore(source, tmp_path / "out.mkv")
    assert [seconds for seconds, _ in read_planes(tmp_path / "out.mkv")] == [0, 400_000]


def test_a_damaged_packet_is_left_out_whatever_its_decoder_says_of_it(tmp_path: Path) -> None:
    """PNG's calls it a failure of zlib, and ProRes' a thing that nobody may do: neither ends the video."""
    source = tmp_path / "in.mov"
    noise = _of_png(source, 3)
    losses = Losses()
    frames = list(read_frames(probe(source), Span(), losses))
    assert len(frames) == 29
    np.testing.assert_array_equal(np.stack(frames[3].planes, axis=-1), noise[4])
    assert losses.damaged == 1
    assert losses.at_end
    later = Losses()  # read from 2 s before it on; a decoder of several threads tells of damage some packets late
    assert len(list(read_frames(probe(source), Span(Fraction("2.2")), later))) == 8
    assert later.damaged == 0, "what lies before the part"


def test_damage_that_two_attempts_meet_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a faulty index, a seek ends after the time that was asked for, and reading begins again at the beginning."""
    source = tmp_path / "in.mov"
    _of_png(source, 25)

    def too_late(container: Any, stream: Any, time: Fraction) -> bool:
        container.seek(int(Fraction("2.5") / stream.time_base), stream=stream)
        return True

    monkeypatch.setattr(reading, "_sought", too_late)
    losses = Losses()
    assert len(list(read_frames(probe(source), Span(Fraction("2.2")), losses))) == 7
    assert losses.damaged == 1


def test_the_last_frame_lasts_as_long_as_the_others_where_the_source_does_not_say(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.ts", planes_of(8, YUV420, SD, 16, 32), options={"crf": "0", "bf": "0"})
    assert {frame.duration for frame in read_frames(probe(source), Span(), Losses())} == {0}
    restore(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as result:
        picture = result.streams.video[0]
        assert picture.duration * picture.time_base == Fraction(8, 25)
