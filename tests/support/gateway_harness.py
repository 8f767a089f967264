"""A gateway on a real socket, workers that register with it, and a client that speaks as the published SDK does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import worker_harness
from aiohttp import web
from on_loop import until
from pydantic import SecretStr

from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.registration import Pace, Registration
from comfystream_server.gateway.access import Access
from comfystream_server.gateway.app import GatewayOptions, gateway_key, make_gateway_app
from comfystream_server.gateway.stream import StreamOptions
from comfystream_server.rtc.ice import IceSettings

SECRET = "s3cret-of-the-orchestrator"
ALL_WAYS = {
    "enable_video_ingress": True,
    "enable_audio_ingress": True,
    "enable_video_egress": True,
    "enable_audio_egress": True,
    "enable_data_output": True,
}


def livepeer(document: Any) -> dict[str, str]:
    """The header that carries a job."""
    return {"Livepeer": base64.b64encode(json.dumps(document).encode()).decode()}


def start_job(capability: str = "test", **ways: bool) -> dict[str, str]:
    """As the SDK starts a stream."""
    parameters = json.dumps({**ALL_WAYS, **ways})
    job = {"request": "{}", "parameters": parameters, "capability": capability, "timeout_seconds": 120}
    return livepeer(job)


def update_job(stream: str, capability: str = "test") -> dict[str, str]:
    """As the SDK changes one."""
    request = json.dumps({"stream_id": stream})
    return livepeer({"request": request, "parameters": "{}", "capability": capability, "timeout_seconds": 5})


class Network:
    """A running gateway and a client of it."""

    def __init__(self, app: web.Application, session: aiohttp.ClientSession, port: int) -> None:
        self.app = app
        self.gateway = app[gateway_key]
        self.session = session
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def workers(self) -> Any:
        return self.gateway.orchestrator.workers

    @property
    def channels(self) -> list[str]:
        return self.gateway.orchestrator.trickle.names

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.session.request(method, path if "://" in path else self.url + path, **more) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text

    async def start(
        self, name: str = "show", capability: str = "test", params: Any = None, output: str = "", **ways: bool
    ) -> Any:
        """A stream: the reply to its start."""
        body = {"stream_name": name, "params": json.dumps(params or {}), "stream_id": "", "rtmp_output": output}
        status, reply = await self.call(
            "POST", "/process/stream/start", headers=start_job(capability, **ways), json=body
        )
        assert status == 200, reply
        return reply


@contextlib.asynccontextmanager
async def network(
    *,
    port: int = 0,
    keys: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    push_urls: tuple[str, ...] = (),
    **streams: Any,
) -> AsyncIterator[Network]:
    """A gateway; `streams` are `StreamOptions`."""
    options = GatewayOptions(
        Access(SECRET, keys, origins),
        IceSettings(has_loopback=True),
        StreamOptions(**streams),
        watch_s=0.1,
        beat_s=0.5,
        push_urls=push_urls,
    )
    app = make_gateway_app(options)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with aiohttp.ClientSession() as session:
            yield Network(app, session, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def worker(net: Network, processor: Any = None, name: str = "test", **options: Any) -> AsyncIterator[Any]:
    """A worker on a real socket that has registered."""
    async with worker_harness.serving(processor, capability_name=name, **options) as one:
        access = OrchestratorAccess(net.url, SecretStr(SECRET))
        capability = Capability(name, one.url, capacity=options.get("capacity", 1))
        registration = Registration(access, [capability], Pace(again_s=0.3, settle_s=0.2, retry_s=0.05))
        registration.begin(one.server.worker)
        try:
            await until(lambda: any(known.url == one.url for known in net.workers), "the registration")
            yield one
        finally:
            await registration.close()


class Events:
    """Collects what a stream's data URL says."""

    def __init__(self, net: Network, url: str, last: str = "") -> None:
        self.said: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.is_over = False
        self._task = asyncio.create_task(self._run(net, url, {"Last-Event-ID": last} if last else {}))

    async def _run(self, net: Network, url: str, headers: dict[str, str]) -> None:
        async with net.session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as response:
            assert response.status == 200, await response.text()
            self.headers = dict(response.headers)
            event: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    field, _, value = line.partition(": ")
                    event[field] = value
                elif "data" in event:
                    self.said.append((event.get("event", ""), json.loads(event["data"])))
                    event = {}
        self.is_over = True

    def data(self) -> list[Any]:
        return [item for name, items in self.said if not name for item in items]

    def named(self, name: str) -> list[Any]:
        return [body for event, body in self.said if event == name]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def listening(net: Network, url: str, last: str = "") -> AsyncIterator[Events]:
    """To the data of a stream, until the block ends."""
    events = Events(net, url, last)
    try:
        yield events
    finally:
        await events.close()
