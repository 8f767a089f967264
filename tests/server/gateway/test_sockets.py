"""Web sockets through the proxy of live runners: what one side says, and how it ends, reaches the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from gateway_harness import SECRET, Network, network
from on_loop import on_loop, until
from pydantic import SecretStr
from worker_harness import Worker, serving

from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.live_runner import PERSISTENT, SINGLE_SHOT, LiveRunner
from comfystream_server.gateway import runners, sockets
from comfystream_server.gateway.app import runners_key

Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


class Runner:
    """A live runner with a web socket at /socket, and what came to pass there."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.requests: list[web.Request] = []
        self.ends: list[int | None] = []

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/socket", self._socket)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(protocols=("second",), max_msg_size=64 << 20)
        await socket.prepare(request)
        try:
            await self._serve(socket)
        finally:
            self.ends.append(socket.close_code)
        return socket


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"you said {message.data}")
        else:
            await socket.send_bytes(message.data[::-1])


class Joined:
    """A gateway with a runner, and a client of them."""

    def __init__(self, net: Network, worker: Worker, runner: Runner) -> None:
        self.net, self.worker, self.runner = net, worker, runner

    async def reserve(self) -> dict[str, Any]:
        (shown,) = (await self.net.call("GET", "/discovery"))[1][0]["runners"]
        status, session = await self.net.call("POST", shown["url"])
        assert status == 200, session
        return dict(session)

    async def open(self, session: dict[str, Any], **options: Any) -> aiohttp.ClientWebSocketResponse:
        return await self.net.session.ws_connect(session["app_url"] + "/socket?a=b", **options)


@contextlib.asynccontextmanager
async def joined(serve: Serve = echo, mode: str = PERSISTENT) -> AsyncIterator[Joined]:
    runner = Runner(serve)
    async with network() as net, serving(more_routes=runner.routes) as worker:
        access = OrchestratorAccess(net.url, SecretStr(SECRET))
        listed = LiveRunner(access, Capability("test", worker.url), mode=mode)
        listed.begin(worker.server.worker)
        try:
            await until(lambda: listed.beats, "a heartbeat")
            yield Joined(net, worker, runner)
        finally:
            await listed.close()


@on_loop
async def test_texts_and_bytes_go_both_ways_with_the_sessions_headers_and_the_runners_protocol() -> None:
    async with joined() as one:
        session = await one.reserve()
        async with await one.open(session, protocols=("first", "second"), headers={"X-Mine": "kept"}) as socket:
            assert socket.protocol == "second"
            await socket.send_str("grüße")
            assert await socket.receive_str() == "you said grüße"
            await socket.send_bytes(bytes(range(256)) * 4000)
            assert await socket.receive_bytes() == (bytes(range(256)) * 4000)[::-1]
        (request,) = one.runner.requests
        assert (request.query_string, request.headers["X-Mine"]) == ("a=b", "kept")
        assert request.headers["Livepeer-Session-Id"] == session["session_id"]
        assert len(request.headers.getall("Sec-WebSocket-Key")) == 1


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "bye"), (4321, "of my own"), (1013, "später" * 20)])
@on_loop
async def test_the_clients_close_code_reaches_the_runner(code: int, reason: str) -> None:
    async with joined() as one:
        socket = await one.open(await one.reserve())
        await socket.send_str("hello")
        await socket.receive_str()
        await socket.close(code=code, message=reason.encode()[:120])
        await until(lambda: one.runner.ends, "the runner's end")
        assert one.runner.ends == [code]


@on_loop
async def test_the_runners_last_words_and_close_code_reach_the_client() -> None:
    async def leave(socket: web.WebSocketResponse) -> None:
        for number in range(50):
            await socket.send_str(str(number))
        await socket.close(code=4000, message=b"enough")

    async with joined(leave) as one:
        socket = await one.open(await one.reserve(), autoclose=False)
        assert [await socket.receive_str() for _ in range(50)] == [str(number) for number in range(50)]
        last = await socket.receive()
        assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 4000, "enough")
        await socket.close()


@on_loop
async def test_a_client_that_hangs_up_is_gone_for_the_runner_too() -> None:
    async with joined() as one:
        socket = await one.open(await one.reserve())
        await socket.send_str("hello")
        await socket.receive_str()
        assert socket._response.connection is not None
        socket._response.connection.transport.abort()
        await until(lambda: one.runner.ends, "the runner's end")
        assert one.runner.ends == [1001]
        await socket.close()


@on_loop
async def test_a_client_that_is_silently_gone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_S", 0.4)
    async with joined() as one:
        session = await one.reserve()
        path = session["app_url"].removeprefix(one.net.url) + "/socket"
        reader, writer = await asyncio.open_connection("127.0.0.1", one.net.port)
        asks = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        key = f"{asks}\r\nSec-WebSocket-Key: {'A' * 22}=="
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        await until(lambda: one.runner.ends, "the runner's end")  # it reads nothing and answers no ping
        assert one.runner.ends == [1001]
        writer.close()


@on_loop
async def test_a_client_that_answers_pings_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_S", 0.8)
    async with joined() as one, await one.open(await one.reserve()) as socket:
        waiting = asyncio.create_task(socket.receive_str())
        done, _ = await asyncio.wait({waiting}, timeout=3)
        assert not done
        await socket.send_str("still here")
        assert await waiting == "you said still here"


@on_loop
async def test_a_runner_that_falls_over_is_told_to_the_client() -> None:
    async def fall(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()

    async with joined(fall) as one:
        socket = await one.open(await one.reserve(), autoclose=False)
        await socket.send_str("hello")
        last = await socket.receive(timeout=10)
        assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 1011, "the runner has gone")
        await socket.close()


@pytest.mark.parametrize("how", ["stopped", "gateway ends"])
@on_loop
async def test_a_session_that_ends_ends_its_sockets(how: str) -> None:
    async with joined() as one:
        session = await one.reserve()
        socket = await one.open(session, autoclose=False)
        if how == "stopped":
            assert (await one.net.call("POST", session["control_url"] + "/stop"))[0] == 204
        else:
            one.net.app[runners_key].close()
        last = await socket.receive(timeout=10)
        assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 1001, "the session has ended")
        await socket.close()
        await until(lambda: one.runner.ends, "the runner's end")
        assert one.runner.ends == [1001]


@pytest.mark.parametrize("towards", ["runner", "client"])
@on_loop
async def test_a_message_that_is_too_large_ends_it_with_the_reason(
    towards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MOST_MESSAGE", 10_000)

    async def talk(socket: web.WebSocketResponse) -> None:
        if towards == "client":
            await socket.send_bytes(bytes(20_000))
        await echo(socket)

    async with joined(talk) as one:
        socket = await one.open(await one.reserve(), autoclose=False)
        if towards == "runner":
            await socket.send_bytes(bytes(9_000))
            assert len(await socket.receive_bytes()) == 9_000
            await socket.send_bytes(bytes(20_000))
        last = await socket.receive(timeout=10)
        assert (last.type, last.data) == (WSMsgType.CLOSE, 1009)
        await socket.close()
        await until(lambda: one.runner.ends, "the runner's end")
        assert one.runner.ends == [1009]


@pytest.mark.parametrize("slow", ["client", "runner"])
@on_loop
async def test_who_does_not_read_slows_the_other_side_down_and_loses_nothing(slow: str) -> None:
    block, count = 1 << 18, 200
    sent, got = 0, []
    may_read = asyncio.Event()

    async def flood(socket: Any) -> None:
        nonlocal sent
        for number in range(count):
            await socket.send_bytes(number.to_bytes(2, "big") + bytes(block))
            sent += 1

    async def drink(socket: Any) -> None:
        await may_read.wait()
        while len(got) < count:
            got.append(int.from_bytes((await socket.receive_bytes())[:2], "big"))

    async with joined(flood if slow == "client" else drink) as one:
        socket = await one.open(await one.reserve())
        mine = asyncio.create_task((drink if slow == "client" else flood)(socket))
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.5)
        assert 0 < sent < count, "it is held back"
        may_read.set()
        await until(lambda: len(got) == count, "all of them")
        assert got == list(range(count))
        await mine
        await socket.close()


@on_loop
async def test_a_single_request_may_be_a_socket_and_its_session_lasts_as_long() -> None:
    async with joined(mode=SINGLE_SHOT) as one:
        (shown,) = (await one.net.call("GET", "/discovery"))[1][0]["runners"]
        async with one.net.session.ws_connect(shown["url"] + "/socket") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "you said hello"
            assert (await one.net.call("POST", shown["url"] + "/echo"))[0] == 503, "the only place is taken"
        (listed,) = one.net.app[runners_key]
        await until(lambda: not listed.sessions, "the place is free")


@on_loop
async def test_what_cannot_be_a_socket_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(url: str, **headers: str) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await one.net.session.ws_connect(url, headers=headers)
        return caught.value.status

    async with joined() as one:
        session = await one.reserve()
        assert await refused(session["app_url"] + "/nothing") == 404
        assert await refused(session["app_url"] + "/socket", Origin="https://elsewhere.example") == 403
        headers = {"Connection": "Upgrade", "Upgrade": "h2c"}
        status, said = await one.net.call("GET", session["app_url"] + "/socket", headers=headers)
        assert (status, said["error"]["code"]) == (501, "no_upgrade")
        monkeypatch.setattr(runners, "MOST_SOCKETS", 1)
        async with await one.open(session):
            assert await refused(session["app_url"] + "/socket") == 503
        await until(lambda: one.runner.ends, "the end of the first")
        async with await one.open(session) as socket:
            await socket.send_str("again")
            assert await socket.receive_str() == "you said again"
        await one.worker.server.close()
        assert await refused(session["app_url"] + "/socket") == 502
