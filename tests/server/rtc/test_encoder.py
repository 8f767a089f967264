from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from comfystream.media.pattern import draw_pattern, read_counter
from comfystream.media.planes import byte_planes
from comfystream_server.rtc.encoder import RTP_VIDEO, VideoEncoder

DECODERS = {"VP8": "libvpx", "H264": "h264"}


@pytest.fixture(params=["VP8", "H264"])
def codec(request: pytest.FixtureRequest) -> str:
    return request.param


def decoded(codec: str, packets: list) -> list[int | None]:
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    return [read_counter(image) for packet in packets for image in decoder.decode(packet)]


def test_each_picture_comes_out_at_once(codec: str) -> None:
    encoder = VideoEncoder(codec)
    packets = [encoder.encode(draw_pattern(256, 256, n), 3000 * n, 800_000) for n in range(20)]
    assert [packet.pts for packet in packets] == [3000 * n for n in range(20)]
    assert all(packet.time_base == RTP_VIDEO for packet in packets)
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 19
    assert decoded(codec, packets) == list(range(20))


def test_a_key_frame_on_demand_is_one_that_a_late_viewer_can_begin_with(codec: str) -> None:
    encoder = VideoEncoder(codec)
    packets = [encoder.encode(draw_pattern(256, 256, n), 3000 * n, 800_000, is_key=n == 7) for n in range(10)]
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == [0, 7]
    assert decoded(codec, packets[7:]) == [7, 8, 9]


def test_the_picture_itself_is_left_alone(codec: str) -> None:
    """Other sinks hold it too, perhaps in other threads."""
    image = draw_pattern(256, 256, 3)
    image.pts, image.time_base = 17, Fraction(1, 25)
    before = [plane.copy() for plane in byte_planes(image)]
    VideoEncoder(codec).encode(image, 9000, 800_000, is_key=True)
    assert (image.pts, image.time_base, image.pict_type) == (17, Fraction(1, 25), 0)
    assert all(np.array_equal(old, new) for old, new in zip(before, byte_planes(image), strict=True))


@pytest.mark.parametrize("format", ["yuv420p", "rgb24", "nv12", "yuv444p"])
def test_any_format_and_odd_sizes(codec: str, format: str) -> None:
    encoder = VideoEncoder(codec)
    image = draw_pattern(257, 129, 21).reformat(format=format)
    assert decoded(codec, [encoder.encode(image, 0, 800_000)]) == [21]
    other = encoder.encode(draw_pattern(128, 128, 22), 3000, 800_000)
    assert decoded(codec, [other]) == [22], "a new size begins with a key frame"


def test_the_bitrate_is_followed(codec: str) -> None:
    """Faint noise costs what it is given: a third of the bitrate, well below the bytes."""
    dice = np.random.default_rng(1)
    encoder, size = VideoEncoder(codec), {}
    for turn, bitrate in enumerate((1_500_000, 500_000)):
        spent = []
        for n in range(60):
            image = draw_pattern(256, 256, n)
            byte_planes(image)[0][64:] = dice.integers(100, 124, (192, 256), np.uint8)
            spent.append(encoder.encode(image, 3000 * (60 * turn + n), bitrate).size)
        size[bitrate] = sum(spent[20:])
    assert size[500_000] < 0.7 * size[1_500_000]


def test_h264_takes_a_new_bitrate_without_a_key_frame() -> None:
    encoder = VideoEncoder("H264")
    rates = [800_000] * 5 + [300_000] * 5 + [1_900_000] * 5
    packets = [encoder.encode(draw_pattern(256, 256, n), 3000 * n, rate) for n, rate in enumerate(rates)]
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 14
