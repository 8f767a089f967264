from __future__ import annotations

import asyncio
import threading
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from aiortc import AudioStreamTrack
from rtc_ends import DEADLINE_S, Camera, Host, Viewer, run, shown

from comfystream.errors import NetworkError
from comfystream.frames import AudioFrame
from comfystream.media.pattern import read_counter, tone


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_pictures_go_there_and_back(codec: str) -> None:
    async def scenario() -> None:
        host, viewer = Host(is_echo=True), Viewer()
        viewer.pc.addTrack(Camera())
        viewer.prefer(codec)
        await viewer.connect(host.peer.answer)
        assert await host.until("connected") == ["connecting", "connected"]
        numbers = await viewer.counters(20)
        assert numbers == sorted(set(numbers)), "each once, in order, readable"
        assert host.peer.stats["video_out"]["codec"] == codec
        frames = [await host.videos.get() for _ in range(10)]
        assert [frame.id for frame in frames] == list(range(10))
        assert all(0 < frame.stamps.captured <= frame.stamps.decoded for frame in frames)
        times = [frame.pts * frame.time_base for frame in frames]
        assert times[0] == 0
        assert all(Fraction(1, 60) < later - earlier < Fraction(1, 15) for earlier, later in pairwise(times))
        await viewer.pc.close()
        await host.until("closed")
        await host.peer.close()

    run(scenario())


async def connected(host: Host, viewer: Viewer) -> None:
    await viewer.connect(host.peer.answer)
    await host.until("connected")


async def ended(host: Host, viewer: Viewer) -> None:
    await viewer.pc.close()
    await host.peer.close()


def test_both_ends_may_be_peers_and_a_lone_picture_is_not_held() -> None:
    async def scenario() -> None:
        host, client = Host(), Host(video_codecs=("H264",))
        await client.peer.accept(*await host.peer.answer(await client.peer.offer(("video",), ("control",))))
        await client.until("connected")
        client.peer.send_video(shown(5))
        frame = await asyncio.wait_for(host.videos.get(), DEADLINE_S)
        assert read_counter(frame.image) == 5
        assert client.peer.stats["video_out"]["codec"] == "H264"
        client.peer.send_message("control", "hello")  # waits until the channel is open
        assert await asyncio.wait_for(host.messages.get(), DEADLINE_S) == ("control", "hello")
        host.peer.send_message("control", "well met")
        assert await asyncio.wait_for(client.messages.get(), DEADLINE_S) == ("control", "well met")
        await client.peer.close()
        await host.until("closed")

    run(scenario())


@pytest.mark.parametrize(("codec", "second"), [("VP8", (321, 177)), ("H264", (320, 176))])
def test_pictures_may_change_their_size_in_both_directions(codec: str, second: tuple[int, int]) -> None:
    async def scenario() -> None:
        host, viewer = Host(is_echo=True), Viewer()
        viewer.pc.addTrack(Camera(sizes=[(256, 256), second, (128, 256)]))
        viewer.prefer(codec)
        await connected(host, viewer)
        seen: list[tuple[int, int]] = []
        while (128, 256) not in seen:
            picture = await viewer.picture()
            assert read_counter(picture) is not None
            if (picture.width, picture.height) not in seen:
                seen.append((picture.width, picture.height))
        assert seen[0] == (256, 256)
        assert (320, 176) in seen, "an odd edge is cut: H.264 in 4:2:0 has none"
        await ended(host, viewer)

    run(scenario())


def test_one_that_needs_a_key_frame_gets_one_without_waiting_for_a_new_picture() -> None:
    async def scenario() -> None:
        host, client = Host(), Host()
        await client.peer.accept(*await host.peer.answer(await client.peer.offer(("video",))))
        await host.until("connected")
        host.peer.send_video(shown(9))
        await asyncio.wait_for(client.videos.get(), DEADLINE_S)
        assert host.peer.stats["video_out"]["key_frames"] == 1
        receiver = client.peer._transceivers["video"].receiver
        await receiver._send_rtcp_pli(host.peer._transceivers["video"].sender._ssrc)
        again = await asyncio.wait_for(client.videos.get(), DEADLINE_S)
        assert read_counter(again.image) == 9
        assert host.peer.stats["video_out"]["key_frames"] == 2
        await client.peer.close()
        await host.peer.close()

    run(scenario())


def test_the_newest_picture_wins_when_the_encoder_is_behind() -> None:
    async def scenario() -> None:
        host, client = Host(), Host()
        await client.peer.accept(*await host.peer.answer(await client.peer.offer(("video",))))
        await host.until("connected")
        for number in range(100):  # without giving the encoder a chance
            host.peer.send_video(shown(number))
        frame = await asyncio.wait_for(client.videos.get(), DEADLINE_S)
        assert read_counter(frame.image) == 99
        assert host.peer.stats["video_out"]["dropped"] == 99
        await client.peer.close()
        await host.peer.close()

    run(scenario())


def test_sound_comes_back_at_its_pace_and_silence_after_it() -> None:
    async def scenario() -> None:
        host, viewer = Host(), Viewer()
        viewer.pc.addTrack(AudioStreamTrack())
        await connected(host, viewer)
        assert (await asyncio.wait_for(host.sounds.get(), DEADLINE_S)).sample_rate == 48_000
        beep = tone(0, 8_000, 16_000)[:, :4_800]  # 0.3 s at another rate
        host.peer.send_audio(AudioFrame(0, 0, Fraction(1, 16_000), beep, 16_000))
        async with asyncio.timeout(DEADLINE_S):
            slices = [(await viewer.tracks["audio"].recv()).to_ndarray() for _ in range(30)]
        loud = [np.abs(part).max() > 3_000 for part in slices]
        assert any(loud[:10])
        assert not any(loud[-5:]), "silence, not an end"
        stats = host.peer.stats["audio_out"]
        assert stats["silent"] >= 5
        assert stats["slices"] > stats["silent"]
        await ended(host, viewer)

    run(scenario())


def test_a_second_picture_track_is_declined() -> None:
    async def scenario() -> None:
        host, viewer = Host(), Viewer()
        viewer.pc.addTrack(Camera())
        viewer.pc.addTrack(Camera())
        await connected(host, viewer)
        assert [t.currentDirection for t in viewer.pc.getTransceivers()] == ["sendrecv", "inactive"]
        await asyncio.wait_for(host.videos.get(), DEADLINE_S)
        await ended(host, viewer)

    run(scenario())


def test_what_the_server_wants_is_answered() -> None:
    async def scenario() -> None:
        host, viewer = Host(video_codecs=("H264",)), Viewer()
        viewer.pc.addTrack(Camera())
        viewer.prefer("VP8")
        with pytest.raises(NetworkError) as caught:
            await viewer.connect(host.peer.answer)
        assert caught.value.code == "unsupported_codec"
        assert "H264" in caught.value.message
        await ended(host, viewer)
        host, viewer = Host(video_codecs=("H264",)), Viewer()
        viewer.pc.addTrack(Camera())
        await connected(host, viewer)
        assert host.peer.stats["video_out"]["codec"] == "H264"
        await ended(host, viewer)

    run(scenario())


def test_an_end_that_falls_silent_is_told_of_and_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfystream_server.rtc.peer._SILENT_S", 0.2)
    monkeypatch.setattr("comfystream_server.rtc.peer._LISTEN_S", 0.05)

    async def scenario() -> None:
        host, client = Host(), Host()
        await client.peer.accept(*await host.peer.answer(await client.peer.offer(("video",))))
        await host.until("connected")
        await host.until("disconnected")  # nothing is sent, and reports come only every second
        client.peer.send_video(shown(1))
        assert await host.until("connected") == ["connected"]
        await client.peer.close()
        assert (await host.until("closed"))[-1] == "closed"

    run(scenario())


def test_closing_is_idempotent_and_frees_threads() -> None:
    async def scenario() -> None:
        host, viewer = Host(is_echo=True), Viewer()
        viewer.pc.addTrack(Camera())
        await connected(host, viewer)
        await viewer.counters(2)
        await asyncio.gather(host.peer.close(), host.peer.close())
        await host.peer.close()
        assert host.peer.state == "closed"
        await viewer.pc.close()
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if "rtc-encoder" in name or "decoder" in name]

    run(scenario())


def test_a_peer_that_never_connected_closes() -> None:
    async def scenario() -> None:
        await Host().peer.close()
        host, viewer = Host(), Viewer()
        viewer.pc.addTrack(Camera())
        await viewer.pc.setLocalDescription(await viewer.pc.createOffer())
        await host.peer.answer(viewer.pc.localDescription.sdp)
        await viewer.pc.close()
        await host.peer.close()
        assert host.peer.state == "closed"

    run(scenario())


def test_a_picture_that_cannot_be_encoded_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        host, client = Host(), Host()
        await client.peer.accept(*await host.peer.answer(await client.peer.offer(("video",), ("control",))))
        await host.until("connected")
        host.peer.send_video(shown(0, (16_400, 16)))  # wider than VP8 can say
        async with asyncio.timeout(DEADLINE_S):
            while not host.peer.stats["video_out"]["failed"]:
                client.peer.send_message("control", "still there?")
                await host.messages.get()
        host.peer.send_video(shown(1))
        frame = await asyncio.wait_for(client.videos.get(), DEADLINE_S)
        assert read_counter(frame.image) == 1
        assert "could not be encoded" in caplog.text
        await client.peer.close()
        await host.peer.close()

    run(scenario())
