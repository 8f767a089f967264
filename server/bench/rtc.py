"""`bench rtc`: how long a picture takes to a server and back, beside a bare aiortc echo in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs import get_capabilities

from comfystream.errors import NetworkError
from comfystream.frames import VideoFrame
from comfystream.media.pattern import draw_pattern, read_counter

from ..rtc.ice import IceSettings
from ..rtc.peer import Peer
from .rows import Goal, Row

__all__ = ["bench_rtc"]

SIZES = ((512, 512), (1280, 720))
CODECS = ("VP8", "H264")
FPS = 30
DISTINCT = 64  # pictures, used over and over: a round trip is far shorter than two seconds
SETTLE_S = 1.5
DEADLINE_S = 15.0


@dataclass(slots=True)
class Trips:
    """What the sending end saw.

    Attributes:
        sent_ns: when the picture with each number left last.
        took_ms: round trips of the pictures that came back after the settling time.
        first_s: from the beginning of the connection to the first picture that came back.
        cpu_ms: processor time of the server per second.
    """

    began_ns: int = field(default_factory=time.monotonic_ns)
    sent_ns: dict[int, int] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)
    first_s: float | None = None
    is_measuring: bool = False
    cpu_ms: float = 0.0
    unreadable: int = 0

    def came(self, image: av.VideoFrame) -> None:
        """Take note of a picture that came back."""
        now = time.monotonic_ns()
        number = read_counter(image)
        if self.first_s is None:
            self.first_s = (now - self.began_ns) / 1e9
        if self.is_measuring and number in self.sent_ns:
            self.took_ms.append((now - self.sent_ns[number]) / 1e6)
        self.unreadable += number is None


class Camera:
    """Numbered pictures, made before the clock starts."""

    def __init__(self, size: tuple[int, int], trips: Trips) -> None:
        self._images = [draw_pattern(*size, number) for number in range(DISTINCT)]
        self._trips = trips
        self._count = 0
        self._began_ns = 0

    async def next(self) -> VideoFrame:
        """The next picture, when it is due."""
        self._began_ns = self._began_ns or time.monotonic_ns()
        due = self._began_ns + self._count * 10**9 // FPS
        await asyncio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        number = self._count % DISTINCT
        self._trips.sent_ns[number] = time.monotonic_ns()
        self._count += 1
        return VideoFrame(self._count - 1, self._count - 1, Fraction(1, FPS), self._images[number])


class _CameraTrack(MediaStreamTrack):
    kind = "video"

    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self._camera = camera

    async def recv(self) -> av.VideoFrame:
        frame = await self._camera.next()
        frame.image.pts, frame.image.time_base = frame.pts, frame.time_base
        return frame.image


class PlainEnd:
    """A client that knows nothing of ComfyStream."""

    def __init__(self, camera: Camera, codec: str, trips: Trips) -> None:
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._trips = trips
        self._task: asyncio.Task[None] | None = None
        self._connection.on("track", self._track)
        transceiver = self._connection.addTransceiver(_CameraTrack(camera), "sendrecv")
        transceiver.setCodecPreferences(
            [known for known in get_capabilities("video").codecs if known.name in (codec, "rtx")]
        )

    def _track(self, track: MediaStreamTrack) -> None:
        self._task = asyncio.get_running_loop().create_task(self._read(track))

    async def _read(self, track: MediaStreamTrack) -> None:
        while True:
            image = await track.recv()
            assert isinstance(image, av.VideoFrame)
            self._trips.came(image)

    async def offer(self) -> str:
        """SDP."""
        await self._connection.setLocalDescription()
        return str(self._connection.localDescription.sdp)

    async def accept(self, sdp: str) -> None:
        """Take the answer."""
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.close()


class OurEnd:
    """A client that is a `Peer`."""

    def __init__(self, camera: Camera, codec: str, trips: Trips) -> None:
        self._camera = camera
        self._peer = Peer(
            ice=IceSettings(),
            on_video=lambda frame: trips.came(frame.image),
            on_audio=lambda _: None,
            on_message=lambda *_: None,
            on_state=self._state,
            video_codecs=(codec,),
        )
        self._task: asyncio.Task[None] | None = None

    def _state(self, state: str) -> None:
        if state == "connected":
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while True:
            self._peer.send_video(await self._camera.next())

    async def offer(self) -> str:
        """SDP."""
        return await self._peer.offer(("video",))

    async def accept(self, sdp: str) -> None:
        """Take the answer."""
        await self._peer.accept(sdp)

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
        await self._peer.close()


class Server:
    """The echo in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order and wait for what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S)
        if not line:
            raise NetworkError("the echo process ended", hint="see what it printed above")
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextlib.asynccontextmanager
async def _server(kind: str) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "comfystream_server.bench.rtc_echo",
        kind,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        server = Server(process)
        await server.ask()  # it is up: loading Python is no part of a connection
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), DEADLINE_S)
        except TimeoutError:
            process.kill()


async def _run(
    server_kind: str, end_kind: type[PlainEnd | OurEnd], size: tuple[int, int], codec: str, seconds: float
) -> Trips:
    async with _server(server_kind) as server:
        trips = Trips()
        camera = Camera(size, trips)
        trips.began_ns = time.monotonic_ns()
        end = end_kind(camera, codec, trips)
        try:
            await end.accept((await server.ask(offer=await end.offer()))["answer"])
            await asyncio.sleep(SETTLE_S)
            trips.is_measuring = True
            before, began = (await server.ask())["cpu_s"], time.monotonic()
            await asyncio.sleep(seconds)
            trips.cpu_ms = 1000 * ((await server.ask())["cpu_s"] - before) / (time.monotonic() - began)
        finally:
            await end.close()
    if not trips.took_ms:
        raise NetworkError(f"no picture came back ({server_kind} server, {size[0]}x{size[1]} {codec})")
    return trips


CASES: dict[str, tuple[str, type[PlainEnd | OurEnd]]] = {
    "bare": ("bare", PlainEnd),
    "server": ("ours", PlainEnd),
    "both": ("ours", OurEnd),
}


def _rows(case: str, found: dict[str, Trips]) -> Iterator[Row]:
    bare, server, both = found["bare"], found["server"], found["both"]

    def row(metric: str, unit: str, figure: Callable[[Trips], float], ours: Trips, goal: Goal | None = None) -> Row:
        end = "ours at both ends" if ours is both else "plain client"
        return Row("rtc", case, f"{metric}, {end}", unit, figure(ours), figure(bare), "bare aiortc echo", goal)

    yield row("round trip p50", "ms", _p50, server, Goal("ratio", 0.6))
    yield row("round trip p50", "ms", _p50, both, Goal("ratio", 0.2))
    yield row("round trip p95", "ms", _p95, server)
    yield row("round trip p95", "ms", _p95, both)
    yield row("server CPU per second", "ms", lambda trips: trips.cpu_ms, server, Goal("ratio", 1.0))
    yield row("first picture", "s", lambda trips: trips.first_s or math.nan, server, Goal("ours", 0.3))
    yield row("first picture", "s", lambda trips: trips.first_s or math.nan, both, Goal("ours", 0.3))
    yield row("pictures that came back", "", lambda trips: float(len(trips.took_ms)), server)


def _p50(trips: Trips) -> float:
    return statistics.median(trips.took_ms)


def _p95(trips: Trips) -> float:
    return statistics.quantiles(trips.took_ms, n=20)[-1]


def bench_rtc(seconds: float = 6.0) -> Iterator[Row]:
    """Measure each size and codec for `seconds` per contestant, one after the other.

    Raises:
        NetworkError: a connection did not come about.
    """
    for size in SIZES:
        for codec in CODECS:
            found = {name: asyncio.run(_run(*case, size, codec, seconds)) for name, case in CASES.items()}
            yield from _rows(f"{size[0]}x{size[1]} {codec}", found)
