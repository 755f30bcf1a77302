"""What is beside the picture: kept where the container can hold it, else named, and never at the picture's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from videos import (  # noqa: E402
    SD,
    YUV420,
    copy_packets,
    identity,
    packets_of,
    planes_of,
    read_planes,
    restore,
    write_video,
)

from irsde_deploy.video import job, rehearsal  # noqa: E402
from irsde_deploy.video.copied import Retimed  # noqa: E402
from irsde_deploy.video.describing import kept_metadata  # noqa: E402
from irsde_deploy.video.job import JobState  # noqa: E402
from irsde_deploy.video.muxing import Beside  # noqa: E402
from irsde_deploy.video.source import Span  # noqa: E402

FRAMES = 8
KEYS = {"com.android.version": "14", "com.apple.quicktime.model": "Phone X", "title": "Rain"}


def copied(
    source: Path,
    target: Path,
    change: Callable[[Any], None] = lambda packet: None,
    options: dict[str, str] | None = None,
    **more: Any,
) -> Path:
    """A file's packets, changed in passing, in another; `more` are streams of other files to add."""
    with av.open(str(source)) as given, av.open(str(target), "w", container_options=options or {}) as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        for name, value in more.items():
            getattr(out, name)(value) if callable(getattr(out, name)) else getattr(out, name).update(value)
        copy_packets(given, out, streams, change)
    return target


def times_of(path: Path, kind: str) -> list[Fraction]:
    return [seconds for seconds, _ in packets_of(path, kind)]


@pytest.fixture
def with_sound(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mkv", planes_of(FRAMES, YUV420, SD), audio="aac")


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_times_of_sound_that_do_not_rise_are_raised(suffix: str, with_sound: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def twice_the_same(packet: Any) -> None:
        if packet.stream_index == 1:
            seen.append(packet.pts)
            if len(seen) == 6:
                packet.pts = packet.dts = seen[4]

    source = copied(with_sound, tmp_path / "doubled.mkv", twice_the_same)
    before, target = times_of(source, "audio"), tmp_path / f"out.{suffix}"
    assert before[5] == before[4]
    state = restore(source, target)
    assert state.notes == ["stream 1: 1 packet whose time does not rise follow the one before each"]
    after = times_of(target, "audio")
    assert len(after) == len(before)
    assert all(later > earlier for earlier, later in pairwise(after))
    assert max(abs(one - other) for one, other in zip(after, before, strict=True)) < Fraction(1, 100)
    assert [data for _, data in packets_of(target, "audio")] == [data for _, data in packets_of(source, "audio")]
    assert len(read_planes(target)) == FRAMES


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clock_that_starts_again_is_carried_on_in_all_streams(suffix: str, with_sound: Path, tmp_path: Path) -> None:
    once = copied(with_sound, tmp_path / "once.ts")
    source, target = tmp_path / "thrice.ts", tmp_path / f"out.{suffix}"
    source.write_bytes(3 * once.read_bytes())
    state = restore(source, target)
    assert state.notes[0] == "its clock starts again 2 times: what follows is carried on from there"
    assert len(read_planes(target)) == 3 * FRAMES
    picture, sound = (times_of(target, kind) for kind in ("video", "audio"))
    assert len(sound) == 3 * len(times_of(once, "audio"))
    # packets of sound do not end with the picture; what is between the two does not grow
    apart = [times_of(once, "audio")[0] - times_of(once, "video")[0], sound[0] - min(picture)]
    assert abs(apart[0] - apart[1]) < Fraction(1, 400)
    lead = len(sound) * 2 // 3
    assert abs((sound[lead] - sorted(picture)[2 * FRAMES]) - apart[1]) < Fraction(1, 20)
    assert all(0 <= later - earlier < Fraction(1, 10) for earlier, later in pairwise(sound))


def test_a_stream_that_passes_the_header_and_fails_later_is_left_out_before_the_work(tmp_path: Path) -> None:
    """MOV's muxer takes the header of this sound, and not its packets."""
    source = write_video(tmp_path / "in.avi", planes_of(FRAMES, YUV420, SD), audio="adpcm_ms")
    seen: list[list[str]] = []
    state = JobState()

    def watching(pictures: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        seen.append(list(state.notes))
        return identity(pictures, numbers)

    restore(source, tmp_path / "out.mov", watching, state=state)
    note = "stream 1 (audio, adpcm_ms) cannot be held by .mov and is left out"
    assert seen[0] == state.notes == [note]
    assert len(read_planes(tmp_path / "out.mov")) == FRAMES


def test_what_fails_at_the_end_in_spite_of_the_trial_costs_no_picture(
    with_sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that lets everything pass: a subtitle that MP4 does not hold is then left out at the end."""
    source = write_video(tmp_path / "sub.mkv", planes_of(FRAMES, YUV420, SD), audio="aac", subtitles="subrip")
    settle, calls = job.settle, []

    def blind(whole: Any) -> tuple[Beside, list[str]]:
        calls.append(whole)
        return (Beside((1, 2)), []) if len(calls) == 1 else settle(whole)

    monkeypatch.setattr(job, "settle", blind)
    state = restore(source, tmp_path / "out.mp4")
    assert state.notes == ["stream 2 (subtitle, subrip) cannot be held by .mp4 and is left out"]
    assert len(read_planes(tmp_path / "out.mp4")) == FRAMES
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(source, "audio")


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_sound_that_pyavs_template_refuses_is_kept(suffix: str, tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "in.asf", planes_of(FRAMES, YUV420, SD), codec="wmv2", options={"b": "800000"}, audio="wmav2"
    )
    target = tmp_path / f"out.{suffix}"
    assert restore(source, target).notes == []
    assert [data for _, data in packets_of(target, "audio")] == [data for _, data in packets_of(source, "audio")]
    with av.open(str(target)) as result:
        sound = result.streams.audio[0].codec_context
        assert (sound.name, sound.sample_rate) == ("wmav2", 48000)


def test_what_fits_alone_and_not_together_costs_those_that_are_missed_least(
    with_sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound goes before subtitles, wherever it stands in the file."""
    named = write_video(tmp_path / "named.mkv", planes_of(FRAMES, YUV420, SD), audio="aac", subtitles="subrip")
    source = tmp_path / "in.mkv"
    with av.open(str(named)) as given, av.open(str(source), "w") as out:
        order = (0, 2, 1)
        streams = {k: out.add_stream_from_template(given.streams[k], opaque=True) for k in order}
        copy_packets(given, out, streams)
    write = rehearsal.mux

    def one_alone(whole: Any, beside: Beside, output: Any) -> Retimed:
        if len(beside.streams) > 1:
            raise ValueError("one stream alone")
        return write(whole, beside, output)

    monkeypatch.setattr(rehearsal, "mux", one_alone)
    state = restore(source, tmp_path / "out.mkv")
    assert state.notes == ["stream 1 (subtitle, subrip) cannot be held by .mkv and is left out"]
    assert packets_of(tmp_path / "out.mkv", "audio") == packets_of(source, "audio")


def test_which_streams_are_the_default_and_which_for_whom_is_kept(with_sound: Path, tmp_path: Path) -> None:
    source = tmp_path / "marked.mkv"
    original, hearing_impaired = 1 << 2, 1 << 7
    with av.open(str(with_sound)) as given, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        streams[0].disposition, streams[1].disposition = original, hearing_impaired
        copy_packets(given, out, streams)
    restore(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as result:
        assert [stream.disposition.value for stream in result.streams] == [original, hearing_impaired]


def test_metadata_of_the_old_file_and_its_streams_go_and_others_stay() -> None:
    statistics = {"BPS-eng": "1", "NUMBER_OF_FRAMES": "3", "DURATION": "00:01", "_STATISTICS_TAGS": "BPS"}
    old = {"ENCODER": "Lavf", "encoder": "x264", "major_brand": "isom", "compatible_brands": "mp41"} | statistics
    assert kept_metadata(old | {"title": "Rain", "language": "fin"}) == {"title": "Rain", "language": "fin"}


def test_metadata_that_are_not_utf8_are_carried_over_with_a_mark(with_sound: Path, tmp_path: Path) -> None:
    source = copied(with_sound, tmp_path / "title.mkv", metadata={"title": "Caf?"})
    source.write_bytes(source.read_bytes().replace(b"Caf?", b"Caf\xe9"))
    restore(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as result:
        assert result.metadata["title"] == "Caf\ufffd"


def test_streams_that_lie_one_behind_the_other_in_the_file_are_cut_at_the_same_time(
    with_sound: Path, tmp_path: Path
) -> None:
    """All of one sound before all of the other, and a part that ends before both."""
    source = tmp_path / "apart.nut"
    with (
        av.open(str(with_sound)) as given,
        av.open(str(source), "w", container_options={"max_interleave_delta": "1"}) as out,
    ):
        picture, first = (out.add_stream_from_template(stream, opaque=True) for stream in given.streams)
        second = out.add_stream_from_template(given.streams.audio[0], opaque=True)
        for number, target in ((1, first), (0, picture), (1, second)):
            given.seek(0)
            copy_packets(given, out, {number: target})
    target = tmp_path / "out.mkv"
    restore(source, target, span=Span(Fraction(0), Fraction(1, 5)))
    with av.open(str(target)) as result:
        counts = [sum(packet.size > 0 for packet in result.demux(stream)) for stream in result.streams.audio[:1]]
    with av.open(str(target)) as result:
        counts += [sum(packet.size > 0 for packet in result.demux(result.streams.audio[1]))]
    assert counts[0] == counts[1] > 4


def test_a_timecode_is_written_anew(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mov", planes_of(FRAMES, YUV420, SD), timecode="01:02:03:04")
    for target in (tmp_path / "out.mov", tmp_path / "out.mp4"):
        assert restore(source, target).notes == []
        with av.open(str(target)) as result:
            assert [(s.type, s.metadata.get("timecode")) for s in result.streams] == [
                ("video", "01:02:03:04"),
                ("data", "01:02:03:04"),
            ]


def cover_bytes() -> bytes:
    """A picture in JPEG."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 32, 32, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((48, 32), 90, np.uint8), format="yuvj420p")
    return b"".join(map(bytes, [*context.encode(frame), *context.encode(None)]))


def covers_of(path: Path) -> Iterator[tuple[bytes, int]]:
    """(content, disposition) of the videos that are not the first."""
    with av.open(str(path)) as result:
        for stream in result.streams.video[1:]:
            yield next(bytes(packet) for packet in result.demux(stream) if packet.size), stream.disposition.value
            return


def test_a_cover_stays_a_cover_or_is_named(with_sound: Path, tmp_path: Path) -> None:
    content = cover_bytes()
    source = tmp_path / "cover.mkv"
    with av.open(str(with_sound)) as given, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        out.add_attachment("cover.jpg", "image/jpeg", content)
        copy_packets(given, out, streams)
    attached = 1 << 10
    for given_path, target in (("cover.mkv", "one.mkv"), ("cover.mkv", "two.mp4"), ("two.mp4", "three.mkv")):
        assert restore(tmp_path / given_path, tmp_path / target).notes == []
        assert list(covers_of(tmp_path / target)) == [(content, attached)]
        assert len(read_planes(tmp_path / target)) == FRAMES
    with av.open(str(tmp_path / "three.mkv")) as result:
        metadata = result.streams.video[1].metadata
        assert (metadata["filename"], metadata["mimetype"]) == ("cover.jpg", "image/jpeg")
    assert restore(source, tmp_path / "out.mov").notes == [
        "stream 2 (cover, mjpeg) cannot be held by .mov and is left out"
    ]
    assert list(covers_of(tmp_path / "out.mov")) == []


def test_keys_of_phones_are_kept_and_what_has_no_place_is_named(with_sound: Path, tmp_path: Path) -> None:
    source = copied(
        with_sound, tmp_path / "in.mp4", options={"movflags": "use_metadata_tags"}, metadata=KEYS | {"director": "D"}
    )
    assert restore(source, tmp_path / "out.mp4").notes == []
    with av.open(str(tmp_path / "out.mp4")) as result:
        assert KEYS.items() <= result.metadata.items()
        assert result.metadata["director"] == "D"
    plain = copied(with_sound, tmp_path / "plain.mkv", metadata={"TITLE": "Rain", "DIRECTOR": "D"})
    assert restore(plain, tmp_path / "plain.mp4").notes == [
        "metadata that the container has no field for is left out (DIRECTOR): .mkv holds any"
    ]
    with av.open(str(tmp_path / "plain.mp4")) as result:
        assert result.metadata["title"] == "Rain"


def test_mp4s_track_of_chapter_titles_is_no_stream_that_is_lost(with_sound: Path, tmp_path: Path) -> None:
    unit = Fraction(1, 1000)
    chapters = [
        {"id": 1, "start": 0, "end": 100, "time_base": unit, "metadata": {"title": "one"}},
        {"id": 2, "start": 100, "end": 300, "time_base": unit, "metadata": {"title": "two"}},
    ]
    source = copied(with_sound, tmp_path / "in.mp4", set_chapters=chapters)
    with av.open(str(source)) as given:
        assert [stream.type for stream in given.streams] == ["video", "audio", "data"]
    assert restore(source, tmp_path / "out.mp4").notes == []
    with av.open(str(tmp_path / "out.mp4")) as result:
        titles = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in result.chapters()]
    assert titles == [(0, "one"), (Fraction(1, 10), "two")]


def test_an_attachment_that_webm_would_drop_unsaid_is_named(with_sound: Path, tmp_path: Path) -> None:
    source = tmp_path / "font.mkv"
    with av.open(str(with_sound)) as given, av.open(str(source), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0], opaque=True)
        out.add_attachment("font.ttf", "application/x-truetype-font", b"not a font")
        copy_packets(given, out, {0: stream})
    assert restore(source, tmp_path / "out.webm", codec="libvpx-vp9").notes == [
        "stream 1 (attachment, unknown codec) cannot be held by .webm and is left out"
    ]


def test_hidden_alpha_is_named(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.webm", planes_of(3, YUV420, SD), codec="libvpx-vp9")
    source = tmp_path / "in.webm"
    with av.open(str(plain)) as given, av.open(str(source), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0], opaque=True)
        stream.metadata["alpha_mode"] = "1"
        copy_packets(given, out, {0: stream})
    from irsde_deploy.video.probing import probe

    assert probe(source).notes == ("its alpha channel is not kept",)
    assert probe(plain).notes == ()
