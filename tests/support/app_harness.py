"""The web application with a test client, and a WebRTC client such as browsers are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import VideoStreamTrack
from engine_harness import picture
from on_loop import until

from comfystream.engine.protocol import Engine
from comfystream.settings import ServerSettings
from comfystream_server.app import make_app, parts_key
from comfystream_server.parts import Parts


class Lent:
    """An engine that outlives the server that uses it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Whoever lent it closes it."""


class App:
    """A running server."""

    def __init__(self, client: TestClient, parts: Parts) -> None:
        self.client = client
        self.parts = parts

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        response = await self.client.request(method, path, json=body, **more)
        text = await response.text()
        return response.status, json.loads(text) if text.startswith(("[", "{")) else text


@contextlib.asynccontextmanager
async def app_with(
    engine: Engine | None, starts: threading.Event | None = None, **settings: Any
) -> AsyncIterator[App]:
    """A server; None stands for an engine that must not be needed, or cannot start. `starts` lets it."""

    def start() -> Any:
        if starts is not None:
            assert starts.wait(30)
        if engine is None:
            raise RuntimeError("there is no engine in this test")
        return Lent(engine)

    app = make_app(ServerSettings(ice_loopback=True, **settings), start)
    async with TestClient(TestServer(app)) as client:
        app[parts_key].host.begin()
        yield App(client, app[parts_key])


class Grey(VideoStreamTrack):
    """A grey picture that gets a little brighter and darker, so that encoders keep sending it."""

    def __init__(self, value: int = 128, camera: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._value = value
        self._count = 0
        self._camera = camera

    async def recv(self) -> Any:
        pts, time_base = await self.next_timestamp()
        self._count += 1
        image = self._camera() if self._camera else picture(self._value + self._count % 3, 64, 48)
        image.pts, image.time_base = pts, time_base
        return image


class Browser:
    """What a browser does: a picture out, a picture in, data channels."""

    def __init__(self, app: App, *channels: str, camera: Callable[[], Any] | None = None) -> None:
        self.app = app
        self.pc = RTCPeerConnection()
        self.pc.addTrack(Grey(camera=camera))
        self.channels = {label: self.pc.createDataChannel(label) for label in channels}
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.shown: int | None = None
        self.size: tuple[int, int] | None = None
        self.sizes: set[tuple[int, int]] = set()
        self.session = self.resource = ""
        self._watching: asyncio.Task[None] | None = None
        for label, channel in self.channels.items():
            channel.on("message", lambda text, label=label: self.said.append((label, json.loads(text))))
        self.pc.on("track", self._track)

    def _track(self, track: Any) -> None:
        self._watching = asyncio.create_task(self._watch(track))

    async def _watch(self, track: Any) -> None:
        while True:
            image = await track.recv()
            self.size = image.width, image.height
            self.sizes.add(self.size)
            self.shown = int(image.to_ndarray(format="rgb24")[image.height // 2, image.width // 2, 0])

    async def connect(self, **body: Any) -> dict[str, Any]:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = {"sdp": self.pc.localDescription.sdp, "type": self.pc.localDescription.type}
        status, answer = await self.app.json("POST", body.pop("path", "/offer"), {"offer": offer, **body})
        assert status == 200, answer
        self.session, self.resource = answer["session"], answer["resource"]
        await self.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        await until(lambda: self.pc.connectionState == "connected", "the connection")
        for channel in self.channels.values():
            await until(lambda channel=channel: channel.readyState == "open", "the data channel")
        return answer

    async def ask(self, label: str, **message: Any) -> dict[str, Any]:
        """Send a message and wait for the next reply on that channel."""
        before = len(self._replies(label))
        self.channels[label].send(json.dumps(message))
        await until(lambda: len(self._replies(label)) > before, f"a reply to {message}")
        return self._replies(label)[before]

    def _replies(self, label: str) -> list[dict[str, Any]]:
        return [message for where, message in self.said if where == label and message.get("type") != "event"]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [message for _, message in self.said if message.get("event") == name]

    async def close(self) -> None:
        await self.pc.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])


@contextlib.asynccontextmanager
async def browser(
    app: App, *channels: str, camera: Callable[[], Any] | None = None, **body: Any
) -> AsyncIterator[Browser]:
    """A connected browser."""
    made = Browser(app, *channels, camera=camera)
    try:
        await made.connect(**body)
        yield made
    finally:
        await made.close()
