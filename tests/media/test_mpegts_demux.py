"""Bytes to access units: FFmpeg's muxer as the sender, any cuts, any damage."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.mpegts import opus
from comfystream.media.mpegts.decode import TsDecoder
from comfystream.media.mpegts.demux import PACKET, Demuxer
from comfystream.media.mpegts.mux import AUDIO_PID, VIDEO_PID, Muxer
from comfystream.media.mpegts.nal import begins_stream
from comfystream.media.mpegts.unit import AccessUnit, StreamCodec, StreamInfo
from comfystream.media.pattern import draw_pattern, read_counter, tone

SIZE = (128, 96)
COUNT = 20


def ffmpeg_stream(
    codec: str = "libx264", audio: str | None = "aac", start: int = 0, size: tuple[int, int] = SIZE, **options: str
) -> bytes:
    """COUNT numbered pictures at 30 fps from `start` (in 1/90000 s), with sound, by libavformat."""
    buffer = io.BytesIO()
    options = {"preset": "ultrafast", "g": "10", "bf": "0", **options}
    with av.open(buffer, "w", format="mpegts") as container:
        video: Any = container.add_stream(codec, rate=30, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        sound: Any = container.add_stream(audio, rate=48_000, layout="stereo") if audio else None
        packets = []
        for number in range(COUNT):
            image = draw_pattern(*size, number)
            image.pts, image.time_base = start + number * 3000, Fraction(1, 90_000)
            packets += video.encode(image)
        packets += video.encode(None)
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(np.repeat(tone(0, 32_000, 48_000), 2, axis=0), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start * 48 // 90, Fraction(1, 48_000)
            packets += [*sound.encode(frame), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stream() -> bytes:
    return ffmpeg_stream()


def units_of(data: bytes, cut: int = 1 << 20) -> tuple[list[AccessUnit], Demuxer]:
    demuxer = Demuxer()
    units = [unit for at in range(0, len(data), cut) for unit in demuxer.feed(data[at : at + cut])]
    return units + demuxer.end(), demuxer


def pictures(units: list[AccessUnit]) -> list[AccessUnit]:
    return [unit for unit in units if unit.stream.codec is not None and unit.stream.codec.is_video]


def numbers(units: list[AccessUnit]) -> list[int | None]:
    decoder = TsDecoder()
    frames = [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()
    return [read_counter(frame.image) for frame in frames if isinstance(frame, VideoFrame)]


def libav_packets(data: bytes, kind: str) -> list[tuple[int, bytes]]:
    with av.open(io.BytesIO(data), format="mpegts") as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(p.pts, bytes(p)) for p in container.demux(stream) if p.pts is not None]


@pytest.mark.parametrize("cut", [1, 7, PACKET, 1000, 1 << 20])
def test_units_are_libavformats_packets(stream: bytes, cut: int) -> None:
    units, demuxer = units_of(stream, cut)
    found = [(unit.pts, unit.data) for unit in pictures(units)]
    expected = libav_packets(stream, "video")
    assert [pts for pts, _ in found] == [pts for pts, _ in expected]
    assert [data for _, data in found] == [data for _, data in expected]
    assert numbers(units) == list(range(COUNT))
    assert demuxer.damage.lost_units == demuxer.damage.lost_packets == demuxer.damage.skipped_bytes == 0


def test_a_picture_ends_with_its_last_packet(stream: bytes) -> None:
    """And not with the next one's first: the units that are complete are all but those that happen to fit exactly."""
    demuxer = Demuxer()
    last_packet_of: dict[int, int] = {}
    done_at: dict[int, int] = {}
    for at in range(0, len(stream), PACKET):
        packet = stream[at : at + PACKET]
        if (packet[1] & 0x1F) << 8 | packet[2] == VIDEO_PID:
            last_packet_of[len(done_at)] = at
        for unit in pictures(demuxer.feed(packet)):
            done_at[len(done_at)] = at
            assert unit.pts is not None
    late = sum(done_at[number] != last_packet_of[number] for number in done_at)
    assert len(done_at) >= COUNT - 1
    assert late <= 2


@pytest.mark.parametrize("audio", ["aac", "libopus", "mp2", "ac3"])
def test_sound_is_decoded(audio: str) -> None:
    units, demuxer = units_of(ffmpeg_stream(audio=audio))
    decoder = TsDecoder()
    frames = [f for unit in units for f in decoder.decode(unit)]
    sounds = [frame for frame in frames if isinstance(frame, AudioFrame)]
    assert {frame.sample_rate for frame in sounds} == {48_000}
    assert all(frame.samples.dtype == np.float32 and frame.samples.shape[0] == 2 for frame in sounds)
    assert sum(frame.samples.shape[1] for frame in sounds) > 28_000
    ends = [round(frame.pts + frame.samples.shape[1] * 90 / 48) for frame in sounds]
    assert all(abs(after.pts - end) <= 100 for after, end in zip(sounds[1:], ends, strict=False))
    assert decoder.counts.broken == 0
    loud = np.concatenate([frame.samples[0] for frame in sounds])[1000:4000]
    assert 0.3 < float(np.abs(loud).max()) < 1.0


def test_hevc_is_decoded() -> None:
    units, _ = units_of(ffmpeg_stream("libx265", audio=None, **{"x265-params": "log-level=none:bframes=0"}))
    assert {unit.stream.codec for unit in units} == {StreamCodec.HEVC}
    assert numbers(units) == list(range(COUNT))


def test_b_frames_come_out_in_their_order() -> None:
    units, _ = units_of(ffmpeg_stream(audio=None, bf="2", b_strategy="0", sc_threshold="0", preset="veryfast"))
    assert [unit.pts for unit in units] != sorted(unit.pts or 0 for unit in units)
    assert numbers(units) == list(range(COUNT))


def test_times_go_on_where_33_bits_wrap() -> None:
    start = (1 << 33) - 10 * 3000
    units, _ = units_of(ffmpeg_stream(audio=None, start=start))
    times = [unit.pts for unit in units]
    assert times == list(range(times[0] or 0, (times[0] or 0) + COUNT * 3000, 3000))
    assert (times[-1] or 0) >= 1 << 33


def test_a_lost_packet_takes_its_picture_and_those_that_refer_to_it(stream: bytes) -> None:
    at = [p for p in range(0, len(stream), PACKET) if (stream[p + 1] & 0x1F) << 8 | stream[p + 2] == VIDEO_PID]
    lost = next(p for p in at[len(at) // 3 :] if not stream[p + 1] & 0x40)
    units, demuxer = units_of(stream[:lost] + stream[lost + PACKET :])
    found = numbers(units)
    assert demuxer.damage.lost_packets == 1
    assert demuxer.damage.lost_units >= 1
    assert found == sorted(set(found), key=lambda n: n or 0)
    assert 10 <= len(found) < COUNT
    assert found[-10:] == list(range(10, 20))  # the next picture that refers to no other is number 10


def test_what_begins_in_the_middle_waits_for_a_picture_that_refers_to_no_other(stream: bytes) -> None:
    tables = stream[: 3 * PACKET]
    assert numbers(units_of(tables + stream[len(stream) // 4 // PACKET * PACKET :])[0]) == list(range(10, 20))


def test_garbage_between_packets_is_skipped(stream: bytes) -> None:
    noise = bytes(np.random.default_rng(1).integers(0, 256, 1001, np.uint8)).replace(b"\x47", b"\x48")
    units, demuxer = units_of(noise + stream + noise + stream)
    assert len(pictures(units)) == 2 * COUNT
    assert demuxer.damage.skipped_bytes == 2 * len(noise)


def test_packets_sent_twice_count_once(stream: bytes) -> None:
    twice = b"".join(stream[at : at + PACKET] * 2 for at in range(0, len(stream), PACKET))
    assert numbers(units_of(twice)[0]) == list(range(COUNT))


def test_a_sender_that_stuffs_in_the_middle_is_not_trusted_again() -> None:
    """The first picture is broken by it; from then on a picture ends where the next one begins."""
    stream = StreamInfo(VIDEO_PID, StreamCodec.H264)
    muxer = Muxer()
    tables = muxer.tables([stream])

    def picture(number: int) -> bytes:
        packets = bytearray(muxer.unit(stream, bytes((number,)) * 400, number * 3000))
        first = packets[:PACKET]
        # The payload of the first packet in two: the first of them with 100 bytes of stuffing.
        split = bytearray(first)
        split[4] += 100
        head = split[:12] + b"\xff" * 100 + first[12 : PACKET - 100]
        rest = bytes((0x47, 0x01, 0x00, 0x30, 83, 0)) + b"\xff" * 82 + bytes(first[-100:])
        return bytes(head) + rest + bytes(packets[PACKET:])

    data = tables + b"".join(_renumbered([picture(number) for number in range(4)]))
    units, demuxer = units_of(data)
    whole = [unit for unit in units if len(unit.data) == 400]
    assert [unit.pts for unit in whole] == [3000, 6000, 9000]
    assert whole[0].after_loss
    assert demuxer.damage.lost_units == 1


def _renumbered(parts: list[bytes]) -> list[bytes]:
    count, out = 0, []
    for part in parts:
        data = bytearray(part)
        for at in range(0, len(data), PACKET):
            data[at + 3] = data[at + 3] & 0xF0 | count & 0x0F
            count += 1
        out.append(bytes(data))
    return out


def test_the_first_program_with_pictures_is_read() -> None:
    """Two programs in one stream, the first of them with sound only."""
    radio, tv = Muxer(), ffmpeg_stream(audio=None)
    opus_stream = StreamInfo(AUDIO_PID + 0x100, StreamCodec.OPUS, 1)
    sound = radio.tables([opus_stream]) + radio.unit(opus_stream, opus.with_header(b"\xfc\xff\xfe"), 0)
    moved = bytearray(sound)
    moved[PACKET + 1 : PACKET + 3] = b"\x4f\x00"  # its map elsewhere
    pat = _pat({1: 0xF00, 2: 0x1000})
    without_tables = b"".join(
        tv[at : at + PACKET] for at in range(0, len(tv), PACKET) if tv[at + 1] & 0x1F or tv[at + 2]
    )
    units, demuxer = units_of(pat + bytes(moved[PACKET:]) + without_tables)
    assert len(pictures(units)) == COUNT
    assert [stream.codec for stream in demuxer.streams] == [StreamCodec.H264]


def _pat(programs: dict[int, int]) -> bytes:
    from comfystream.media.mpegts.tables import _section

    entries = b"".join(n.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for n, pid in programs.items())
    return (b"\x47\x40\x00\x10\x00" + _section(0, 1, 0, entries)).ljust(PACKET, b"\xff")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=600), max_size=12))
def test_any_bytes_do_no_harm(chunks: list[bytes]) -> None:
    demuxer, decoder = Demuxer(), TsDecoder()
    for chunk in chunks:
        for unit in [*demuxer.feed(chunk), *demuxer.end()]:
            decoder.decode(unit)


@settings(max_examples=120, deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=40)), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=6),
)
def test_a_damaged_stream_does_no_harm(stream: bytes, damage: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = bytearray(stream)
    for at, piece in damage:
        at %= len(data)
        data[at : at + len(piece)] = piece
    borders = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    demuxer, decoder = Demuxer(), TsDecoder()
    for start, stop in zip(borders, borders[1:], strict=False):
        for unit in demuxer.feed(bytes(data[start:stop])):
            decoder.decode(unit)
    for unit in demuxer.end():
        decoder.decode(unit)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_any_sound_does_no_harm(data: bytes) -> None:
    for codec in StreamCodec:
        unit = AccessUnit(StreamInfo(1, codec, 2), data, 0, 0)
        TsDecoder().decode(unit)


@given(st.binary(max_size=100))
def test_any_picture_can_be_asked_what_it_begins(data: bytes) -> None:
    assert isinstance(begins_stream(StreamCodec.H264, data), bool)
    assert isinstance(begins_stream(StreamCodec.HEVC, data), bool)


@given(st.lists(st.binary(min_size=1, max_size=700), max_size=4))
def test_packets_of_opus_survive_their_headers(packets: list[bytes]) -> None:
    assert list(opus.split(b"".join(map(opus.with_header, packets)))) == packets
