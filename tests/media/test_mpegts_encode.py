"""Frames to segments: read back by libavformat, by ffprobe's rules, and by our own reader without waiting."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from fractions import Fraction
from shutil import which

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st

from comfystream.errors import MediaError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media import encoders
from comfystream.media.encoders import ENCODERS, bitrate_for, choose_encoder, prove
from comfystream.media.mpegts.decode import TsDecoder
from comfystream.media.mpegts.demux import PACKET, Demuxer
from comfystream.media.mpegts.encode import Part, SegmentPlan, TsEncoder
from comfystream.media.mpegts.mux import VIDEO_PID, Muxer
from comfystream.media.mpegts.nal import begins_stream, nal_types
from comfystream.media.mpegts.unit import StreamCodec, StreamInfo
from comfystream.media.pattern import draw_pattern, read_counter, tone

RATE = 48_000
TICK = Fraction(1, 90_000)


def picture(number: int, size: tuple[int, int] = (128, 96), pts: int | None = None) -> VideoFrame:
    return VideoFrame(number, number * 3000 if pts is None else pts, TICK, draw_pattern(*size, number))


def sound(start: int, count: int = 1600, channels: int = 2, rate: int = RATE) -> AudioFrame:
    samples = np.repeat(tone(start, count, rate), channels, axis=0)
    return AudioFrame(0, start, Fraction(1, rate), samples, rate)


def encoded(encoder: TsEncoder, frames: list[VideoFrame | AudioFrame]) -> list[Part]:
    return [part for frame in frames for part in encoder.encode(frame)] + encoder.flush()


def segments(parts: list[Part]) -> list[bytes]:
    out: list[bytes] = []
    for part in parts:
        if part.starts_segment:
            out.append(b"")
        out[-1] += part.data
    return out


def talk(count: int = 90) -> list[VideoFrame | AudioFrame]:
    return [frame for n in range(count) for frame in (picture(n), sound(n * 1600))]


def test_w56_each_segment_parses_alone_and_begins_with_an_idr_picture() -> None:
    """Conformance 56 of the worker's contract: H.264 without B-frames, Opus, times that go on."""
    found = segments(encoded(TsEncoder(channels=2, encoder="libx264"), talk()))
    assert len(found) == 4
    times: dict[str, list[int]] = {"video": [], "audio": []}
    for data in found:
        with av.open(io.BytesIO(data), format="mpegts") as container:
            assert {s.codec_context.name for s in container.streams} == {"h264", "opus"}
            assert container.streams.audio[0].codec_context.sample_rate == RATE
            packets = [(p.stream.type, p.pts, p.dts, p.is_keyframe, bytes(p)) for p in container.demux() if p.size]
        pictures = [packet for packet in packets if packet[0] == "video"]
        first = list(nal_types(StreamCodec.H264, pictures[0][4]))
        assert pictures[0][3]
        assert {5, 7, 8} <= set(first)  # IDR picture, sequence and picture parameters
        assert all(pts == dts for _, pts, dts, *_ in pictures)
        for kind, pts, *_ in packets:
            times[kind].append(pts)
        with av.open(io.BytesIO(data), format="mpegts") as container:
            images = list(container.decode(video=0))
        assert len(images) == len(pictures)
        assert all(PictureType(image.pict_type) in (PictureType.I, PictureType.P) for image in images)
    assert times["video"] == [n * 3000 for n in range(90)]  # the frames' own times
    assert times["audio"] == sorted(set(times["audio"]))
    assert np.diff(times["audio"]).tolist() == [1800] * (len(times["audio"]) - 1)


def test_the_first_segment_is_short_and_the_others_a_second() -> None:
    parts = encoded(TsEncoder(encoder="libx264"), [picture(n) for n in range(90)])
    assert [part.pts for part in parts if part.starts_segment] == [0, 27_000, 117_000, 207_000]


def test_every_picture_leaves_whole_with_the_call_that_encodes_it() -> None:
    encoder, demuxer, decoder = TsEncoder(channels=1, encoder="libx264"), Demuxer(), TsDecoder()
    for number in range(60):
        parts = encoder.encode(picture(number))
        assert all(len(part.data) % PACKET == 0 for part in parts)
        units = [unit for part in parts for unit in demuxer.feed(part.data)]
        frames = [frame for unit in units for frame in decoder.decode(unit)]
        assert [(read_counter(f.image), f.pts) for f in frames if isinstance(f, VideoFrame)] == [
            (number, number * 3000)
        ]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2000), st.integers(0, (1 << 33) + 5), st.booleans())
def test_a_unit_of_any_length_is_whole_with_its_last_packet(length: int, pts: int, is_entry: bool) -> None:
    """Lengths around a multiple of a packet's room are the ones that a careless muxer leaves open."""
    stream, muxer, demuxer = StreamInfo(VIDEO_PID, StreamCodec.H264), Muxer(), Demuxer()
    demuxer.feed(muxer.tables([stream]))
    data = bytes(n & 0x7F for n in range(length))
    out = muxer.unit(stream, data, pts, is_entry=is_entry)
    assert len(out) % PACKET == 0
    (unit,) = demuxer.feed(out)
    assert (unit.data, unit.pts) == (data, pts % (1 << 33))
    assert demuxer.damage.lost_units == 0


@pytest.mark.skipif(which("ffprobe") is None, reason="needs ffprobe, another reader than PyAV's libavformat")
def test_ffprobe_finds_nothing_wrong(tmp_path: object) -> None:
    data = b"".join(part.data for part in encoded(TsEncoder(channels=2, encoder="libx264"), talk()))
    command = [
        "ffprobe",
        "-v",
        "warning",
        "-f",
        "mpegts",
        "-count_frames",
        "-show_entries",
        "stream=codec_name,nb_read_frames",
    ]
    done = subprocess.run([*command, "-of", "csv=p=0", "-"], input=data, capture_output=True, timeout=60)
    assert done.stderr == b""
    lines = {line.rstrip(",") for line in done.stdout.decode().split()}
    assert "h264,90" in lines
    assert any(line.startswith("opus,14") for line in lines)


def test_another_size_begins_a_segment() -> None:
    frames = [picture(n, (128, 96) if n < 5 else (161, 91)) for n in range(10)]
    parts = encoded(TsEncoder(encoder="libx264"), frames)
    assert [part.pts for part in parts if part.starts_segment] == [0, 5 * 3000]
    decoder, demuxer = TsDecoder(), Demuxer()
    shown = [f for part in parts for unit in demuxer.feed(part.data) for f in decoder.decode(unit)]
    assert [(f.image.width, f.image.height) for f in shown if isinstance(f, VideoFrame)] == [(128, 96)] * 5 + [
        (160, 90)
    ] * 5


def test_times_that_stand_still_or_jump_back_go_on() -> None:
    times = [0, 3000, 3000, 2000, 6000, 900_000, 0, 3000]
    parts = encoded(TsEncoder(encoder="libx264"), [picture(n, pts=pts) for n, pts in enumerate(times)])
    found = [part.pts for part in parts]
    assert found[:6] == [0, 3000, 3001, 3002, 6000, 900_000]
    assert found[6:] == [903_000, 906_000]


def test_pictures_that_others_hold_are_not_changed() -> None:
    frame = picture(3)
    frame.image.pts, frame.image.time_base = 77, Fraction(1, 11)
    before = frame.image.to_ndarray().copy()
    TsEncoder(encoder="libx264").encode(frame)
    assert (frame.image.pts, frame.image.time_base) == (77, Fraction(1, 11))
    assert (frame.image.to_ndarray() == before).all()


def test_sound_that_comes_unannounced_begins_a_segment() -> None:
    encoder = TsEncoder(encoder="libx264")
    frames = [picture(0), picture(1), sound(3200, 3200), picture(2), sound(6400, 3200), picture(3)]
    parts = encoded(encoder, frames)
    assert [part.pts for part in parts if part.starts_segment] == [0, 6000]
    demuxer = Demuxer()
    for part in parts:
        demuxer.feed(part.data)
    assert [stream.codec for stream in demuxer.streams] == [StreamCodec.H264, StreamCodec.OPUS]


def test_sound_alone_makes_segments() -> None:
    parts = encoded(TsEncoder(has_video=False, channels=1), [sound(n * 1600, channels=1) for n in range(90)])
    found = segments(parts)
    assert len(found) >= 3
    for data in found:
        with av.open(io.BytesIO(data), format="mpegts") as container:
            assert [stream.codec_context.name for stream in container.streams] == ["opus"]


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (44_100, 2), (16_000, 1), (48_000, 6)])
def test_sound_is_where_it_was(rate: int, channels: int) -> None:
    """A beep from 1.0 to 1.1 s comes out at its place, whatever rate and channels it came with."""
    step = rate // 50
    frames = [sound(n * step, step, channels, rate) for n in range(75)]
    demuxer, decoder = Demuxer(), TsDecoder()
    loud = []
    for part in encoded(TsEncoder(has_video=False, channels=2 if channels == 2 else 1), frames):
        for unit in demuxer.feed(part.data):
            for out in decoder.decode(unit):
                assert isinstance(out, AudioFrame)
                at = np.flatnonzero(np.abs(out.samples[0]) > 0.3)
                loud += [out.pts / 90_000 + index / out.sample_rate for index in at]
    later = [at for at in loud if at > 0.5]
    assert min(later) == pytest.approx(1.0, abs=0.01)
    assert max(later) == pytest.approx(1.1, abs=0.01)


def test_a_hole_in_the_sound_becomes_silence() -> None:
    frames = [sound(n * 1600) for n in range(30) if not 10 <= n < 15]
    parts = encoded(TsEncoder(has_video=False, channels=2), frames)
    assert np.diff([part.pts for part in parts]).tolist() == [1800] * (len(parts) - 1)


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
def test_segments_are_as_long_as_they_should_be(steps: list[int]) -> None:
    plan, borders, pts = SegmentPlan(1.0, 0.3), [], 0
    for step in steps:
        pts += step
        if plan.begins(pts):
            borders.append(pts)
    assert borders[0] == steps[0]
    lengths = np.diff(borders)
    assert all(27_000 - 900 <= length < 27_000 + 20_000 for length in lengths[:1])
    assert all(90_000 - 900 <= length < 90_000 + 20_000 for length in lengths[1:])


def test_the_encoder_that_is_chosen_is_proved() -> None:
    assert prove("libx264") == ""
    assert prove(choose_encoder()) == ""


def test_an_encoder_that_does_not_work_is_refused_by_name() -> None:
    broken = [name for name in ENCODERS if prove(name)]
    assert broken, "all encoders of all vendors work on this machine: this test needs another example"
    with pytest.raises(MediaError, match=f"{broken[0]} does not work on this machine: ."):
        choose_encoder(broken[0])
    with pytest.raises(MediaError, match="no H.264 encoder that is known"):
        choose_encoder("h264_magic")


def test_an_encoder_that_holds_pictures_back_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(ENCODERS["libx264"], options={"rc-lookahead": "20", "preset": "medium"})
    monkeypatch.setattr(encoders, "ENCODERS", {"libx264": slow})
    assert prove.__wrapped__("libx264") == "it holds pictures back"


def test_larger_pictures_get_more_bits() -> None:
    assert bitrate_for(512, 512) == 943_718
    assert bitrate_for(1280, 720) == 3_317_760
    assert bitrate_for(16, 16) == 200_000
    assert bitrate_for(7680, 4320) == 20_000_000


def test_only_the_first_picture_of_a_segment_refers_to_no_other() -> None:
    demuxer = Demuxer()
    entries = []
    for part in encoded(TsEncoder(encoder="libx264"), [picture(n) for n in range(40)]):
        for unit in demuxer.feed(part.data):
            entries.append(begins_stream(StreamCodec.H264, unit.data))
            assert entries[-1] == part.starts_segment
    assert sum(entries) == 3
