"""Sound and pictures stay together: a flash with a beep once a second, published, passed through, watched."""

from __future__ import annotations

import asyncio
import statistics
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket
from app_harness import app_with
from on_loop import on_loop, until
from whip_ends import End, publishing

from comfystream.engine.child import ChildEngine

pytestmark = pytest.mark.slow
EVENTS = 5
MOST_OFF_S = 0.25  # 7 ms on a machine that is not busy; one that is holds either up
RATE, SLICE, FPS = 48_000, 960, 30


class Paced(MediaStreamTrack):
    """Frames by a clock that sound and pictures share."""

    def __init__(self, began: float, every_s: float) -> None:
        super().__init__()
        self._began, self._every_s, self._count = began, every_s, 0

    async def next(self) -> int:
        await asyncio.sleep(max(0.0, self._began + self._count * self._every_s - time.monotonic()))
        self._count += 1
        return self._count - 1


class Flashes(Paced):
    kind = "video"

    async def recv(self) -> av.VideoFrame:
        number = await self.next()
        level = 235 if number % FPS < 2 and number >= FPS else 16
        frame = av.VideoFrame.from_ndarray(np.full((240 * 3 // 2, 320), 128, np.uint8), "yuv420p")
        plane = np.frombuffer(frame.planes[0], np.uint8)  # type: ignore[arg-type]
        plane[:] = level
        frame.pts, frame.time_base = number * 3000, Fraction(1, 90_000)
        return frame


class Beeps(Paced):
    kind = "audio"

    async def recv(self) -> av.AudioFrame:
        number = await self.next()
        is_loud = number % 50 < 3 and number >= 50
        wave = np.sin(np.arange(SLICE) * 2 * np.pi * 1000 / RATE) * (20_000 if is_loud else 0)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave.astype(np.int16), 2).reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, number * SLICE, Fraction(1, RATE)
        return frame


class Watcher(End):
    """Notes when each flash and beep is to be shown by the sender reports, and when it came."""

    def __init__(self, client: Any, path: str) -> None:
        super().__init__(client, path)
        self.events: dict[str, list[tuple[int, float]]] = {"video": [], "audio": []}
        self.reports: dict[str, tuple[int, int]] = {}
        self.was_on = {"video": False, "audio": False}

    async def connect(self) -> str:
        for transceiver in self.pc.getTransceivers():
            self._listen(transceiver.receiver, transceiver.kind)
        return await super().connect()

    def _listen(self, receiver: Any, kind: str) -> None:
        handle = receiver._handle_rtcp_packet

        async def heard(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                self.reports[kind] = (info.ntp_timestamp, info.rtp_timestamp)
            await handle(packet)

        receiver._handle_rtcp_packet = heard

    async def _read(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                self.counts[track.kind] += 1
                self._look(track.kind, frame)
        except MediaStreamError:
            return

    def _look(self, kind: str, frame: Any) -> None:
        if kind == "video":
            at, is_on = frame.pts, frame.to_ndarray(format="gray").mean() > 120
        else:
            loud = np.abs(frame.to_ndarray()[0, ::2]) > 6000
            at, is_on = frame.pts + int(np.argmax(loud)), bool(loud.any())
        if is_on and not self.was_on[kind]:
            self.events[kind].append((at, time.monotonic()))
        self.was_on[kind] = is_on

    def shown_s(self, kind: str) -> list[float]:
        """When each event is to be shown, by the last sender report."""
        receiver: Any = next(one.receiver for one in self.pc.getTransceivers() if one.kind == kind)
        origin = receiver._RTCRtpReceiver__timestamp_mapper._origin
        ntp, rtp = self.reports[kind]
        rate = 90_000 if kind == "video" else RATE
        behind = [((pts + origin - rtp + (1 << 31)) & 0xFFFFFFFF) - (1 << 31) for pts, _ in self.events[kind]]
        return [ntp / (1 << 32) + ticks / rate for ticks in behind]


@on_loop
async def test_a_flash_and_its_beep_stay_together(
    shared_engine: ChildEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic() + 0.5
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/sync", Flashes(began, 1 / FPS), Beeps(began, SLICE / RATE)),
    ):
        viewer = Watcher(app.client, "/whep/sync")
        viewer.watch()
        await viewer.connect()
        await until(lambda: min(map(len, viewer.events.values())) >= EVENTS, "flashes and beeps")
        await until(lambda: len(viewer.reports) == 2, "sender reports")
        videos, sounds = viewer.shown_s("video"), viewer.shown_s("audio")
        arrived = {kind: [at for _, at in events] for kind, events in viewer.events.items()}
        await viewer.close()
    shown = [_nearest(one, sounds) for one in videos][-EVENTS:]
    came = [_nearest(one, arrived["audio"]) for one in arrived["video"]][-EVENTS:]
    with capsys.disabled():
        for words, offsets in (("by sender reports", shown), ("by arrival", came)):
            median, worst = statistics.median(offsets) * 1000, max(offsets, key=abs) * 1000
            print(f"\n  picture behind sound, {words}: {median:.0f} ms, at worst {worst:.0f} ms")
    assert abs(statistics.median(shown)) <= MOST_OFF_S
    assert len(shown) == EVENTS


def _nearest(at: float, others: list[float]) -> float:
    return min((at - other for other in others), key=abs)
