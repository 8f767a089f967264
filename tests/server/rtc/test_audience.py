"""One encoder for many: what each viewer gets, who may ask for key frames, whose network counts."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from on_loop import on_loop
from rtc_ends import shown

from comfystream.frames import AudioFrame
from comfystream_server.rtc.audience import Audience, KeyPace, shared_estimate
from comfystream_server.rtc.outlets import Outlet, PictureOutlet


class FakeFeeding:
    """Writes down what an outlet says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def join(self, outlet: Outlet, codec: str) -> None:
        self.said.append(f"join {codec}")

    def leave(self, outlet: Outlet) -> None:
        self.said.append("leave")

    def wants_key(self, outlet: Outlet) -> None:
        self.said.append("key")

    def estimated(self, outlet: Outlet) -> None:
        self.said.append(f"{outlet.estimate}")


def packet(number: int, *, is_key: bool = False) -> av.Packet[Any]:
    made = av.Packet(bytes([number]))
    made.pts, made.is_keyframe = number, is_key
    return made


@on_loop
async def test_a_slow_viewer_goes_on_at_a_key_frame() -> None:
    feeding = FakeFeeding()
    outlet = PictureOutlet(feeding)
    outlet.put(packet(0), None)
    outlet.put(packet(1, is_key=True), Fraction(1))
    assert (await outlet.recv()).pts == 1, "it begins with a key frame"
    assert outlet.media_s == 1
    for number in range(2, 2 + outlet.room + 1):
        outlet.put(packet(number), None)
    assert feeding.said == ["join opus", "key"]
    outlet.put(packet(90), None)
    outlet.put(packet(91, is_key=True), None)
    outlet.put(packet(92), None)
    assert [(await outlet.recv()).pts for _ in range(2)] == [91, 92]
    assert outlet.skipped == 1 + outlet.room + 1 + 1
    outlet.stop()
    with pytest.raises(MediaStreamError):
        await outlet.recv()


@on_loop
async def test_a_key_frame_is_let_in_when_there_is_no_room() -> None:
    outlet = PictureOutlet(FakeFeeding())
    for number in range(outlet.room):
        outlet.put(packet(number, is_key=number == 0), None)
    outlet.put(packet(80, is_key=True), None)
    assert (await outlet.recv()).pts == 80


def test_key_frames_have_a_pace() -> None:
    pace = KeyPace()
    assert pace.due(1, 10.0) == 10.0
    pace.made(1, 10.0)
    assert pace.due(2, 10.1) == pytest.approx(10.5), "two a second for all"
    assert pace.due(1, 10.1) == pytest.approx(11.0), "one a second for each"
    pace.made(2, 10.5)
    assert pace.due(1, 11.2) == 11.2
    seconds, now, made = 20, 0.0, 0
    while now < seconds:
        viewer = made % 50
        now = pace.due(viewer, max(now, 100.0 * (not made)))
        pace.made(viewer, now)
        made += 1
        if made == 1:
            seconds += now
    assert made <= 2 * 20 + 2


@pytest.mark.parametrize(
    ("estimates", "shared"),
    [([], None), ([None, None], None), ([5], 5), ([1, 900], 1), ([1, 900, 1000], 900), ([None, 1, 8, 9, 10], 8)],
)
def test_one_bad_network_among_many_does_not_count(estimates: list[int | None], shared: int | None) -> None:
    assert shared_estimate(estimates) == shared


@on_loop
async def test_one_encoder_for_each_codec_from_the_first_viewer_to_the_last() -> None:
    audience = Audience()
    audience.offer(shown(1))
    pairs = [audience.outlets() for _ in range(3)]
    for (video, _), codec in zip(pairs, ("VP8", "VP8", "H264"), strict=True):
        video.use(codec)
    assert audience.figures() == {}, "nobody is connected yet"
    firsts = await asyncio.gather(*(video.recv() for video, _ in pairs))
    assert all(first.is_keyframe for first in firsts), "the picture that was there, at once"
    assert {codec: one["viewers"] for codec, one in audience.figures().items()} == {"VP8": 2, "H264": 1}
    pairs[0][0].estimate, pairs[1][0].estimate = 300_000, 900_000
    assert audience.figures()["VP8"]["estimate"] == 300_000
    pairs[0][0].stop()
    assert audience.figures()["VP8"]["estimate"] == 900_000
    keys = audience.figures()["VP8"]["key_frames"]
    pairs[1][0].request_key()
    while audience.figures()["VP8"]["key_frames"] == keys:
        assert (await pairs[1][0].recv()).is_keyframe, "the same picture, for who asked"
    for video, _ in pairs:
        video.stop()
    assert audience.figures() == {}
    audience.close()


@on_loop
async def test_sound_is_encoded_once() -> None:
    audience = Audience()
    (_, one), (_, other) = audience.outlets(), audience.outlets()
    asked = [asyncio.create_task(outlet.recv()) for outlet in (one, other)]
    await asyncio.sleep(0)
    wave = np.sin(np.arange(4800) / 10, dtype=np.float32)[None]
    audience.offer(AudioFrame(0, 0, Fraction(1, 48_000), wave, 48_000))
    first, second = await asyncio.gather(*asked)
    assert first is second
    decoder = av.CodecContext.create("libopus", "r")
    heard = np.concatenate([frame.to_ndarray().ravel() for frame in decoder.decode(av.Packet(bytes(first)))])
    assert np.abs(heard).max() > 0
    assert one.media_s == -Fraction(312, 48_000), "what an Opus decoder gives first is older"
    one.stop()
    other.stop()
    audience.close()
