"""What goes wrong in the field. After each: the state is right, nothing is left behind, a new start works at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from leak_check import nothing_is_left
from on_loop import on_loop, until
from worker_harness import Invert, Orchestrator, Worker, camera, listening, orchestrator, play, serving

from comfystream.trickle.writer import TrickleWriter


async def runs(worker: Worker, orch: Orchestrator, id: str) -> None:
    """A new stream works at once."""
    body = orch.stream(id)
    assert (await worker.call("POST", "/stream/start", body))[0] == 200
    async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
        await until(lambda: len(out.segments) >= 2, "output")
    assert (await worker.call("POST", "/stream/stop"))[0] == 200
    orch.end(id)


@on_loop
async def test_an_orchestrator_that_restarts_has_forgotten_the_stream() -> None:
    async with serving() as worker:
        async with orchestrator() as first:
            port = urlsplit(first.url).port or 0
            await runs(worker, first, "warm")
            async with nothing_is_left(worker):
                body = first.stream()
                await worker.call("POST", "/stream/start", body)
                async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
                    await until(lambda: out.segments, "output")
                    first.server.close_all()
        async with orchestrator(port) as second:
            await runs(worker, second, "again")


class Relay:
    """A wire that can be cut: everything to one port goes to another."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_in, there_out = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there_out]
        await asyncio.gather(_copy(reader, there_out), _copy(there_in, writer), return_exceptions=True)

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.slow
@on_loop
async def test_a_server_that_is_away_for_five_seconds_finds_the_stream_alive() -> None:
    async with orchestrator() as orch, serving() as worker:
        relay = Relay(urlsplit(orch.url).port or 0)
        await relay.mend()
        body = orch.stream()
        near = {name: _through(url, relay.port) for name, url in body.items()}
        await worker.call("POST", "/stream/start", near)
        async with (
            listening(body["publish_url"]) as out,
            listening(body["events_url"]) as heard,
            camera(body["subscribe_url"]),
        ):
            await until(lambda: len(out.segments) >= 2, "output")
            relay.cut()
            await asyncio.sleep(5)  # not waiting for a thing: the outage itself
            assert worker.server.worker.state == "RUNNING"
            seen, beats = len(out.segments), len(heard.events("heartbeat"))
            await relay.mend()
            await until(lambda: len(out.segments) > seen + 1, "output again")
            assert min(play(out.segments[-1]).luma) > 150
            await until(lambda: len(heard.events("heartbeat")) > beats, "events again")
            await worker.call("POST", "/stream/stop")
        relay.cut()
        await worker.until_idle()
        orch.end()
        await runs(worker, orch, "again")


def _through(value: Any, port: int) -> Any:
    if not isinstance(value, str) or not value.startswith("http"):
        return value
    return urlsplit(value)._replace(netloc=f"127.0.0.1:{port}").geturl()


@on_loop
async def test_garbage_and_a_publisher_that_dies_cost_only_their_segments() -> None:
    async with orchestrator(grace_s=0.2) as orch, serving() as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream()
            await worker.call("POST", "/stream/start", body)
            async with TrickleWriter(body["subscribe_url"], content_type="video/MP2T") as writer:
                await writer.send(os.urandom(40_000))
            await _dies_in_the_middle(body["subscribe_url"], 3)
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], start=None):
                await until(lambda: out.segments and min(play(out.segments[-1]).luma) > 150, "processed pictures")
            assert worker.server.worker.state == "RUNNING"
            await worker.call("POST", "/stream/stop")
            orch.end()
        await runs(worker, orch, "again")


async def _dies_in_the_middle(url: str, number: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"\x47" + os.urandom(187)
        raise OSError("the publisher dies")

    async with aiohttp.ClientSession() as session:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with session.post(f"{url}/{number}", data=body()):
                pass


@on_loop
async def test_a_flood_of_orders_ends_with_the_last_one() -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream()
            await worker.call("POST", "/stream/start", body)
            await orch.send_control(*({"strength": number} for number in range(300)))
            await until(lambda: processor.params[-1:] == [{"strength": 299}], "the last order")
            assert [*processor.params] == sorted(processor.params, key=lambda given: given["strength"])
            orch.end()
        await runs(worker, orch, "again")


@on_loop
async def test_stop_during_a_start_that_waits_for_loading() -> None:
    processor = Invert()
    processor.may_load.clear()
    async with orchestrator() as orch, serving(processor, is_ready=False) as worker:
        start = asyncio.create_task(worker.call("POST", "/stream/start", orch.stream()))
        await until(lambda: worker.server.worker.streams, "the start to wait")
        assert (await worker.call("POST", "/stream/stop"))[0] == 200
        assert (await start)[0] == 503
        processor.may_load.set()
        await worker.until_idle()
        await runs(worker, orch, "again")
    assert (processor.starts, processor.stops) == (1, 1)


@on_loop
async def test_stop_while_the_app_still_starts() -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        await runs(worker, orch, "warm")
        processor.may_start.clear()
        async with nothing_is_left(worker):
            assert (await worker.call("POST", "/stream/start", orch.stream()))[0] == 200
            await until(lambda: processor.starts == 2, "the app's start")
            assert (await worker.call("POST", "/stream/stop"))[0] == 200
            assert await worker.status() == "IDLE"
        processor.may_start.set()
        await runs(worker, orch, "again")


@on_loop
async def test_a_caller_that_hangs_up_aborts_its_start() -> None:
    processor = Invert()
    processor.may_load.clear()
    async with orchestrator() as orch, serving(processor, is_ready=False) as worker:
        body = orch.stream()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await worker.call("POST", "/stream/start", body)
        await until(lambda: not worker.server.worker.streams, "the place to be free")
        processor.may_load.set()
        await worker.until_idle()
        await runs(worker, orch, "again")


@pytest.mark.parametrize(
    ("policy", "least", "most"), [("hold", 180, 210), ("slate", 0, 50), ("passthrough", 50, 70), ("stop", 180, 210)]
)
@on_loop
async def test_an_app_that_fails_is_told_and_the_policy_decides(policy: str, least: int, most: int) -> None:
    class Broken(Invert):
        async def process_video_async(self, frame: Any) -> Any:
            if self.pictures >= 10:
                raise RuntimeError("out of memory")
            return await super().process_video_async(frame)

    async with orchestrator() as orch, serving(Broken(), on_error=policy) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with (
            listening(body["publish_url"]) as out,
            listening(body["events_url"]) as heard,
            camera(body["subscribe_url"], value=60),
        ):
            await until(lambda: heard.events("error"), "the error")
            if policy == "stop":
                await worker.until_idle()
            else:
                seen = len(out.segments)
                await until(lambda: len(out.segments) > seen + 1, "output")
                assert await worker.status() == "OK"
            assert least <= play(out.segments[-1]).luma[-1] <= most
        assert heard.events("error")[0]["message"] == "RuntimeError: out of memory"
        assert len(heard.events("error")) < 10, "once a second, not once a picture"


@on_loop
async def test_an_app_that_never_ends_its_stop_does_not_hold_the_place() -> None:
    class Stuck(Invert):
        async def on_stream_stop(self) -> None:
            if self.starts == 1:
                await asyncio.Event().wait()

    async with orchestrator() as orch, serving(Stuck()) as worker:
        await worker.call("POST", "/stream/start", orch.stream())
        assert (await worker.call("POST", "/stream/stop"))[0] == 200
        await worker.until_idle()
        await runs(worker, orch, "again")
