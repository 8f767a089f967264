"""Real ends of WebRTC connections over loopback, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.codecs import get_capabilities
from aiortc.rtp import RtpPacket

from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.pattern import draw_pattern, read_counter
from comfystream_server.rtc.ice import IceSettings
from comfystream_server.rtc.peer import Peer

DEADLINE_S = 20


def run(scenario: Awaitable[None]) -> None:
    """Run one scenario on a loop of its own, with a deadline."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(limited())


class Camera(VideoStreamTrack):
    """Pictures with a counter at 30 per second, or as fast as a test likes."""

    def __init__(self, sizes: list[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.sizes = sizes or [(256, 256)]
        self.number = 0
        self.sent_ns: dict[int, int] = {}

    async def recv(self):
        pts, base = await self.next_timestamp()
        width, height = self.sizes[min(self.number // 30, len(self.sizes) - 1)]
        frame = draw_pattern(width, height, self.number)
        frame.pts, frame.time_base = pts, base
        self.number += 1
        return frame


class Viewer:
    """The offering end: plain aiortc, as a client would use it."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.tracks: dict[str, object] = {}
        self.pc.on("track", lambda track: self.tracks.__setitem__(track.kind, track))

    def prefer(self, codec: str) -> None:
        known = get_capabilities("video").codecs
        chosen = [c for c in known if c.name in (codec, "rtx")]
        for transceiver in self.pc.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(chosen)

    async def connect(self, answer: Callable[[str, str], Awaitable[tuple[str, str]]]) -> None:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        sdp, kind = await answer(self.pc.localDescription.sdp, "offer")
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, kind))

    async def counters(self, count: int) -> list[int]:
        """The numbers on the next pictures that come."""
        return [read_counter(await self.picture()) for _ in range(count)]

    async def picture(self):
        async with asyncio.timeout(DEADLINE_S):
            return await self.tracks["video"].recv()


class Host:
    """Our end, which keeps what its callbacks were told."""

    def __init__(self, *, is_echo: bool = False, **options) -> None:
        self.videos: asyncio.Queue[VideoFrame] = asyncio.Queue()
        self.sounds: asyncio.Queue[AudioFrame] = asyncio.Queue()
        self.messages: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.states: asyncio.Queue[str] = asyncio.Queue()
        self.is_echo = is_echo
        self.peer = Peer(
            ice=options.pop("ice", IceSettings(has_loopback=True)),
            on_video=self._video,
            on_audio=self._audio,
            on_message=lambda label, text: self.messages.put_nowait((label, text)),
            on_state=self.states.put_nowait,
            **options,
        )

    def _video(self, frame: VideoFrame) -> None:
        self.videos.put_nowait(frame)
        if self.is_echo:
            self.peer.send_video(frame)

    def _audio(self, frame: AudioFrame) -> None:
        self.sounds.put_nowait(frame)
        if self.is_echo:
            self.peer.send_audio(frame)

    async def until(self, state: str) -> list[str]:
        """Wait for a state; all that came up to it."""
        seen: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while state not in seen:
                seen.append(await self.states.get())
        return seen


def shown(number: int, size: tuple[int, int] = (256, 256)) -> VideoFrame:
    """A picture with a counter, as a session would send it."""
    return VideoFrame(number, number, Fraction(1, 30), draw_pattern(*size, number))


def frame(number: int, first: int, parts: int = 3, *, has_marker: bool = True) -> list[RtpPacket]:
    """The packets of one frame; each part is the frame's number and its own."""
    packets = []
    for part in range(parts):
        packet = RtpPacket(payload_type=96, sequence_number=(first + part) & 0xFFFF, timestamp=number * 3000)
        packet._data = packet.payload = bytes([number, part])
        packet.marker = int(has_marker and part == parts - 1)
        packets.append(packet)
    return packets
