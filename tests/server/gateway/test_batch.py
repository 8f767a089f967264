"""Single requests: passed on, answered by whoever can, relayed as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from gateway_harness import SECRET, Network, livepeer, network
from on_loop import on_loop, until

JOB = livepeer({"request": "{}", "parameters": "{}", "capability": "gen-image", "timeout_seconds": 5})


class Maker:
    """A worker for single requests, as plain as they come."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.status = 200
        self.is_waiting = self.was_left = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.path, request.headers.get("Authorization", ""), body))
        if request.path.endswith("/wait"):
            self.is_waiting = True
            try:
                await asyncio.Event().wait()
            finally:
                self.was_left = True
        if request.path.endswith("story"):
            return await self.tell(request)
        if self.status != 200:
            return web.Response(status=self.status, text="the worker's words")
        headers = {"X-Metadata": '{"seed": 7}', "X-Secret": "stays here"}
        return web.Response(body=b"\x89PNG" + bytes(range(256)), content_type="image/png", headers=headers)

    async def tell(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in ("once", "upon"):
            await response.write(f"data: {word}\n\n".encode())
            await asyncio.sleep(0)
        if request.path.endswith("/long-story"):
            await asyncio.Event().wait()
        if request.path.endswith("/broken-story"):
            await response.write(b"data: a ti")
            assert request.transport is not None
            request.transport.abort()
        return response


@contextlib.asynccontextmanager
async def maker(net: Network) -> AsyncIterator[Maker]:
    """On the list."""
    one = Maker()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.port = runner.addresses[0][1]
    await register(net, one.url)
    try:
        yield one
    finally:
        await runner.cleanup()


async def register(net: Network, url: str, **more: Any) -> None:
    said = {"name": "gen-image", "url": url, "capacity": 2, "token": "t0ken", **more}
    assert (await net.call("POST", "/capability/register", json=said, headers={"Authorization": SECRET}))[0] == 200


@on_loop
async def test_a_picture_comes_back_with_its_metadata_and_nothing_else() -> None:
    async with network() as net, maker(net) as one:
        url = f"{net.url}/process/request/text-to-image?ignored=1"
        async with net.session.post(url, headers=JOB, json={"prompt": "a fox"}) as response:
            assert (response.status, response.content_type) == (200, "image/png")
            assert response.headers["X-Metadata"] == '{"seed": 7}'
            assert response.headers["X-Orchestrator-Url"] == net.url
            assert response.headers["Livepeer-Balance"] == "0"
            assert "X-Secret" not in response.headers
            assert await response.read() == b"\x89PNG" + bytes(range(256))
        assert one.asked == [("/api/text-to-image", "Bearer t0ken", b'{"prompt": "a fox"}')]
        assert [known.load for known in net.workers] == [0]


@on_loop
async def test_events_are_relayed_and_always_end_with_done() -> None:
    async with network() as net, maker(net):
        status, text = await net.call("POST", "/process/request/story", headers=JOB, json={})
        assert status == 200
        assert [line for line in text.splitlines() if line] == ["data: once", "data: upon", "data: [DONE]"]


@pytest.mark.parametrize(("how", "status", "code"), [("broken", 502, "worker_failed"), ("long", 504, "deadline")])
@on_loop
async def test_events_that_break_off_say_so_before_they_end(how: str, status: int, code: str) -> None:
    job = livepeer({"request": "{}", "parameters": "{}", "capability": "gen-image", "timeout_seconds": 1})
    async with network() as net, maker(net):
        given, text = await net.call("POST", f"/process/request/{how}-story", headers=job, json={})
        assert given == 200
        *_, before, last = [line for line in text.splitlines() if line]
        assert last == "data: [DONE]"
        said = json.loads(before.removeprefix("data: "))
        assert (said["type"], said["code"], said["error"]["code"]) == ("error", status, code)
        assert "the worker" in said["message"]


@on_loop
async def test_the_next_worker_is_asked_when_one_fails_and_4xx_is_the_clients_own() -> None:
    async with network() as net, maker(net) as first, maker(net) as second:
        first.status = 500
        for _ in range(3):
            async with net.session.post(f"{net.url}/process/request/make", headers=JOB, json={}) as response:
                assert response.status == 200
        assert len(first.asked) == 1  # for a while others come first
        assert len(second.asked) == 3
        second.status = 422
        assert await net.call("POST", "/process/request/make", headers=JOB, json={}) == (422, "the worker's words")
        second.status = 503
        status, reply = await net.call("POST", "/process/request/make", headers=JOB, json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "the worker's words" in reply["error"]["message"]


@on_loop
async def test_401_takes_a_worker_off_the_list_and_no_answer_until_it_is_back() -> None:
    async with network() as net, maker(net) as one:
        one.status = 401
        assert (await net.call("POST", "/process/request/make", headers=JOB, json={}))[0] == 503
        assert list(net.workers) == []
        await register(net, "http://127.0.0.1:9")
        status, reply = await net.call("POST", "/process/request/make", headers=JOB, json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")


@on_loop
async def test_a_client_that_leaves_ends_the_request_at_the_worker() -> None:
    async with network() as net, maker(net) as one:
        asking = asyncio.create_task(net.call("POST", "/process/request/wait", headers=JOB, json={}))
        await until(lambda: one.is_waiting, "the request")
        asking.cancel()
        await until(lambda: one.was_left, "the worker is let go")
        await until(lambda: [known.load for known in net.workers] == [0], "the place is free")


@on_loop
async def test_a_worker_that_takes_too_long_is_given_up() -> None:
    async with network() as net, maker(net) as one:
        job = livepeer({"capability": "gen-image", "timeout_seconds": 0.2})
        status, reply = await net.call("POST", "/process/request/wait", headers=job, json={})
        assert (status, reply["error"]["code"]) == (503, "no_worker")
        assert "no answer within 0.2 s" in reply["error"]["message"]
        await until(lambda: one.was_left, "the worker is let go")
