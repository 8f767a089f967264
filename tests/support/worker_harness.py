"""A worker on real sockets, the channels that an orchestrator makes for a stream, and what stands at their far ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import aiohttp
import av
import numpy as np
from engine_harness import picture
from on_loop import until

from comfystream.byoc import FrameProcessor, StreamServer
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.trickle.media_out import MediaWriter
from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter

MIMES = {"": "video/MP2T", "-out": "video/MP2T", "-control": "application/json", "-events": "application/json"}
FIELDS = {"": "subscribe", "-out": "publish", "-control": "control", "-events": "events", "-data": "data"}
SIZE = (64, 48)


class Invert(FrameProcessor):
    """The smallest app that does something; a test may let it wait or fail."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.params: list[dict[str, Any]] = []
        self.starts = self.stops = self.loads = self.pictures = 0
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def initialize(self) -> None:
        self.loads += 1
        await self.may_load.wait()

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        self.starts += 1
        await self.may_start.wait()

    async def on_stream_stop(self) -> None:
        self.stops += 1

    def update_params(self, params: dict[str, Any]) -> None:
        if params.get("bad"):
            raise ValueError("bad is not a value")
        self.params.append(params)

    async def process_video_async(self, frame: Any) -> Any:
        self.pictures += 1
        return frame.replace_tensor(1.0 - frame.tensor)


class Paint(Invert):
    """Paints everything in one grey."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    async def process_video_async(self, frame: Any) -> Any:
        self.pictures += 1
        return frame.replace_tensor(frame.tensor * 0 + self.value)


@dataclass
class Worker:
    """A running `StreamServer` with a client."""

    server: StreamServer
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        if body is not None:
            more["json"] = body
        async with self.session.request(method, self.url + path, **more) as response:
            text = await response.text()
            return response.status, json.loads(text)

    async def status(self) -> str:
        return str((await self.call("GET", "/health"))[1]["status"])

    async def until_idle(self) -> None:
        await until(lambda: self.server.worker.state == "IDLE", "IDLE")


@contextlib.asynccontextmanager
async def serving(
    processor: FrameProcessor | None = None, *, is_ready: bool = True, **options: Any
) -> AsyncIterator[Worker]:
    """A worker on a free port."""
    options = {"size": SIZE, "capability_name": "test", **options}
    if "backend" not in options:
        options["frame_processor"] = processor or Invert()
    server = StreamServer(port=0, host="127.0.0.1", **options)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            worker = Worker(server, session)
            if is_ready:
                await worker.until_idle()
            yield worker
    finally:
        await server.close()


class Orchestrator:
    """Its trickle server, and the channels of its streams."""

    def __init__(self, server: TrickleServer, url: str) -> None:
        self.server = server
        self.url = url

    def stream(self, id: str = "s1", *, data: bool = True, params: Any = None) -> dict[str, Any]:
        """Make the channels of a stream, and the body of its start."""
        body: dict[str, Any] = {"gateway_request_id": id, "params": params}
        for suffix, field in FIELDS.items():
            if suffix == "-data" and not data:
                continue
            self.server.create(id + suffix, MIMES.get(suffix, "application/jsonl"))
            body[f"{field}_url"] = f"{self.url}/{id}{suffix}"
        return body

    def end(self, id: str = "s1") -> None:
        for suffix in FIELDS:
            self.server.close(id + suffix)

    async def send_control(self, *documents: Any, id: str = "s1") -> None:
        async with TrickleWriter(f"{self.url}/{id}-control", content_type="video/MP2T", start=None) as writer:
            for document in documents:
                await writer.send(document if isinstance(document, bytes) else json.dumps(document).encode())


@contextlib.asynccontextmanager
async def orchestrator(port: int = 0, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Orchestrator]:
    server = TrickleServer(TrickleOptions(**options))
    async with server.serving(port=port, base_path="/ai/trickle", tls=tls) as url:
        yield Orchestrator(server, url)


class Listener:
    """Collects the segments of a channel, whole."""

    def __init__(self, url: str) -> None:
        self.segments: list[bytes] = []
        self.times: list[float] = []
        self.is_over = False
        self._reader = TrickleReader(url, start=0, verify_tls=False)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for segment in self._reader:
            self.segments.append(await segment.read())
            self.times.append(asyncio.get_running_loop().time())
        self.is_over = True

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for segment in self.segments for line in segment.splitlines() if line.strip()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [said["event"] for said in self.documents if said["event"].get("type") == kind]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._reader.close()


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    listener = Listener(url)
    try:
        yield listener
    finally:
        await listener.close()


@contextlib.asynccontextmanager
async def camera(
    url: str,
    value: int = 60,
    *,
    sound: bool = False,
    fps: int = 20,
    size: tuple[int, int] = SIZE,
    start: int | None = 0,
) -> AsyncIterator[Any]:
    """Publishes a grey picture, and a tone, until the block ends."""
    image = picture(value, *size)
    tone = (0.3 * np.sin(np.arange(48_000 // fps) * 2 * np.pi * 440 / 48_000)).astype(np.float32)[np.newaxis]

    async def shoot(writer: MediaWriter) -> None:
        for number in range(1_000_000):
            writer.offer(VideoFrame(number, number, Fraction(1, fps), image))
            if sound:
                writer.offer(AudioFrame(number, number * tone.shape[1], Fraction(1, 48_000), tone, 48_000))
            await asyncio.sleep(1 / fps)

    async with MediaWriter(url, start=start, verify_tls=False) as writer:
        task = asyncio.create_task(shoot(writer))
        try:
            yield writer
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass(frozen=True)
class Played:
    """What an independent decoder makes of one segment."""

    keys: list[bool]
    times: list[float]
    luma: list[float]
    sounds: int
    codecs: dict[str, str]
    size: tuple[int, int]
    has_b: bool


def play(segment: bytes) -> Played:
    keys, times, luma, sounds, size, has_b = [], [], [], 0, (0, 0), False
    with av.open(io.BytesIO(segment), format="mpegts") as container:
        codecs = {stream.type: stream.codec_context.name for stream in container.streams}
        for packet in container.demux():
            if packet.stream.type == "video" and packet.pts is not None:
                keys.append(packet.is_keyframe)
                has_b = has_b or packet.dts != packet.pts
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    times.append(float(frame.time))
                    luma.append(float(frame.to_ndarray(format="gray").mean()))
                    size = (frame.width, frame.height)
                else:
                    sounds += 1
    return Played(keys, times, luma, sounds, codecs, size, has_b)
